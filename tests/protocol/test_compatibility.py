"""What peers in the field insist on, seen in every octet that two endpoints exchange."""

from collections.abc import Iterator

import msgspec
import pytest

from holdfast.core import seq
from holdfast.core.clock import SECOND
from holdfast.protocol.channel import MOST_IN_FLIGHT
from holdfast.protocol.effects import Address, Recovery, RecoveryPhase
from holdfast.protocol.session import Call
from holdfast.protocol.settings import ChannelSettings, FailoverSettings, Method
from holdfast.wire.avp import Avp
from holdfast.wire.codes import Msg
from holdfast.wire.dictionary import ENTRIES
from holdfast.wire.header import parse_control
from holdfast.wire.messages import SPECS
from protocol.pair import SECRET, Pair
from protocol.test_resync import sessions, silent_pair
from wire.test_dictionary import AVPS, MESSAGES

PLAIN = FailoverSettings(advertise=False, method=Method.AUTO)
RFC2661_MESSAGES = range(1, 17)
RFC2661_AVPS = range(40)
EVERY_MESSAGE = {
    Msg.SCCRQ,
    Msg.SCCRP,
    Msg.SCCCN,
    Msg.ICRQ,
    Msg.ICRP,
    Msg.ICCN,
    Msg.HELLO,
    Msg.CDN,
    Msg.STOPCCN,
}


def raw_avps(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Of each AVP of a control message: flags (M, H and the reserved bits), vendor, type."""
    at, end = 12, parse_control(data).end
    while at < end:
        head = int.from_bytes(data[at : at + 2], "big")
        yield (
            head >> 10,
            int.from_bytes(data[at + 2 : at + 4], "big"),
            int.from_bytes(data[at + 4 : at + 6], "big"),
        )
        assert head & 0x3FF >= 6
        at += head & 0x3FF
    assert at == end


def message_type(data: bytes) -> int:
    """0 for a ZLB."""
    return int.from_bytes(data[18:20], "big") if parse_control(data).end > 12 else 0


def a_whole_life(secret: bytes, failover: FailoverSettings) -> list[bytes]:
    """Every control message of a tunnel that is set up, used, restarted on both sides in turn, and ended."""
    pair = Pair(secret=secret, lns_failover=failover, lac_failover=failover)
    tunnel_id = pair.connect()
    pair.call(tunnel_id, 2)
    _, effects = pair.lac.endpoint.place_call(
        tunnel_id, Call(calling_number="0301234", called_number="99"), pair.now
    )
    pair.deliver(pair.lac, effects)
    pair.run(130)
    for side in (pair.lns, pair.lac):
        side.record_numbers()
        side.record_sessions()
        pair.crash(side)
        pair.restart(side)
        pair.run(20)
    victim = next(iter(sessions(pair.lac)))
    pair.deliver(pair.lac, pair.lac.endpoint.close_session(tunnel_id, victim, pair.now, text="bye"))
    pair.deliver(pair.lac, pair.lac.endpoint.close_tunnel(tunnel_id, pair.now, text="bye"))
    return [data for _, data in pair.log]


SECRETS = [b"", SECRET]


@pytest.mark.parametrize("secret", SECRETS, ids=["open", "secret"])
@pytest.mark.parametrize("failover", [PLAIN, FailoverSettings(method=Method.AUTO)], ids=["plain", "rfc4951"])
def test_the_M_bit_of_every_avp_sent_is_that_of_the_rfc(secret: bytes, failover: FailoverSettings) -> None:
    """accel-ppp drops a message silently whose known AVP has another M bit, or a reserved bit set."""
    seen: set[int] = set()
    for data in a_whole_life(secret, failover):
        for flags, vendor, kind in raw_avps(data):
            assert vendor == 0
            assert flags & 0x1F == 0, "hidden, or a reserved bit"
            mandatory = message_type(data) in RFC2661_MESSAGES if kind == 0 else AVPS[kind][0]
            assert flags >> 5 == mandatory, f"AVP {kind} of message {message_type(data)}"
            seen.add(kind)
    assert seen >= {0, 1, 2, 3, 4, 7, 8, 9, 10, 14, 15, 19, 21, 22, 24}
    assert ({11, 13} <= seen) == bool(secret)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if not e.vendor], ids=lambda e: e.name)
def test_the_dictionary_sends_what_rfc_2661_demands(entry: Avp[object]) -> None:
    """Of the base RFC's AVPs: optional ones are optional for every receiver, mandatory ones are in its table."""
    if entry.type in RFC2661_AVPS and entry.type not in (0, 36):
        assert entry.mandatory == AVPS[entry.type][0]
    elif entry.type not in (0, 36, 77, 79):
        assert not entry.mandatory, (
            "a novelty must be optional; these two go only to peers that offered AVP 76"
        )


@pytest.mark.parametrize("secret", SECRETS, ids=["open", "secret"])
def test_every_message_has_what_its_receiver_may_demand(secret: bytes) -> None:
    needs = {msg: mandatory for msg, mandatory, _ in MESSAGES.values()}
    needs[Msg.SCCRQ] |= {4, 10}
    needs[Msg.SCCRP] |= {4, 10}
    seen = set()
    for data in a_whole_life(secret, PLAIN):
        if kind := message_type(data):
            avps = [a for _, _, a in raw_avps(data)]
            assert avps[0] == 0, "Message Type comes first"
            assert len(avps) == len(set(avps))
            assert needs[Msg(kind)] <= set(avps)
            seen.add(Msg(kind))
    assert seen == EVERY_MESSAGE


@pytest.mark.parametrize("secret", SECRETS, ids=["open", "secret"])
def test_a_peer_that_did_not_offer_AVP_76_sees_nothing_that_rfc_2661_does_not_have(secret: bytes) -> None:
    """xl2tpd ends a tunnel for an FSQ, whatever its M bit."""
    for data in a_whole_life(secret, PLAIN):
        assert message_type(data) in {0, *RFC2661_MESSAGES}
        assert all(kind in RFC2661_AVPS for _, _, kind in raw_avps(data))


def test_we_may_offer_AVP_76_to_a_peer_that_ignores_it_and_send_nothing_else_of_rfc_4951() -> None:
    auto = FailoverSettings(method=Method.AUTO)
    pair = Pair(lns_failover=PLAIN, lac_failover=auto)
    pair.call(pair.connect(), 2)
    pair.lac.record_numbers()
    pair.crash(pair.lac)
    pair.restart(pair.lac)
    pair.run(30)
    assert len(sessions(pair.lac)) == 2
    novelties = [(message_type(d), flags >> 5) for _, d in pair.log for flags, _, k in raw_avps(d) if k > 39]
    assert novelties == [(Msg.SCCRQ, 0)]
    assert {message_type(d) for _, d in pair.log} <= {0, *RFC2661_MESSAGES}


def test_all_messages_of_the_base_rfc_have_a_specification() -> None:
    assert {m for m in SPECS if m in RFC2661_MESSAGES} == {m for m in Msg if m in RFC2661_MESSAGES}


@pytest.mark.parametrize("victim", ["lns", "lac"])
def test_the_Ns_of_a_zlb_is_exactly_the_next_one(victim: str) -> None:
    """xl2tpd and l2tpns look at a ZLB's Nr only if its Ns is the number that they expect next."""
    pair, tunnel_id = silent_pair()
    side = pair.lns if victim == "lns" else pair.lac
    pair.crash(side)
    pair.restart(side)
    pair.run(0)
    (tunnel,) = side.endpoint.ctx.established()
    following, zlbs = tunnel.channel.ns, 0
    pair.log.clear()
    pair.call(tunnel_id, 2)
    pair.run(200)
    pair.deliver(
        pair.lac, pair.lac.endpoint.close_session(tunnel_id, next(iter(sessions(pair.lac))), pair.now)
    )
    for name, data in pair.log:
        header = parse_control(data)
        if name == side.name:
            assert header.ns == following
            is_zlb = header.end == 12
            zlbs += is_zlb
            following = following if is_zlb else seq.succ(following)
    assert zlbs > 2


def test_a_probe_is_the_one_exception_and_asks_for_nothing_new() -> None:
    pair, _ = silent_pair()
    (lac,) = pair.lac.endpoint.ctx.established()
    pair.crash(pair.lns)
    pair.log.clear()
    pair.restart(pair.lns)
    pair.run(0)
    probe, answer, proof, acknowledgement = (data for _, data in pair.log)
    assert message_type(probe) == Msg.HELLO
    assert parse_control(probe).ns == seq.add(lac.channel.nr, -2), (
        "the peer has had it, and has had one more since"
    )
    assert message_type(answer) == 0
    answered = parse_control(answer)
    assert (answered.ns, seq.add(answered.nr, 1)) == (lac.channel.ns, lac.channel.nr)
    assert message_type(proof) == Msg.HELLO
    assert parse_control(proof).ns == answered.nr
    assert parse_control(acknowledgement).nr == lac.channel.nr


@pytest.mark.parametrize("window", [1, 4])
def test_a_narrow_window_is_kept_before_and_after_a_silent_restart(window: int) -> None:
    pair = Pair(lns_failover=PLAIN, lac_failover=PLAIN)
    settings = msgspec.structs.replace(pair.lns.settings, channel=ChannelSettings(receive_window=window))
    pair.lns.settings = settings
    pair.lns.start()
    tunnel_id = pair.connect()
    pair.call(tunnel_id, 3)
    pair.lac.record_numbers()
    pair.crash(pair.lac)
    pair.restart(pair.lac)
    pair.log.clear()
    pair.lose = lambda data, to: True
    for _ in range(20):
        _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
        pair.deliver(pair.lac, effects)
    assert len({parse_control(data).ns for _, data in pair.log}) <= window
    pair.lose = lambda data, to: False
    pair.run(30)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 23


def test_a_wide_window_does_not_keep_a_call_waiting_after_a_silent_restart() -> None:
    """The numbers of messages that the peer may have kept are used up, one a round trip: not as many as it would take."""
    pair = Pair(lns_failover=PLAIN, lac_failover=PLAIN)
    pair.lns.settings = msgspec.structs.replace(
        pair.lns.settings, channel=ChannelSettings(receive_window=32_768)
    )
    pair.lns.start()
    tunnel_id = pair.connect()
    pair.call(tunnel_id, 300)
    pair.lac.record_numbers()
    assert pair.lac.tunnels[tunnel_id].peer_window == 32_768
    pair.crash(pair.lac)
    pair.restart(pair.lac)
    pair.log.clear()
    _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
    pair.deliver(pair.lac, effects)
    pair.run(1)
    assert len(sessions(pair.lns)) == 301
    said = [message_type(data) for name, data in pair.log if name == "lac1"]
    assert said.count(Msg.HELLO) <= MOST_IN_FLIGHT + 2, "a probe, and one that tries the number out"


def test_a_peer_that_never_sends_hello_is_asked_by_us_and_keeps_its_tunnel_through_a_restart() -> None:
    pair = Pair(lns_failover=PLAIN, lac_failover=PLAIN)
    pair.lac.settings = msgspec.structs.replace(pair.lac.settings, hello_interval=0)
    pair.lac.start()
    pair.call(pair.connect(), 2)
    pair.run(3600)
    pair.lns.record_numbers()
    pair.crash(pair.lns)
    pair.run(5)
    pair.restart(pair.lns)
    pair.run(3600)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 2
    assert not [d for name, d in pair.log if name == "lac1" and message_type(d) == Msg.HELLO]
    assert [n.phase for n in pair.lns.news if isinstance(n, Recovery)][-1] is RecoveryPhase.SYNCHRONISED


def test_probes_come_soon_enough_for_a_peer_that_gives_up_after_seven_seconds() -> None:
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    pair.down.add("lac1")
    pair.log.clear()
    pair.down.clear()
    moments: list[float] = []
    start = pair.now

    def unheard(data: bytes, to: Address) -> bool:
        moments.append((pair.now - start) / SECOND)
        return True

    pair.lose = unheard
    pair.restart(pair.lns)
    pair.run(6.5)
    probes = [at for at, (name, _) in zip(moments, pair.log, strict=True) if name == "lns1"]
    assert probes == [0, 0.25, 0.5, 1, 2, 4, 6]
