"""Calls that were being set up when a process ended, in front of a peer that has no FSQ to find them with."""

import pytest

from holdfast.core.counters import Counter
from holdfast.protocol import pace
from holdfast.protocol.effects import Cause, SessionDown
from holdfast.protocol.session import Call
from holdfast.records.calls import none_before
from holdfast.wire.codes import Msg
from holdfast.wire.dictionary import ASSIGNED_SESSION_ID, CALL_SERIAL_NUMBER
from holdfast.wire.header import parse_control
from holdfast.wire.messages import Message, decode, encode
from protocol.pair import LAC_ADDRESS, LNS_ADDRESS, SECRET, Pair, Side
from protocol.test_resync import sessions, silent_pair


def cdns(pair: Pair, who: Side) -> list[tuple[int, Message]]:
    """The CDNs that a side has sent: the header's session id, and the message."""
    found = []
    for name, data in pair.log:
        header = parse_control(data)
        if name == who.name and header.end > 12 and (msg := decode(data[12:], SECRET)).type == Msg.CDN:
            found.append((header.session_id, msg))
    return found


def with_a_lost_call(victim: str) -> tuple[Pair, Side, Side, int]:
    """Both sides have a call that `victim` has no record of; it restarts. Returns the lost id there, too."""
    pair, tunnel_id = silent_pair()
    _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
    pair.deliver(pair.lac, effects)
    lost, other = (pair.lns, pair.lac) if victim == "lns" else (pair.lac, pair.lns)
    (orphan,) = sessions(lost) - {s.local_id for s in lost.sessions.values()}
    lost.record_numbers()
    pair.crash(lost)
    pair.run(1)
    other.news.clear()
    pair.log.clear()
    pair.restart(lost)
    pair.run(1)
    return pair, lost, other, orphan


def tunnel_of(side: Side) -> int:
    (tunnel,) = side.endpoint.ctx.established()
    return tunnel.local_id


@pytest.mark.parametrize("victim", ["lns", "lac"])
def test_a_ppp_frame_of_a_lost_call_ends_it_at_the_peer(victim: str) -> None:
    pair, lost, other, orphan = with_a_lost_call(victim)
    theirs = sessions(other) - {s.local_id for s in other.sessions.values()}
    assert len(sessions(other)) == 4
    source = other.address
    for _ in range(5):
        pair.deliver(lost, lost.endpoint.stray_frame(tunnel_of(lost), orphan, source, pair.now))
    ((header_id, cdn),) = cdns(pair, lost)
    assert header_id in theirs
    assert cdn.get(ASSIGNED_SESSION_ID) == orphan
    assert len(sessions(other)) == len(sessions(lost)) == 3
    assert [n.cause for n in other.news if isinstance(n, SessionDown)] == [Cause.PEER]
    assert lost.endpoint.ctx.counters[Counter.ORPHANS_ENDED] == 1


@pytest.mark.parametrize("victim", ["lns", "lac"])
def test_a_call_whose_id_at_the_peer_is_not_known_is_left_alone(victim: str) -> None:
    """A CDN with 0 in its header finds no call at l2tpns, and ends the whole tunnel at xl2tpd."""
    pair, lost, other, orphan = with_a_lost_call(victim)
    lost.endpoint.ctx.calls_before = none_before
    assert lost.endpoint.stray_frame(tunnel_of(lost), orphan, other.address, pair.now) == []
    assert len(sessions(other)) == 4


def test_a_session_that_has_taken_over_the_id_of_a_lost_call_is_left_alone() -> None:
    pair, lost, other, orphan = with_a_lost_call("lns")
    living = next(iter(lost.endpoint.ctx.established())).by_peer
    lost.endpoint.ctx.calls_before = lambda *ids: next(iter(living))
    assert lost.endpoint.stray_frame(tunnel_of(lost), orphan, other.address, pair.now) == []


def test_an_icrp_for_a_lost_call_is_answered_with_both_ids() -> None:
    pair, tunnel_id = silent_pair()
    pair.lose = lambda data, to: to == LAC_ADDRESS
    _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
    pair.deliver(pair.lac, effects)
    (orphan,) = sessions(pair.lac) - {s.local_id for s in pair.lac.sessions.values()}
    pair.crash(pair.lac)
    pair.lose = lambda data, to: False
    pair.restart(pair.lac)
    pair.run(20)
    ((header_id, cdn),) = cdns(pair, pair.lac)
    assert cdn.get(ASSIGNED_SESSION_ID) == orphan
    assert header_id not in (0, orphan)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 3


def test_an_iccn_for_a_lost_call_is_answered() -> None:
    pair, tunnel_id = silent_pair()
    lost_icrp_answers: list[bytes] = []

    def lose(data: bytes, to: object) -> bool:
        is_iccn = to == LNS_ADDRESS and len(data) > 12 and decode(data[12:], SECRET).type == Msg.ICCN
        if is_iccn:
            lost_icrp_answers.append(data)
        return is_iccn

    pair.lose = lose
    _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
    pair.deliver(pair.lac, effects)
    pair.lns.record_numbers()
    pair.crash(pair.lns)
    pair.lose = lambda data, to: False
    pair.restart(pair.lns)
    pair.run(20)
    assert lost_icrp_answers
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 3
    assert [n.cause for n in pair.lac.news if isinstance(n, SessionDown)] == [Cause.PEER]


def test_only_the_peer_can_name_a_lost_call_and_only_once_we_may_speak() -> None:
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    pair.down.add("lac1")
    pair.restart(pair.lns)
    lns, tunnel = pair.lns.endpoint, tunnel_of(pair.lns)
    lns.ctx.calls_before = lambda *ids: 4712
    assert lns.stray_frame(tunnel, 4711, LAC_ADDRESS, pair.now) == []
    pair.down.clear()
    pair.run(2)
    assert lns.stray_frame(tunnel, 4711, ("198.51.100.9", 1701), pair.now) == []
    assert lns.stray_frame(tunnel, 4711, ("192.0.2.2", 1702), pair.now) == []
    assert lns.stray_frame(tunnel, 0, LAC_ADDRESS, pair.now) == []
    assert lns.stray_frame(tunnel + 1, 4711, LAC_ADDRESS, pair.now) == []
    assert lns.stray_frame(tunnel, next(iter(sessions(pair.lns))), LAC_ADDRESS, pair.now) == []
    assert len(lns.stray_frame(tunnel, 4711, LAC_ADDRESS, pair.now)) == 2


def test_a_call_that_is_being_set_up_is_no_orphan() -> None:
    pair, tunnel_id = silent_pair()
    pair.crash(pair.lns)
    pair.restart(pair.lns)
    pair.run(1)
    pair.lose = lambda data, to: to == LAC_ADDRESS
    _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
    pair.deliver(pair.lac, effects)
    (fresh,) = sessions(pair.lns) - {s.local_id for s in pair.lns.sessions.values()}
    assert pair.lns.endpoint.stray_frame(tunnel_of(pair.lns), fresh, LAC_ADDRESS, pair.now) == []


def test_what_this_process_has_ended_is_no_orphan_and_what_was_ended_before_the_restart_may_be() -> None:
    pair, _ = silent_pair()
    old = next(iter(sessions(pair.lns)))
    pair.crash(pair.lns)
    pair.down.clear()
    records = list(pair.lns.tunnels.values()), list(pair.lns.sessions.values())
    pair.deliver(pair.lns, pair.lns.endpoint.restore(*records, pair.now, lambda *ids: 4712))
    (restored,) = pair.lns.endpoint.ctx.established()
    restored.ids.remember((4711,))
    pair.deliver(pair.lns, pair.lns.endpoint.recover(pair.now))
    pair.run(1)
    lns, tunnel = pair.lns.endpoint, tunnel_of(pair.lns)
    pair.deliver(pair.lns, lns.close_session(tunnel, old, pair.now))
    assert lns.stray_frame(tunnel, old, LAC_ADDRESS, pair.now) == []
    assert lns.stray_frame(tunnel, 4711, LAC_ADDRESS, pair.now) != []
    assert lns.stray_frame(tunnel, 4711, LAC_ADDRESS, pair.now) == []


def test_a_lost_id_is_not_given_out_again_soon() -> None:
    pair, lost, other, orphan = with_a_lost_call("lns")
    pair.deliver(lost, lost.endpoint.stray_frame(tunnel_of(lost), orphan, other.address, pair.now))
    (tunnel,) = lost.endpoint.ctx.established()
    assert orphan in tunnel.ids.recent


def test_forged_frames_cost_a_bounded_number_of_answers() -> None:
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    pair.restart(pair.lns)
    pair.run(1)
    pair.lns.endpoint.ctx.calls_before = lambda *ids: 4712
    tunnel = tunnel_of(pair.lns)
    for i in range(1, 5001):
        pair.lns.endpoint.stray_frame(tunnel, i, LAC_ADDRESS, pair.now)
    assert 0 < pair.lns.endpoint.ctx.counters[Counter.ORPHANS_ENDED] <= pace.ORPHANS_PER_TUNNEL
    assert len(sessions(pair.lns)) == 3


def test_without_a_silent_recovery_a_stray_frame_is_only_counted() -> None:
    pair = Pair()
    pair.call(pair.connect(), 1)
    pair.crash(pair.lns)
    pair.restart(pair.lns)
    pair.run(1)
    assert pair.lns.endpoint.stray_frame(tunnel_of(pair.lns), 4711, LAC_ADDRESS, pair.now) == []
    assert pair.lns.endpoint.ctx.counters[Counter.RX_UNKNOWN_SESSION] == 1


def test_F_69_a_session_id_that_the_peer_reuses_after_a_silent_recovery_ends_both() -> None:
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    pair.restart(pair.lns)
    pair.run(1)
    (lac_tunnel,) = pair.lac.endpoint.ctx.established()
    forgotten = next(iter(lac_tunnel.sessions.values()))
    reused, held = forgotten.local_id, forgotten.peer_id
    pair.log.clear()
    icrq = encode(Msg.ICRQ, ASSIGNED_SESSION_ID(reused), CALL_SERIAL_NUMBER(99))
    lac_tunnel.channel.send(0, icrq, pair.now)
    pair.lac.endpoint.ctx.flush(lac_tunnel)
    pair.deliver(pair.lac, pair.lac.endpoint.timer(pair.now))
    ((_, cdn),) = cdns(pair, pair.lns)
    assert cdn.get(ASSIGNED_SESSION_ID) == held
    assert held not in sessions(pair.lns)
    assert len(sessions(pair.lns)) == 2
