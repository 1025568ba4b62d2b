"""Silent resynchronisation: restarts in front of a peer that knows nothing of RFC 4951."""

from collections import Counter as TallyOf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import seq
from holdfast.core.clock import SECOND
from holdfast.protocol import pace, resync, silent
from holdfast.protocol.effects import (
    Address,
    Cause,
    Recovery,
    RecoveryPhase,
    SessionDown,
    SessionUp,
    TunnelDown,
)
from holdfast.protocol.session import Call
from holdfast.protocol.settings import Evidence, FailoverSettings, Method
from holdfast.wire.codes import Msg
from holdfast.wire.dictionary import ASSIGNED_SESSION_ID
from holdfast.wire.header import control_header, parse_control
from holdfast.wire.messages import decode, encode
from protocol.pair import LAC_ADDRESS, LNS_ADDRESS, SECRET, Pair, Side

NONE = FailoverSettings(advertise=False, method=Method.AUTO)
numbers = st.integers(0, 0xFFFF)


def silent_pair(sessions: int = 3) -> tuple[Pair, int]:
    """An LNS and a LAC with a tunnel and sessions; neither offers RFC 4951; the numbers are recorded."""
    pair = Pair(lns_failover=NONE, lac_failover=NONE)
    tunnel_id = pair.connect()
    pair.call(tunnel_id, sessions)
    pair.lns.record_numbers()
    pair.lac.record_numbers()
    pair.lns.news.clear()
    pair.lac.news.clear()
    return pair, tunnel_id


def phases(side: Side) -> list[RecoveryPhase]:
    return [n.phase for n in side.news if isinstance(n, Recovery)]


def sessions(side: Side) -> set[int]:
    return {s.local_id for t in side.endpoint.ctx.established() for s in t.sessions.values()}


@given(numbers, st.integers(0, 20_000))
def test_a_probe_is_never_new_to_the_peer(acked: int, lag: int) -> None:
    state = resync.begin(acked, 7, 0)
    peer_expects = seq.add(acked, lag)
    for _ in range(8 if 0 < acked <= 65_472 else resync.UNHEARD):
        header = parse_control(resync.probe(state, 5, 0))
        assert seq.is_duplicate(header.ns, seq.add(peer_expects, -1))
        assert header.nr == 7


@pytest.mark.parametrize("acked", [65_473, 65_535, 0])
def test_at_the_wrap_a_peer_that_hears_nothing_is_asked_with_0(acked: int) -> None:
    """xl2tpd takes only what is numerically lower than the number that it expects, which may be 3 by now."""
    state = resync.begin(acked, 7, 0)
    asked = [parse_control(resync.probe(state, 5, 0)).ns for _ in range(8)]
    assert asked[:5] == [seq.add(acked, -1)] * 5
    assert asked[5:] == [0, seq.add(acked, -1), 0]


@given(numbers, numbers, st.integers(1, 20_000))
def test_an_acknowledgement_of_the_past_proves_nothing(acked: int, nr: int, back: int) -> None:
    state = resync.begin(acked, nr, 0)
    verdict = resync.hear(state, nr, seq.add(acked, -back), nr, is_zlb=True, now=0)
    assert verdict is resync.Verdict.NOTHING
    assert state.phase is resync.Phase.PROBING


@pytest.mark.parametrize("who", ["lns", "lac", "both"])
def test_a_quiet_tunnel_is_in_step_at_once_and_the_peer_notices_nothing(who: str) -> None:
    pair, tunnel_id = silent_pair()
    killed = [pair.lns, pair.lac] if who == "both" else [getattr(pair, who)]
    before = sessions(pair.lns), sessions(pair.lac)
    for side in killed:
        pair.crash(side)
    pair.run(5)
    for side in killed:
        pair.restart(side)
    pair.run(1)
    assert (sessions(pair.lns), sessions(pair.lac)) == before
    if who != "both":
        assert phases(killed[0]) == [
            RecoveryPhase.STARTED,
            RecoveryPhase.CONFIRMED,
            RecoveryPhase.SYNCHRONISED,
        ]
        other = pair.lac if who == "lns" else pair.lns
        assert other.news == []
    pair.call(tunnel_id)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 4
    pair.run(300)
    assert len(sessions(pair.lns)) == 4


def test_a_late_answer_does_not_put_us_in_step() -> None:
    """The answer to a message of the former life names a number that the peer has had since."""
    pair, tunnel_id = silent_pair()
    (theirs,) = pair.lns.endpoint.ctx.established()
    late = control_header(tunnel_id, 0, theirs.channel.ns, theirs.channel.nr, 0)
    pair.crash(pair.lac)
    theirs.channel.nr = seq.add(
        theirs.channel.nr, 2
    )  # it acknowledged two more: their record was not written
    pair.down.add("lns1")
    pair.restart(pair.lac)
    pair.deliver(pair.lac, pair.lac.endpoint.datagram(late, LNS_ADDRESS, pair.now))
    assert RecoveryPhase.CONFIRMED not in phases(pair.lac)
    pair.down.clear()
    pair.run(2)
    assert phases(pair.lac)[-1] is RecoveryPhase.SYNCHRONISED
    pair.call(tunnel_id)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 4


def test_a_tunnel_whose_scccn_never_left_is_ended_and_may_be_opened_again() -> None:
    """It is recorded before its SCCCN is sent. The peer waits for that, and would take a HELLO in its place."""
    pair = Pair(lns_failover=NONE, lac_failover=NONE)
    assert pair.lac.peer is not None
    pair.lose = lambda data, to: to == LNS_ADDRESS and len(data) > 12 and decode(data[12:]).type == Msg.SCCCN
    pair.connect()
    pair.crash(pair.lac)
    pair.lose = lambda data, to: False
    pair.restart(pair.lac)
    pair.run(1)
    assert not pair.lac.tunnels
    assert [n.cause for n in pair.lac.news if isinstance(n, TunnelDown)] == [Cause.NOT_RECOVERABLE]
    pair.run(35)
    assert not pair.lns.endpoint.tunnels
    pair.call(pair.connect(), 2)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 2


def test_a_retransmission_counts_though_its_nr_is_that_of_its_first_time() -> None:
    """xl2tpd never renews an Nr. What it repeats is not acknowledged with what came later."""
    state = resync.begin(10, 7, 0)
    resync.hear(state, 9, 12, 7, is_zlb=True, now=0)
    resync.hear(state, 9, 13, 7, is_zlb=False, now=1)
    assert resync.hear(state, 8, 11, 7, is_zlb=False, now=2) is resync.Verdict.NOTHING
    assert resync.proved_nr(state, 7, early=9) == 8


def test_what_comes_in_its_turn_starts_the_wait_for_the_next_anew() -> None:
    """A peer that repeats only its oldest message (accel-ppp) repeats the next one after that."""
    state = resync.begin(10, 7, 0)
    resync.hear(state, 10, 10, 7, is_zlb=True, now=0)
    resync.hear(state, 7, 10, 7, is_zlb=False, now=15 * SECOND)
    assert state.settle_at == 15 * SECOND + resync.RETRANSMISSION_CAP
    assert not state.in_step
    resync.hear(state, 8, 10, 8, is_zlb=False, now=16 * SECOND)
    resync.hear(state, 9, 10, 9, is_zlb=False, now=17 * SECOND)
    assert state.in_step


def test_a_late_zlb_does_not_put_us_in_step() -> None:
    """The numbers lag behind, and a ZLB of before says that they do not. The peer has gone on since."""
    pair, tunnel_id = silent_pair()
    (tunnel,) = pair.lns.endpoint.ctx.established()
    late = control_header(tunnel.local_id, 0, tunnel.channel.nr, tunnel.channel.ns, 0)
    old = dict(pair.lns.tunnels)
    for _ in range(2):
        pair.deliver(pair.lac, pair.lac.endpoint.probe(tunnel_id, pair.now))
    pair.lns.tunnels = old
    pair.crash(pair.lns)
    pair.down.add("lac1")
    pair.restart(pair.lns)
    pair.deliver(pair.lns, pair.lns.endpoint.datagram(late, LAC_ADDRESS, pair.now))
    pair.down.clear()
    pair.run(2)
    assert phases(pair.lns)[-1] is RecoveryPhase.CONFIRMED
    pair.call(tunnel_id, 2)
    pair.run(30)
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 5


@pytest.mark.parametrize("lost", [(0,), (0, 1), (1,), (0, 2)])
def test_messages_of_the_former_life_that_the_peer_had_kept_take_nobodys_place(lost: tuple[int, ...]) -> None:
    """accel-ppp keeps what comes before its turn, and drops the message that has the number later."""
    pair, tunnel_id = silent_pair()
    (tunnel,) = pair.lac.endpoint.ctx.established()
    tunnel.channel.cwnd = 4
    gone = {seq.add(tunnel.channel.ns, n) for n in lost}
    pair.lose = lambda data, to: to == LNS_ADDRESS and len(data) > 12 and parse_control(data).ns in gone
    pair.down.add("lac1")  # what the peer says is not heard any more
    for _ in range(4):
        _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
        pair.deliver(pair.lac, effects)
    pair.crash(pair.lac)
    pair.lose = lambda data, to: False
    pair.restart(pair.lac)
    pair.run(20)
    assert phases(pair.lac)[-1] is RecoveryPhase.SYNCHRONISED
    pair.call(tunnel_id, 3)
    pair.run(40)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 6


def test_nothing_but_probes_is_sent_before_the_peer_is_heard() -> None:
    pair, tunnel_id = silent_pair()
    pair.crash(pair.lac)
    pair.down.add("lns1")
    pair.log.clear()
    pair.restart(pair.lac)
    _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
    pair.deliver(pair.lac, effects)
    pair.run(10)
    messages = [decode(data[12:]).type for name, data in pair.log if name == "lac1"]
    assert len(messages) > 3
    assert set(messages) == {Msg.HELLO}
    pair.down.clear()
    pair.run(3)
    assert len(sessions(pair.lns)) == 4


def test_a_cdn_sent_during_the_outage_is_obeyed() -> None:
    pair, _ = silent_pair()
    victim = next(iter(sessions(pair.lns)))
    pair.crash(pair.lac)
    (tunnel,) = pair.lns.endpoint.ctx.established()
    pair.deliver(pair.lns, pair.lns.endpoint.close_session(tunnel.local_id, victim, pair.now))
    pair.run(5)
    pair.restart(pair.lac)
    pair.run(20)
    downs = [n for n in pair.lac.news if isinstance(n, SessionDown)]
    assert [d.cause for d in downs] == [Cause.PEER]
    assert len(sessions(pair.lac)) == len(sessions(pair.lns)) == 2
    assert phases(pair.lac)[-1] is RecoveryPhase.SYNCHRONISED


def test_an_icrq_sent_during_the_outage_succeeds() -> None:
    pair, tunnel_id = silent_pair()
    pair.crash(pair.lns)
    _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
    pair.deliver(pair.lac, effects)
    pair.run(5)
    pair.restart(pair.lns)
    pair.run(20)
    assert [n for n in pair.lns.news if isinstance(n, SessionUp)]
    assert len(sessions(pair.lac)) == len(sessions(pair.lns)) == 4


def test_a_hello_sent_during_the_outage_is_acknowledged() -> None:
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    pair.run(62)
    (tunnel,) = pair.lac.endpoint.ctx.established()
    assert not tunnel.channel.idle
    pair.restart(pair.lns)
    pair.run(20)
    assert tunnel.channel.idle
    assert len(sessions(pair.lac)) == 3


def test_a_stopccn_sent_during_the_outage_ends_the_tunnel() -> None:
    pair, tunnel_id = silent_pair()
    pair.crash(pair.lns)
    pair.deliver(pair.lac, pair.lac.endpoint.close_tunnel(tunnel_id, pair.now))
    pair.run(5)
    pair.restart(pair.lns)
    pair.run(20)
    assert sessions(pair.lns) == set()
    assert [n.cause for n in pair.lns.news if isinstance(n, TunnelDown)] == [Cause.PEER]


def test_what_was_not_received_is_not_acknowledged() -> None:
    pair, tunnel_id = silent_pair()
    pair.crash(pair.lns)
    for _ in range(3):
        _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
        pair.deliver(pair.lac, effects)
    pair.run(5)
    heard: set[int] = set()
    recorded = next(iter(pair.lns.tunnels.values())).nr
    pair.log.clear()
    pair.restart(pair.lns)
    for _ in range(40):
        pair.run(0.5)
    expected = recorded
    for name, data in pair.log:
        header = parse_control(data)
        if name == "lac1" and header.end > 12:
            heard.add(header.ns)
            while expected in heard:
                expected = seq.succ(expected)
        elif name == "lns1" and header.tunnel_id:
            assert not seq.before(expected, header.nr), "acknowledged before it came"
    assert len(sessions(pair.lns)) == 6


def test_of_several_messages_only_that_is_acknowledged_unseen_which_never_came() -> None:
    """The peer repeats its oldest message alone, and the next one once that is acknowledged."""
    pair, tunnel_id = silent_pair()
    pair.crash(pair.lns)
    (tunnel,) = pair.lac.endpoint.ctx.established()
    tunnel.channel.cwnd = 4
    first = tunnel.channel.ns
    for _ in range(3):
        _, effects = pair.lac.endpoint.place_call(tunnel_id, Call(), pair.now)
        pair.deliver(pair.lac, effects)
    pair.lose = lambda data, to: (
        to == LNS_ADDRESS and len(data) > 12 and bool(data[0] & 0x80) and parse_control(data).ns == first
    )
    pair.run(2)
    pair.restart(pair.lns, away_s=2)
    pair.run(25)
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED
    assert len(sessions(pair.lns)) == 5
    assert seq.before(first, tunnel.channel.acked)


def test_what_is_unseen_is_acknowledged_one_by_one_as_long_as_the_peer_has_patience() -> None:
    state = resync.begin(10, 7, 0, gone_at=-10 * SECOND)
    resync.hear(state, 10, 10, 7, is_zlb=True, now=0)
    assert resync.settle(state, 7, None, 16, now=16 * SECOND) == 8
    assert (state.in_step, state.settle_at) == (False, 20 * SECOND)
    assert resync.settle(state, 8, None, 16, now=20 * SECOND) == 10
    assert state.in_step


def test_more_than_a_window_is_not_waited_for() -> None:
    """The peer cannot have had more under way: our numbers lag behind."""
    state = resync.begin(10, 7, 0, gone_at=0)
    resync.hear(state, 107, 10, 7, is_zlb=True, now=0)
    assert resync.settle(state, 7, None, 16, now=16 * SECOND) == 91


def test_numbers_that_lag_behind_are_put_right_by_the_peers_silence() -> None:
    pair, tunnel_id = silent_pair()
    old = dict(pair.lns.tunnels)
    pair.call(tunnel_id, 4)
    pair.lns.tunnels = old  # the last second of numbers was lost with the process
    pair.crash(pair.lns)
    pair.restart(pair.lns)
    pair.run(1)
    assert phases(pair.lns) == [RecoveryPhase.STARTED, RecoveryPhase.CONFIRMED]
    pair.run(17)
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED
    pair.call(tunnel_id)
    pair.run(40)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 8


def test_past_the_wrap_of_the_sequence_numbers() -> None:
    pair, _ = silent_pair()
    for side in (pair.lns, pair.lac):
        (tunnel,) = side.endpoint.ctx.established()
        tunnel.channel.resume(65_534)
        tunnel.channel.nr = 65_534
        side.endpoint.ctx.flush(tunnel)
        side.record_numbers()
    pair.run(200)
    pair.crash(pair.lns)
    pair.restart(pair.lns)
    pair.run(20)
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED
    pair.run(300)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 3


def test_a_peer_that_is_gone_is_given_up_with_the_reason() -> None:
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    pair.down.add("lac1")
    pair.restart(pair.lns)
    pair.run(40)
    assert sessions(pair.lns) == set()
    failed = [n for n in pair.lns.news if isinstance(n, Recovery) and n.phase is RecoveryPhase.FAILED]
    assert [f.text for f in failed] == ["no answer to any probe"]


def test_auto_falls_back_when_a_capable_peer_does_not_answer() -> None:
    auto = FailoverSettings(method=Method.AUTO)
    pair = Pair(lns_failover=auto, lac_failover=auto)
    pair.call(pair.connect(), 3)
    pair.lns.record_numbers()
    pair.lns.news.clear()
    pair.crash(pair.lns)
    pair.lose = lambda data, to: data[4:6] == b"\0\0"  # no SCCRQ ever arrives
    pair.restart(pair.lns)
    pair.run(3.5)
    assert phases(pair.lns) == [
        RecoveryPhase.STARTED,
        RecoveryPhase.FELL_BACK,
        RecoveryPhase.STARTED,
        RecoveryPhase.CONFIRMED,
        RecoveryPhase.SYNCHRONISED,
    ]
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 3


def test_a_recovery_tunnel_that_is_given_up_is_called_off_first() -> None:
    """Only its answer was lost: a peer that obeys RFC 4951 3.2.1 to the letter is deaf until it hears of the end."""
    auto = FailoverSettings(method=Method.AUTO)
    strict = FailoverSettings(method=Method.AUTO, strict_discard=True)
    pair = Pair(lns_failover=auto, lac_failover=strict)
    pair.call(pair.connect(), 3)
    pair.lns.record_numbers()
    pair.crash(pair.lns)
    pair.log.clear()
    (old,) = pair.lns.tunnels.values()
    pair.lose = lambda data, to: to == LNS_ADDRESS and data[4:6] != old.local_id.to_bytes(2, "big")
    pair.restart(pair.lns)
    pair.run(2.9)
    assert all(tunnel.pending_recovery_id for tunnel in pair.lac.endpoint.ctx.established())
    pair.run(0.2)
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED
    ours = [data for name, data in pair.log if name == "lns1"]
    kinds = [decode(data[12:], SECRET).type for data in ours if len(data) > 12]
    assert kinds.index(Msg.STOPCCN) < kinds.index(Msg.HELLO)
    pair.lose = lambda data, to: False
    pair.run(60)
    for side in (pair.lns, pair.lac):
        assert len(sessions(side)) == 3
        assert not side.endpoint.ctx.recovery_tunnels
        assert [tunnel.is_recovery for tunnel in side.endpoint.tunnels.values()] == [False]


def test_a_refusal_is_acknowledged_as_often_as_it_comes() -> None:
    pair = capable_pair()
    for tunnel in pair.lac.endpoint.ctx.established():
        tunnel.secret = b""  # it does not want to hear of it any more
    pair.restart(pair.lns)
    pair.run(1)
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED
    (refusal,) = (
        data
        for name, data in pair.log
        if name == "lac1" and data[12:] and decode(data[12:]).type == Msg.STOPCCN
    )
    for _ in range(2):
        again = pair.lns.take(pair.lns.endpoint.datagram(refusal, LAC_ADDRESS, pair.now))
        assert [len(data) for data, _ in again] == [12]
    pair.run(40)
    assert len(pair.lns.endpoint.tunnels) == 1


def test_rfc4951_alone_never_falls_back() -> None:
    pair = Pair()
    pair.call(pair.connect(), 3)
    pair.crash(pair.lns)
    pair.lose = lambda data, to: data[4:6] == b"\0\0"
    pair.restart(pair.lns)
    pair.run(35)
    assert RecoveryPhase.FELL_BACK not in phases(pair.lns)
    assert sessions(pair.lns) == set()


def test_off_recovers_nothing() -> None:
    pair = Pair(lns_failover=FailoverSettings(method=Method.OFF))
    pair.call(pair.connect(), 3)
    pair.crash(pair.lns)
    pair.restart(pair.lns)
    assert sessions(pair.lns) == set()
    assert pair.now > SECOND


def test_a_peer_that_recovers_by_rfc_4951_ends_our_silent_resynchronisation() -> None:
    """Met by the simulator (nodes, seed 123): both ends had failed, and ours had fallen back meanwhile."""
    auto = FailoverSettings(method=Method.AUTO)
    pair = Pair(lns_failover=auto, lac_failover=auto)
    pair.call(pair.connect(), 3)
    pair.crash(pair.lns)
    pair.crash(pair.lac)
    pair.restart(pair.lns)
    pair.run(4)
    assert RecoveryPhase.FELL_BACK in phases(pair.lns)
    pair.restart(pair.lac)
    pair.run(2)
    (tunnel,) = pair.lns.endpoint.ctx.established()
    assert tunnel.resync is None
    assert tunnel.sync is None
    assert phases(pair.lac)[-1] is RecoveryPhase.SYNCHRONISED
    pair.run(300)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 3


def test_a_capable_peer_that_answers_no_probe_is_asked_by_rfc_4951_once_more() -> None:
    auto = FailoverSettings(method=Method.AUTO)
    pair = Pair(lns_failover=auto, lac_failover=auto)
    pair.call(pair.connect(), 3)
    pair.crash(pair.lns)
    pair.down.add("lac1")  # alive, but unreachable for a while
    pair.restart(pair.lns)
    pair.run(20)
    pair.down.clear()
    pair.run(15)
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED
    assert RecoveryPhase.FELL_BACK in phases(pair.lns)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 3


AUTO = FailoverSettings(method=Method.AUTO)
FAILS = Evidence(rfc4951_fails=True)


def capable_pair(failover: FailoverSettings = AUTO) -> Pair:
    """Both sides offer RFC 4951; the LNS has been killed."""
    pair = Pair(lns_failover=failover, lac_failover=failover)
    pair.call(pair.connect(), 3)
    pair.lns.record_numbers()
    pair.lns.news.clear()
    pair.crash(pair.lns)
    pair.log.clear()
    return pair


def test_experience_that_rfc_4951_fails_makes_silent_resynchronisation_the_first() -> None:
    pair = capable_pair()
    pair.restart(pair.lns, evidence=FAILS)
    pair.run(1)
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED
    assert not any(data[4:6] == b"\0\0" for _, data in pair.log)  # no SCCRQ
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 3


@pytest.mark.parametrize("method", [Method.RFC4951, Method.SILENT, Method.OFF])
def test_experience_never_overrules_the_configuration(method: Method) -> None:
    pair = capable_pair(FailoverSettings(method=method))
    pair.restart(pair.lns, evidence=FAILS)
    pair.run(1)
    recoveries = [news for news in pair.lns.news if isinstance(news, Recovery)]
    assert {news.role for news in recoveries} == {
        "silent" if method is Method.SILENT else "recovery-endpoint"
    }


def test_where_experience_was_wrong_rfc_4951_is_left() -> None:
    pair = capable_pair()
    pair.lose = lambda data, to: (
        data[4:6] != b"\0\0" and to == ("192.0.2.2", 1701) and pair.now < 1_012 * SECOND
    )
    pair.restart(pair.lns, evidence=FAILS)
    pair.run(20)
    roles = [(n.role, n.phase) for n in pair.lns.news if isinstance(n, Recovery)]
    assert roles[:2] == [("silent", RecoveryPhase.STARTED), ("silent", RecoveryPhase.FELL_BACK)]
    assert roles[-1] == ("recovery-endpoint", RecoveryPhase.SYNCHRONISED)
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 3


@pytest.mark.parametrize(("patience_s", "given_up_s"), [(0, 31), (5, 31), (45, 45)])
def test_patience_may_be_longer_than_the_least_patient_routers_and_never_shorter(
    patience_s: int, given_up_s: int
) -> None:
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    pair.down.add("lac1")
    pair.restart(pair.lns, evidence=Evidence(patience=patience_s * SECOND))
    pair.run(given_up_s - 0.5)
    assert len(sessions(pair.lns)) == 3
    pair.run(1)
    assert sessions(pair.lns) == set()


def test_what_the_first_tunnels_have_taught_counts_for_those_that_wait() -> None:
    failover = FailoverSettings(method=Method.AUTO, parallel=2)
    pair = Pair(lns_failover=failover, lac_failover=failover)
    for _ in range(9):
        pair.call(pair.connect())
    pair.lns.record_numbers()
    pair.crash(pair.lns)
    pair.lose = lambda data, to: data[4:6] == b"\0\0"
    pair.lns.news.clear()
    pair.restart(pair.lns)
    pair.run(6.5)
    recoveries = [news for news in pair.lns.news if isinstance(news, Recovery)]
    reasons = [news.text for news in recoveries if news.phase is RecoveryPhase.FELL_BACK]
    assert reasons == ["no answer to the SCCRQ"] * 4 + ["it has failed for other tunnels of this peer"] * 5
    assert sum(news.phase is RecoveryPhase.SYNCHRONISED for news in recoveries) == 9
    assert len(sessions(pair.lns)) == 9
    assert not pair.lns.endpoint.ctx.fell_back


def test_a_tunnel_that_rfc_4951_recovers_lets_the_others_try() -> None:
    failover = FailoverSettings(method=Method.AUTO, parallel=3)
    pair = Pair(lns_failover=failover, lac_failover=failover)
    for _ in range(9):
        pair.call(pair.connect())
    pair.lns.record_numbers()
    pair.crash(pair.lns)
    dropped = iter([True] * 5)
    pair.lose = lambda data, to: (
        data[4:6] == b"\0\0" and next(dropped, False)
    )  # two of three SCCRQs, twice each
    pair.lns.news.clear()
    pair.restart(pair.lns)
    pair.run(10)
    recoveries = [news for news in pair.lns.news if isinstance(news, Recovery)]
    assert sum(news.phase is RecoveryPhase.FELL_BACK for news in recoveries) == 2
    assert len(sessions(pair.lns)) == 9


def test_a_tunnel_that_is_cleared_while_it_probes_is_over() -> None:
    """Met by the simulator (nodes, seed 9223): it began to recover again after its end. Its peer is never heard."""
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    pair.down.add("lac1")
    pair.restart(pair.lns)
    (tunnel,) = pair.lns.endpoint.ctx.established()
    pair.deliver(pair.lns, pair.lns.endpoint.close_tunnel(tunnel.local_id, pair.now))
    pair.run(100)
    assert phases(pair.lns) == [RecoveryPhase.STARTED, RecoveryPhase.FAILED]
    assert not pair.lns.endpoint.tunnels
    assert not pair.lns.tunnels


def test_the_recoveries_of_many_tunnels_are_paced() -> None:
    pair = Pair(lns_failover=NONE, lac_failover=NONE)
    for _ in range(100):
        pair.connect()
    pair.lns.record_numbers()
    pair.crash(pair.lns)
    begun: TallyOf[int] = TallyOf()

    def count(data: bytes, to: Address) -> bool:
        begun[pair.now // pace.TICK] += to == LAC_ADDRESS and len(data) > 12
        return False

    pair.lose = count
    pair.lns.news.clear()
    started = pair.now
    pair.restart(pair.lns)
    pair.run(0)
    assert begun.total() == 2 * pace.PROBES_PER_TICK  # a probe, and the HELLO that proves its answer
    pair.run(1)
    recovered = phases(pair.lns).count(RecoveryPhase.CONFIRMED)
    assert 2 * recovered == begun.total() == 200
    assert max(begun.values()) == 2 * pace.PROBES_PER_TICK
    assert max(begun) - started // pace.TICK < 100 // pace.PROBES_PER_TICK


def test_a_tunnel_that_waits_for_its_turn_is_recovered_by_whatever_its_peer_says() -> None:
    pair = Pair(lns_failover=NONE, lac_failover=NONE)
    tunnels = [pair.connect() for _ in range(pace.PROBES_PER_TICK + 1)]
    pair.lns.record_numbers()
    pair.crash(pair.lns)
    pair.lns.news.clear()
    pair.restart(pair.lns)
    pair.run(0)
    assert phases(pair.lns).count(RecoveryPhase.CONFIRMED) == pace.PROBES_PER_TICK
    for tunnel_id in tunnels:
        pair.deliver(pair.lac, pair.lac.endpoint.probe(tunnel_id, pair.now))
    assert phases(pair.lns).count(RecoveryPhase.CONFIRMED) == pace.PROBES_PER_TICK + 1


@pytest.mark.parametrize("over_s", [0, 6])
@pytest.mark.parametrize("away_s", [16, 20, 24, 27, 28])
def test_what_the_peer_will_not_repeat_is_acknowledged_before_it_gives_up(away_s: int, over_s: int) -> None:
    """A HELLO sent when the outage began: its last retransmission was 15 s later, its sender gives up after 31 s. The
    outage is overestimated.
    """
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    (tunnel,) = pair.lac.endpoint.ctx.established()
    pair.deliver(pair.lac, pair.lac.endpoint.probe(tunnel.local_id, pair.now))
    pair.run(away_s)
    pair.restart(pair.lns, away_s + over_s)
    pair.run(60)
    assert tunnel.channel.idle
    assert len(sessions(pair.lns)) == len(sessions(pair.lac)) == 3
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED


@pytest.mark.parametrize(
    ("away_s", "wait_s"), [(None, 16), (1, 16), (14, 16), (17, 13), (24, 6), (29, 2), (35, 2), (40, 9)]
)
def test_a_retransmission_is_awaited_as_long_as_the_peers_patience_allows(
    away_s: int | None, wait_s: int
) -> None:
    now = 100 * SECOND
    gone_at = None if away_s is None else now - away_s * SECOND
    state = resync.begin(10, 7, now, gone_at=gone_at)
    assert resync.hear(state, 9, 10, 7, is_zlb=True, now=now) is resync.Verdict.TRY
    assert state.settle_at == now + wait_s * SECOND


def acknowledged_unseen(how: str) -> tuple[Pair, bytes]:
    """The LAC has ended a session, or the tunnel, while the LNS was away for long; that came too late to count."""
    pair, tunnel_id = silent_pair()
    pair.crash(pair.lns)
    victim = next(iter(sessions(pair.lac)))
    ending = pair.lac.endpoint
    effects = (
        ending.close_session(tunnel_id, victim, pair.now)
        if how == "CDN"
        else ending.close_tunnel(tunnel_id, pair.now)
    )
    pair.deliver(pair.lac, effects)
    late = next(data for name, data in reversed(pair.log) if name == "lac1")
    pair.run(20)
    pair.restart(pair.lns, 20)
    pair.run(11)
    assert len(sessions(pair.lns)) == 3
    assert phases(pair.lns)[-1] is RecoveryPhase.SYNCHRONISED
    return pair, late


@pytest.mark.parametrize("how", ["CDN", "StopCCN"])
def test_what_ends_something_counts_though_it_comes_after_it_was_acknowledged_unseen(how: str) -> None:
    pair, late = acknowledged_unseen(how)
    for _ in range(2):
        pair.deliver(pair.lns, pair.lns.endpoint.datagram(late, LAC_ADDRESS, pair.now))
    downs = [n for n in pair.lns.news if isinstance(n, SessionDown)]
    assert [d.cause for d in downs] == ([Cause.PEER] if how == "CDN" else [Cause.TUNNEL] * 3)


@pytest.mark.parametrize("how", ["CDN", "StopCCN"])
def test_it_counts_only_with_both_ids(how: str) -> None:
    pair, late = acknowledged_unseen(how)
    ((tunnel,), lac_id) = pair.lns.endpoint.ctx.established(), parse_control(late).tunnel_id
    their_id = encode_id(tunnel.peer_id if how == "StopCCN" else session_named(late))
    assert lac_id == tunnel.local_id
    other = late[:12] + late[12:].replace(their_id, b"\0\7")
    pair.deliver(pair.lns, pair.lns.endpoint.datagram(other, LAC_ADDRESS, pair.now))
    assert len(sessions(pair.lns)) == 3


def test_it_counts_no_longer_than_any_peer_repeats_it() -> None:
    pair, late = acknowledged_unseen("CDN")
    pair.run(90)
    pair.deliver(pair.lns, pair.lns.endpoint.datagram(late, LAC_ADDRESS, pair.now))
    assert len(sessions(pair.lns)) == 3


def test_a_tunnel_that_is_cleared_before_its_peer_is_heard_ends_when_its_numbers_are_known() -> None:
    pair, _ = silent_pair()
    pair.crash(pair.lns)
    pair.run(5)
    pair.down.add("lac1")
    pair.restart(pair.lns, 5)
    pair.deliver(pair.lns, pair.lns.endpoint.close_tunnel(tunnel_id_of(pair.lns), pair.now, text="by hand"))
    pair.run(1)
    pair.down.clear()
    pair.run(10)
    (down,) = (n for n in pair.lns.news if isinstance(n, TunnelDown))
    assert (down.cause, down.text) == (Cause.LOCAL, "by hand")
    (told,) = (n for n in pair.lac.news if isinstance(n, TunnelDown))
    assert (told.cause, told.text) == (Cause.PEER, "by hand")


def tunnel_id_of(side: Side) -> int:
    (tunnel,) = side.endpoint.ctx.established()
    return tunnel.local_id


def end_all_but(pair: Pair, left: int) -> None:
    """As for want of an answer to an echo."""
    for session_id in list(sessions(pair.lns))[left:]:
        (tunnel,) = pair.lns.endpoint.ctx.established()
        pair.deliver(pair.lns, pair.lns.endpoint.close_session(tunnel.local_id, session_id, pair.now))


def test_a_tunnel_whose_end_may_have_been_missed_ends_with_its_last_session() -> None:
    pair, _ = acknowledged_unseen("CDN")
    end_all_but(pair, 1)
    assert len(pair.lns.endpoint.ctx.established()) == 1
    end_all_but(pair, 0)
    assert not pair.lns.endpoint.ctx.established()
    (down,) = (n for n in pair.lns.news if isinstance(n, TunnelDown))
    assert (down.cause, down.text) == (Cause.RECOVERY_FAILED, silent.NOTHING_LEFT)
    assert not pair.lac.endpoint.ctx.established(), "it was told"


def test_it_stays_if_the_peer_has_spoken_of_a_call_since() -> None:
    pair, _ = acknowledged_unseen("CDN")
    (tunnel,) = pair.lac.endpoint.ctx.established()
    pair.call(tunnel.local_id, 1)
    end_all_but(pair, 0)
    pair.run(90)
    assert len(pair.lns.endpoint.ctx.established()) == 1


def test_it_ends_at_once_too_if_something_else_came_after_what_never_came() -> None:
    """xl2tpd waits for ever for the answer to an ICRQ that was acknowledged."""
    pair, tunnel_id = silent_pair(0)
    pair.crash(pair.lns)
    pair.deliver(pair.lac, pair.lac.endpoint.place_call(tunnel_id, Call("", "caller"), pair.now)[1])
    icrq = pair.log[-1][1]
    pair.lose = lambda data, to: data[8:] == icrq[8:]
    pair.run(20)
    pair.restart(pair.lns, 20)
    pair.run(1)
    sent, hello = parse_control(icrq), encode(Msg.HELLO)
    (tunnel,) = pair.lac.endpoint.ctx.established()
    later = control_header(sent.tunnel_id, 0, seq.succ(sent.ns), tunnel.channel.nr, len(hello)) + hello
    pair.deliver(pair.lns, pair.lns.endpoint.datagram(later, LAC_ADDRESS, pair.now))
    pair.run(20)
    assert RecoveryPhase.SYNCHRONISED in phases(pair.lns)
    (down,) = (n for n in pair.lns.news if isinstance(n, TunnelDown))
    assert down.text == silent.NOTHING_LEFT


def test_it_ends_at_once_if_it_has_no_session() -> None:
    pair, tunnel_id = silent_pair(0)
    pair.crash(pair.lns)
    pair.deliver(pair.lac, pair.lac.endpoint.close_tunnel(tunnel_id, pair.now))
    pair.run(20)
    pair.restart(pair.lns, 20)
    assert len(pair.lns.endpoint.ctx.established()) == 1
    pair.run(11)
    assert not pair.lns.endpoint.ctx.established()


def test_it_ends_though_calls_are_placed_in_it_once_one_was_not_answered() -> None:
    """xl2tpd acknowledges an ICRQ in a tunnel that it has ended, and never answers it."""
    pair, tunnel_id = silent_pair(0)
    pair.crash(pair.lac)
    (theirs,) = pair.lns.endpoint.ctx.established()
    pair.deliver(pair.lns, pair.lns.endpoint.probe(theirs.local_id, pair.now))
    pair.run(20)
    pair.restart(pair.lac, 20)
    place = pair.lac.endpoint.place_call
    pair.deliver(pair.lac, place(tunnel_id, Call(), pair.now)[1])
    pair.lose = lambda data, to: to == LAC_ADDRESS and len(data) > 12 and decode(data[12:]).type == Msg.ICRP
    for _ in range(40):
        pair.run(1)
        if tunnel_id in {t.local_id for t in pair.lac.endpoint.ctx.established()}:
            pair.deliver(pair.lac, place(tunnel_id, Call(), pair.now)[1])
    assert not pair.lac.endpoint.ctx.established()


def test_a_tunnel_without_a_call_is_acknowledged_by_a_zlb_after_a_restart() -> None:
    """The process before may have noted a StopCCN and not have said so, and xl2tpd waits for a ZLB."""
    for calls, zlbs in ((0, 1), (1, 0)):
        pair, _ = silent_pair(calls)
        pair.crash(pair.lac)
        pair.log.clear()
        pair.restart(pair.lac, 1)
        pair.run(1)
        said = [len(data) for name, data in pair.log if name == "lac1" and data[0] & 0x80]
        assert said.count(12) == zlbs


def test_what_is_acknowledged_unseen_is_acknowledged_by_a_zlb_first() -> None:
    """xl2tpd lets go of a tunnel that it has ended at a ZLB only."""
    pair, _ = acknowledged_unseen("StopCCN")
    nr = pair.lns.endpoint.ctx.established()[0].channel.nr
    said = [parse_control(data) for name, data in pair.log if name == "lns1"]
    first = next(h for h in said if h.nr == nr)
    hello = said[said.index(first) + 1]
    assert first.end == 12 < hello.end
    assert (first.session_id, first.ns) == (0, hello.ns)


def encode_id(number: int) -> bytes:
    return number.to_bytes(2, "big")


def session_named(data: bytes) -> int:
    return decode(data[12:], SECRET).need(ASSIGNED_SESSION_ID)


def test_probes_that_are_not_answered_keep_the_pace_when_the_process_was_held_up() -> None:
    pair = Pair(lns_failover=NONE, lac_failover=NONE)
    for _ in range(200):
        pair.connect()
    pair.lns.record_numbers()
    pair.crash(pair.lns)
    pair.down.add("lac1")
    pair.restart(pair.lns)
    pair.log.clear()
    for _ in range(300):
        pair.now += 3 * pace.TICK  # the event loop always comes late
        pair.deliver(pair.lns, pair.lns.endpoint.timer(pair.now))
        assert 0 < len(pair.log) <= pace.PROBES_PER_TICK or not pair.lns.endpoint.ctx.silent_queue
        pair.log.clear()
    assert len(pair.lns.endpoint.ctx.silent_queue) < 200, "each waits for one probe at most"


def test_what_the_peer_sends_after_our_return_is_not_acknowledged_unseen() -> None:
    """It had sent 7 and 8 by then; 9 is new, is lost, and comes again once 7 and 8 are acknowledged."""
    state = resync.begin(10, 7, 0)
    assert resync.hear(state, 9, 10, 7, is_zlb=True, now=0) is resync.Verdict.TRY
    assert resync.hear(state, 9, 11, 7, is_zlb=True, now=0) is resync.Verdict.PROVED
    resync.hear(state, 11, 12, 7, is_zlb=True, now=3 * SECOND)
    resync.hear(state, 10, 12, 7, is_zlb=False, now=3 * SECOND)
    assert not state.in_step
    assert resync.proved_nr(state, 7, 10) == 9
    resync.hear(state, 7, 12, 7, is_zlb=False, now=4 * SECOND)
    resync.hear(state, 8, 12, 8, is_zlb=False, now=4 * SECOND)
    assert state.in_step
