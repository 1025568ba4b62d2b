"""The recovery endpoint: RFC 4951 3.2, appendix A; the endpoint under test fails and comes back."""

import pytest

from holdfast.core.counters import Counter
from holdfast.protocol.effects import Cause, Persist, Recovery, RecoveryPhase, Send, SessionDown, TunnelDown
from holdfast.protocol.session import Call
from holdfast.protocol.settings import FailoverSettings, PeerSettings
from holdfast.records import TunnelRecord
from holdfast.records.writes import Save
from holdfast.wire.auth import challenge_response
from holdfast.wire.dictionary import (
    ASSIGNED_SESSION_ID,
    ASSIGNED_TUNNEL_ID,
    CALL_SERIAL_NUMBER,
    CHALLENGE,
    CHALLENGE_RESPONSE,
    FAILOVER_CAPABILITY,
    FRAMING_CAPABILITIES,
    FRAMING_TYPE,
    HOST_NAME,
    PROTOCOL_VERSION,
    TIE_BREAKER,
    TUNNEL_RECOVERY,
    TX_CONNECT_SPEED,
    FailoverCap,
)
from holdfast.wire.messages import Msg, encode
from protocol.script import (
    C1,
    PEER,
    SECRET,
    Heard,
    Line,
    Rig,
    answer_recovery,
    call_in,
    call_out,
    from_lac,
    fss,
    hello_avps,
    only,
    recover,
    response,
    result_code,
    states,
    to_lns,
    types,
)

ON_RECOVERY_TUNNEL = {Msg.SCCRQ, Msg.SCCRP, Msg.SCCCN, Msg.STOPCCN, Msg.HELLO, 0}


def phases(rig: Rig) -> list[RecoveryPhase]:
    return [n.phase for n in rig.news if isinstance(n, Recovery)]


def crashed(rig: Rig, sessions: int = 2, cap: FailoverCap | None = C1) -> tuple[Line, list[int], Heard]:
    """A tunnel with sessions, a crash, a restart: the old line, its sessions, and the recovery SCCRQ."""
    line = from_lac(rig, cap=cap)
    local = [call_in(line, 0x0A11 + k) for k in range(sessions)]
    rig.crash()
    rig.heard.clear()
    rig.news.clear()
    return line, local, only(rig.restart(), Msg.SCCRQ)


def confirmed(rig: Rig, scs: tuple[int, int] | None = (3, 100)) -> tuple[Line, Line, list[Heard]]:
    """A crash, and a recovery whose SCCCN is acknowledged: the old line, the recovery tunnel, what was said."""
    line, _, sccrq = crashed(rig)
    rt, _ = answer_recovery(rig, sccrq, scs=scs)
    line.nr, line.ns = scs if scs is not None else (0, 0)
    heard = rt.zlb()
    line.note(heard)
    return line, rt, heard


def on_old(rig: Rig, line: Line) -> list[Heard]:
    """What was said on the old tunnel since the crash."""
    return [h for h in rig.heard if h.tunnel_id == line.local]


def test_F_1_and_F_3_without_a_failure_of_our_own_nothing_is_recovered() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    line.later(200)
    assert not [h for h in rig.heard if h.type == Msg.SCCRQ]


def test_F_2_the_first_recovery_message_leaves_at_once() -> None:
    rig = Rig()
    _, _, sccrq = crashed(rig)
    assert sccrq.at == rig.now


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_F_4_what_the_journal_holds_is_what_is_recovered(chosen: int) -> None:
    rig = Rig()
    lines = [from_lac(rig, 0x1100 + k) for k in range(3)]
    rig.crash()
    for line in lines[chosen:]:
        del rig.tunnels[line.remote]
    assert types(rig.restart()) == [Msg.SCCRQ] * chosen


def test_F_5_a_restarted_node_recovers_the_same_ids() -> None:
    rig = Rig()
    line, sessions, sccrq = crashed(rig)
    ids = sccrq.body.need(TUNNEL_RECOVERY)
    assert (ids.recover_tunnel_id, ids.recover_remote_tunnel_id) == (line.remote, line.local)
    rt, _ = answer_recovery(rig, sccrq)
    rt.zlb()
    assert sorted(rig.endpoint.tunnels[line.remote].sessions) == sorted(sessions)


@pytest.mark.parametrize("cap", [None, FailoverCap(False, True, 0)])
def test_F_10_a_peer_that_cannot_is_not_asked(cap: FailoverCap | None) -> None:
    rig = Rig()
    line = from_lac(rig, cap=cap)
    call_in(line)
    rig.crash()
    rig.heard.clear()
    assert rig.restart() == []
    assert rig.later(100) == []
    assert not rig.endpoint.tunnels
    assert not rig.tunnels
    assert not rig.sessions
    (down,) = [n for n in rig.news if isinstance(n, TunnelDown)]
    assert down.cause is Cause.NOT_RECOVERABLE


CAPS = [None, FailoverCap(False, True, 0), FailoverCap(True, False, 9_000)]


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("theirs", CAPS)
def test_T_24_both_must_have_said_that_they_can(ours: bool, theirs: FailoverCap | None) -> None:
    rig = Rig(failover=FailoverSettings(advertise=ours))
    line = from_lac(rig, cap=theirs)
    rig.crash()
    able = ours and theirs is not None and theirs.control
    assert types(rig.restart()) == ([Msg.SCCRQ] if able else [])
    assert (line.remote in rig.endpoint.tunnels) == able


def test_F_13_every_phase_is_told() -> None:
    rig = Rig()
    line, _, heard = confirmed(rig)
    fsq = only(heard, Msg.FSQ)
    line.say(Msg.FSR, *fss(*[(b, a) for a, b in states(fsq)]))
    assert phases(rig) == [
        RecoveryPhase.STARTED,
        RecoveryPhase.RESET,
        RecoveryPhase.CONFIRMED,
        RecoveryPhase.SYNCHRONISED,
    ]


def test_F_14_one_recovery_tunnel_for_each_old_one() -> None:
    rig = Rig()
    lines = [from_lac(rig, 0x1100 + k) for k in range(3)]
    rig.crash()
    asked = rig.restart()
    assert {h.body.need(TUNNEL_RECOVERY).recover_tunnel_id for h in asked} == {x.remote for x in lines}
    assert len({h.body.need(ASSIGNED_TUNNEL_ID) for h in asked}) == 3


def test_F_15_and_F_17_and_F_22_the_sccrq_of_a_recovery_is_complete() -> None:
    _, _, sccrq = crashed(Rig())
    for avp in (PROTOCOL_VERSION, HOST_NAME, FRAMING_CAPABILITIES, ASSIGNED_TUNNEL_ID, CHALLENGE):
        assert avp in sccrq.body, avp
    assert TUNNEL_RECOVERY in sccrq.body
    assert len(sccrq.body.need(TIE_BREAKER)) == 8


def test_F_22_the_tie_breaker_is_random() -> None:
    ties = {crashed(Rig(seed=k))[2].body.need(TIE_BREAKER) for k in range(5)}
    assert len(ties) == 5


def test_F_16_the_recovery_tunnel_speaks_the_version_of_the_old_one() -> None:
    rig = Rig()
    confirmed(rig)
    assert all(h.data[1] & 0x0F == 2 for h in rig.heard)


def test_F_18_no_capability_on_the_recovery_tunnel() -> None:
    rig = Rig()
    confirmed(rig)
    assert not [h for h in rig.heard if h.msg is not None and FAILOVER_CAPABILITY in h.body]


def test_T_25_a_capability_on_the_recovery_tunnel_changes_nothing() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    rt = Line(rig, 0x9ABC)
    rt.remote, rt.nr = sccrq.body.need(ASSIGNED_TUNNEL_ID), 1
    body = encode(Msg.SCCRP, *hello_avps(0x9ABC, *response(Msg.SCCRP, sccrq)))
    assert types(rt.raw(body + FAILOVER_CAPABILITY(FailoverCap(True, True, 1)).data)) == [Msg.SCCCN]
    rt.zlb()
    assert rig.tunnels[line.remote].peer_failover == rig.endpoint.records(line.remote).peer_failover
    assert rig.endpoint.records(line.remote).peer_failover is not None


def test_T_25_the_second_failover_works_like_the_first() -> None:
    rig = Rig()
    line, _, _ = confirmed(rig)
    for _ in range(2):
        rig.crash()
        sccrq = only(rig.restart(), Msg.SCCRQ)
        rt, _ = answer_recovery(rig, sccrq)
        assert types(rt.zlb()) == [Msg.STOPCCN, Msg.FSQ]
    assert line.remote in rig.endpoint.tunnels


def test_F_19_and_F_71_only_set_up_messages_on_the_recovery_tunnel() -> None:
    rig = Rig()
    line, rt, _ = confirmed(rig)
    rig.later(1)
    said = {h.type for h in rig.heard if h.tunnel_id in (rt.local, 0)}
    assert said <= ON_RECOVERY_TUNNEL
    assert {h.type for h in on_old(rig, line)} == {Msg.FSQ}


def test_F_20_the_recovery_tunnel_has_an_id_of_its_own() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    assert sccrq.body.need(ASSIGNED_TUNNEL_ID) != line.remote


def test_T_18_every_recorded_id_is_reserved_before_one_is_drawn() -> None:
    rig = Rig()
    lines = [from_lac(rig, 0x1000 + k) for k in range(40)]
    for seed in range(20):
        rig.random.seed(seed)
        rig.crash()
        drawn = {h.body.need(ASSIGNED_TUNNEL_ID) for h in rig.restart()}
        assert not drawn & {x.remote for x in lines}


def test_T_18_a_new_session_does_not_get_a_restored_id() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    rig.crash()
    rig.restart()
    assert len(rig.endpoint.tunnels[line.remote].ids) == 1
    with_same_luck = rig.endpoint.tunnels[line.remote].ids.allocate()
    assert with_same_luck != local


def test_F_21_the_old_tunnel_and_its_sessions_stay_meanwhile() -> None:
    rig = Rig()
    line, sessions, _ = crashed(rig)
    rig.later(4)
    assert sorted(rig.endpoint.tunnels[line.remote].sessions) == sorted(sessions)
    assert not rig.of(SessionDown)


def test_F_34_before_its_reset_the_old_tunnel_is_deaf_and_silent() -> None:
    rig = Rig()
    line, sessions, _ = crashed(rig)
    line.ns, line.nr = 40, 50
    for heard in (
        line.say(Msg.HELLO),
        line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0F00), CALL_SERIAL_NUMBER(9)),
        line.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1)),
        line.zlb(),
    ):
        assert heard == []
    assert rig.count(Counter.RX_DISCARDED_RECOVERING) == 4
    assert sorted(rig.endpoint.tunnels[line.remote].sessions) == sorted(sessions)


def test_F_35_and_F_90_the_recovery_tunnel_is_authenticated_like_any_other() -> None:
    rig = Rig()
    _, _, sccrq = crashed(rig)
    _, heard = answer_recovery(rig, sccrq)
    challenge = bytes(range(0x20, 0x30))
    scccn = only(heard, Msg.SCCCN)
    assert scccn.body.need(CHALLENGE_RESPONSE) == challenge_response(Msg.SCCCN, SECRET, challenge)


def test_F_36_with_the_secret_of_the_old_tunnel_whatever_the_configuration_says_now() -> None:
    rig = Rig()
    line = from_lac(rig)
    rig.crash()
    rig.peer = PeerSettings(name="lac1", secret=b"a new secret")
    sccrq = only(rig.restart(), Msg.SCCRQ)
    rt, heard = answer_recovery(rig, sccrq, secret=SECRET)
    assert types(heard) == [Msg.SCCCN]
    rt.zlb()
    assert rig.endpoint.tunnels[line.remote].established


def test_F_40_what_was_queued_before_the_crash_is_never_sent_again() -> None:
    rig = Rig()
    line = from_lac(rig)
    gone, kept = call_in(line, 0x0A11), call_in(line, 0x0A12)
    rig.take(rig.endpoint.close_session(line.remote, gone, rig.now))
    rig.crash()
    rig.heard.clear()
    sccrq = only(rig.restart(), Msg.SCCRQ)
    rt, _ = answer_recovery(rig, sccrq)
    rt.zlb()
    rig.later(20)
    assert Msg.CDN not in types(rig.heard)
    assert list(rig.endpoint.tunnels[line.remote].sessions) == [kept]


def test_T_10_what_is_said_while_recovering_is_not_replayed_either() -> None:
    rig = Rig()
    line, sessions, sccrq = crashed(rig)
    rig.take(rig.endpoint.close_session(line.remote, sessions[0], rig.now))
    rt, _ = answer_recovery(rig, sccrq)
    heard = rt.zlb()
    assert types(heard) == [Msg.STOPCCN, Msg.FSQ]
    assert states(only(heard, Msg.FSQ)) == [(sessions[1], 0x0A12)]


def test_F_41_and_F_43_the_reset_is_at_the_sccrp_and_takes_the_suggested_numbers() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    old = rig.endpoint.tunnels[line.remote]
    answer_recovery(rig, sccrq, scs=(3, 100))
    assert (old.channel.ns, old.channel.nr) == (3, 100)
    assert phases(rig)[-1] is RecoveryPhase.RESET


def test_F_43_and_T_1_the_next_message_on_the_old_tunnel_has_them() -> None:
    rig = Rig()
    _, _, heard = confirmed(rig, (3, 100))
    fsq = only(heard, Msg.FSQ)
    assert (fsq.ns, fsq.nr) == (3, 100)


def test_F_45_without_a_suggestion_both_are_zero() -> None:
    rig = Rig()
    _, _, heard = confirmed(rig, None)
    fsq = only(heard, Msg.FSQ)
    assert (fsq.ns, fsq.nr) == (0, 0)


def test_T_11_without_a_suggestion_early_messages_are_not_queued() -> None:
    rig = Rig()
    line, _, _ = confirmed(rig, None)
    line.say(Msg.HELLO, ns=1)
    heard = line.say(Msg.HELLO, ns=0)
    assert heard[-1].nr == 1


def test_F_47_and_T_9_the_recovery_tunnel_is_closed_when_the_scccn_is_acknowledged() -> None:
    rig = Rig()
    line, rt, heard = confirmed(rig)
    stop = only(heard, Msg.STOPCCN)
    assert stop.tunnel_id == rt.local
    assert stop.body.need(ASSIGNED_TUNNEL_ID) == rt.remote
    rt.zlb()
    line.zlb()
    assert list(rig.endpoint.tunnels) == [line.remote]
    assert len(rig.endpoint.tunnels[line.remote].sessions) == 2


def test_F_47_the_peer_may_close_it_first() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    rt, _ = answer_recovery(rig, sccrq)
    heard = rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(1))
    assert Msg.FSQ in types(heard)
    assert rig.endpoint.tunnels[line.remote].established
    assert not rig.of(SessionDown)


def test_F_48_a_call_waits_until_the_old_tunnel_is_recovered() -> None:
    rig = Rig()
    line = to_lns(rig)
    call_out(line)
    rig.crash()
    sccrq = only(rig.restart(), Msg.SCCRQ)
    _, effects = rig.endpoint.place_call(line.remote, Call(), rig.now)
    assert rig.take(effects) == []
    rt, heard = answer_recovery(rig, sccrq)
    assert types(heard) == [Msg.SCCCN]
    line.nr, line.ns = 3, 100
    first = rt.zlb()
    line.note(first)
    assert types(first) == [Msg.STOPCCN, Msg.FSQ]
    assert types(line.zlb()) == [Msg.ICRQ]


def test_F_48_a_call_offered_right_after_the_reset_is_taken_after_the_purge() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    rt, _ = answer_recovery(rig, sccrq, scs=(3, 100))
    line.nr, line.ns = 3, 100
    heard = line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0F00), CALL_SERIAL_NUMBER(9))
    assert phases(rig)[-1] is RecoveryPhase.CONFIRMED, "the peer speaks with the new numbers"
    assert Msg.ICRP in types(heard + line.zlb())
    rt.zlb()


def test_F_58_half_made_sessions_are_not_restored_and_nothing_is_said_of_them() -> None:
    rig = Rig()
    line = from_lac(rig)
    line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0A11), CALL_SERIAL_NUMBER(1))
    rig.crash()
    rig.heard.clear()
    rt, _ = answer_recovery(rig, only(rig.restart(), Msg.SCCRQ))
    rt.zlb()
    assert not rig.endpoint.tunnels[line.remote].sessions
    assert Msg.CDN not in types(rig.heard)


def test_T_8_nothing_is_said_on_the_old_tunnel_before_the_scccn_is_acknowledged() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    rt, _ = answer_recovery(rig, sccrq)
    assert types(rig.later(4)) == [Msg.SCCCN] * 2
    assert on_old(rig, line) == []
    assert Msg.FSQ in types(rt.zlb())


def test_T_8_not_even_a_cdn() -> None:
    rig = Rig()
    line, sessions, sccrq = crashed(rig)
    rt, _ = answer_recovery(rig, sccrq, scs=(3, 100))
    assert rig.take(rig.endpoint.close_session(line.remote, sessions[0], rig.now)) == []
    line.nr, line.ns = 3, 100
    said = line.note(rt.zlb())
    assert only(said, Msg.CDN).ns == 3
    assert states(only(said + line.zlb(), Msg.FSQ)) == [(sessions[1], 0x0A12)]


def test_T_8_the_peer_speaking_with_the_new_numbers_confirms_too() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    answer_recovery(rig, sccrq, scs=(3, 100))
    line.nr, line.ns = 3, 100
    heard = line.say(Msg.FSQ, *fss((0x0A11, 1)))
    assert Msg.FSQ in types(heard + line.zlb())


def test_T_8_an_scccn_that_is_never_acknowledged_is_tried_on_another_recovery_tunnel() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    answer_recovery(rig, sccrq)
    heard = rig.later(5.1)
    second = only(heard, Msg.SCCRQ)
    assert second.body.need(ASSIGNED_TUNNEL_ID) != sccrq.body.need(ASSIGNED_TUNNEL_ID)
    rt, _ = answer_recovery(rig, second, 0x9ABD, (500, 600))
    fsq = only(rt.zlb(), Msg.FSQ)
    assert (fsq.ns, fsq.nr) == (500, 600)
    assert rig.endpoint.tunnels[line.remote].established


def test_F_33_without_any_answer_the_old_tunnel_is_cleared_in_silence() -> None:
    rig = Rig()
    line, _, _ = crashed(rig)
    rig.later(30.9)
    assert line.remote in rig.endpoint.tunnels
    rig.later(0.2)
    assert line.remote not in rig.endpoint.tunnels
    assert on_old(rig, line) == []
    assert not rig.tunnels
    assert not rig.sessions
    assert phases(rig)[-1] is RecoveryPhase.FAILED
    assert [n.cause for n in rig.news if isinstance(n, TunnelDown)] == [Cause.RECOVERY_FAILED]
    rig.later(100)
    assert not rig.endpoint.tunnels


def test_F_33_a_short_recovery_time_ends_it_sooner() -> None:
    rig = Rig(failover=FailoverSettings(recovery_time_ms=10_000))
    line, _, _ = crashed(rig)
    rig.later(9.9)
    assert line.remote in rig.endpoint.tunnels
    rig.later(0.2)
    assert line.remote not in rig.endpoint.tunnels


def test_F_33_a_forged_answer_costs_a_counter() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    forged, heard = answer_recovery(rig, sccrq, 0x6666, secret=b"guess")
    assert heard == []
    assert rig.count(Counter.RECOVERY_BAD_ANSWER) == 1
    rt, heard = answer_recovery(rig, sccrq)
    assert types(heard) == [Msg.SCCCN]
    rt.zlb()
    assert rig.endpoint.tunnels[line.remote].established
    assert forged.local != rt.local


def test_F_33_one_refusal_is_not_the_end() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    forged = Line(rig, 0x6666)
    forged.remote = sccrq.body.need(ASSIGNED_TUNNEL_ID)
    forged.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(0x6666), result_code(4), nr=1)
    second = only(rig.later(0.1), Msg.SCCRQ)
    assert second.body.need(ASSIGNED_TUNNEL_ID) != forged.remote
    rt, _ = answer_recovery(rig, second)
    rt.zlb()
    assert rig.endpoint.tunnels[line.remote].established
    assert RecoveryPhase.FAILED not in phases(rig)


def test_F_33_two_refusals_on_two_recovery_tunnels_are() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    for _ in range(2):
        peer = Line(rig, 0x6666)
        peer.remote = sccrq.body.need(ASSIGNED_TUNNEL_ID)
        heard = peer.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(0x6666), result_code(4), nr=1) + rig.later(0.1)
        if Msg.SCCRQ in types(heard):
            sccrq = only(heard, Msg.SCCRQ)
    assert line.remote not in rig.endpoint.tunnels
    assert on_old(rig, line) == []
    assert rig.count(Counter.RECOVERIES_FAILED) == 1


def test_F_S4_a_refusal_after_the_scccn_is_a_refusal() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    rt, _ = answer_recovery(rig, sccrq)
    rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(4))
    assert phases(rig)[-1] is RecoveryPhase.REFUSED
    assert on_old(rig, line) == []
    rt, _ = answer_recovery(rig, only(rig.later(0.1), Msg.SCCRQ), 0x9ABD)
    rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(4))
    assert line.remote not in rig.endpoint.tunnels


def test_F_S4_also_when_the_acknowledgement_came_first() -> None:
    rig = Rig()
    line, rt, _ = confirmed(rig)
    rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(4))
    assert phases(rig)[-1] is RecoveryPhase.REFUSED
    assert rig.endpoint.tunnels[line.remote].recovering


def test_F_S4_also_when_it_comes_after_our_own_stopccn_was_acknowledged() -> None:
    rig = Rig()
    line, rt, _ = confirmed(rig)
    rt.zlb()
    rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(4))
    assert phases(rig)[-1] is RecoveryPhase.REFUSED
    assert rig.endpoint.tunnels[line.remote].recovering


def test_F_S4_after_the_first_acknowledgement_on_the_old_tunnel_it_is_none() -> None:
    rig = Rig()
    line, rt, _ = confirmed(rig)
    line.zlb()
    rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(4))
    assert not rig.endpoint.tunnels[line.remote].recovering
    assert RecoveryPhase.REFUSED not in phases(rig)


def test_T_20_the_recovery_goes_where_the_old_tunnel_went_then_to_port_1701() -> None:
    rig = Rig()
    translated = (PEER[0], 40_001)
    from_lac(rig, source=translated)
    rig.crash()
    assert only(rig.restart(), Msg.SCCRQ).to == translated
    second = [h for h in rig.later(5.5) if h.type == Msg.SCCRQ and h.to != translated]
    assert [h.to for h in second] == [PEER]


def test_T_27_the_window_of_the_old_tunnel_is_the_recorded_one() -> None:
    rig = Rig()
    line = from_lac(rig, window=7)
    rig.crash()
    rt, _ = answer_recovery(rig, only(rig.restart(), Msg.SCCRQ))
    rt.zlb()
    channel = rig.endpoint.tunnels[line.remote].channel
    assert (channel.peer_window, channel.ssthresh, channel.cwnd, channel.attempts) == (7, 7, 1, 0)


def test_T_28_another_host_name_does_not_recover_it() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    _, heard = answer_recovery(rig, sccrq, host="lac2")
    assert Msg.SCCCN not in types(heard)
    assert rig.endpoint.tunnels[line.remote].recovering


def test_T_37_a_suggestion_that_cannot_be_read_fails_the_recovery_tunnel() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    rt = Line(rig, 0x9ABC)
    rt.remote, rt.nr = sccrq.body.need(ASSIGNED_TUNNEL_ID), 1
    body = encode(Msg.SCCRP, *hello_avps(0x9ABC, *response(Msg.SCCRP, sccrq)))
    heard = rt.raw(body + bytes.fromhex("000a0000004e00000003"))
    stop = only(heard, Msg.STOPCCN)
    assert stop.tunnel_id == 0x9ABC
    assert stop.body.get(CHALLENGE) is None
    assert Msg.SCCCN not in types(heard)
    assert rig.endpoint.tunnels[line.remote].recovering
    assert Msg.SCCRQ in types(rig.later(0.1)), "it tries once more"


def test_T_37_a_hidden_suggestion_is_read_with_the_secret() -> None:
    rig = Rig()
    line, _, sccrq = crashed(rig)
    rt = Line(rig, 0x9ABC)
    rt.remote, rt.nr = sccrq.body.need(ASSIGNED_TUNNEL_ID), 1
    body = encode(Msg.SCCRP, *hello_avps(0x9ABC, *response(Msg.SCCRP, sccrq)))
    vector = bytes.fromhex("801600000024000102030405060708090a0b0c0d0e0f")
    rt.raw(body + vector + bytes.fromhex("400e0000004e6b4790850536f1ad"))
    channel = rig.endpoint.tunnels[line.remote].channel
    assert (channel.ns, channel.nr) == (3, 100)


def test_T_41_a_recovery_tunnel_counts_as_no_tunnel() -> None:
    rig = Rig(max_tunnels=1)
    line, rt, _ = confirmed(rig)
    assert not [n for n in rig.news if isinstance(n, TunnelDown)]
    rt.zlb()
    rig.later(40)
    assert not [n for n in rig.news if isinstance(n, TunnelDown)]
    assert rig.count(Counter.TUNNELS_OPENED) == 0, "since the restart"
    assert line.remote in rig.endpoint.tunnels


def test_T_43_silent_clearing_is_told_exactly_once_per_session() -> None:
    rig = Rig()
    _, sessions, _ = crashed(rig)
    rig.later(200)
    downs = [n for n in rig.news if isinstance(n, SessionDown)]
    assert sorted(d.session_id for d in downs) == sorted(sessions)


def test_T_44_after_a_planned_stop_with_nothing_outstanding_the_procedure_is_the_same() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    line.zlb()
    assert rig.endpoint.tunnels[line.remote].channel.idle
    rig.crash()
    rt, _ = answer_recovery(rig, only(rig.restart(), Msg.SCCRQ))
    fsq = only(rt.zlb(), Msg.FSQ)
    assert states(fsq) == [(local, 0x0A11)]


def test_T_22_a_lac_asks_about_every_session() -> None:
    rig = Rig()
    line = to_lns(rig)
    local = call_out(line)
    rig.crash()
    rt, _ = answer_recovery(rig, only(rig.restart(), Msg.SCCRQ))
    line.nr, line.ns = 3, 100
    fsq = only(line.note(rt.zlb()), Msg.FSQ)
    assert states(fsq) == [(local, 0x0B11)]
    line.say(Msg.FSR, *fss((0, local)))
    assert not rig.endpoint.tunnels[line.remote].sessions, "the LNS never got the ICCN: cleared here too"


def test_T_23_the_owner_of_a_purged_call_is_told_so() -> None:
    rig = Rig()
    line = to_lns(rig)
    local, effects = rig.endpoint.place_call(line.remote, Call(), rig.now)
    line.note(rig.take(effects))
    recover(rig, line)
    (down,) = [n for n in rig.news if isinstance(n, SessionDown)]
    assert (down.session_id, down.cause, down.established) == (local, Cause.PURGED, False)


def test_only_so_many_recoveries_run_at_once() -> None:
    rig = Rig(failover=FailoverSettings(parallel=2))
    for k in range(5):
        from_lac(rig, 0x1100 + k)
    rig.crash()
    asked = rig.restart()
    assert types(asked) == [Msg.SCCRQ] * 2
    rt, _ = answer_recovery(rig, asked[0])
    assert types(rt.zlb()).count(Msg.SCCRQ) == 1


def test_a_reset_records_the_new_numbers_and_nothing_waits_for_it() -> None:
    rig = Rig()
    rig.effects.clear()
    confirmed(rig)
    after = rig.effects[[isinstance(e, Recovery) for e in rig.effects].index(True) :]
    (persist,) = [e for e in after if isinstance(e, Persist)]
    (save,) = persist.writes
    assert isinstance(save, Save)
    assert isinstance(save.record, TunnelRecord)
    assert (save.record.acked, save.record.nr) == (3, 100)
    assert persist.lane not in {e.lane for e in after if isinstance(e, Send)}


def test_appendix_A_as_recovery_endpoint() -> None:
    rig = Rig()
    x = from_lac(rig, tunnel_id=0xABCD)
    s1, s2 = call_in(x, 0x0A11), call_in(x, 0x0A12)
    rig.crash()
    sccrq = only(rig.restart(), Msg.SCCRQ)
    rt, said = answer_recovery(rig, sccrq, scs=(3, 100))
    assert types(said) == [Msg.SCCCN]
    x.nr, x.ns = 3, 100
    said = x.note(rt.zlb())
    assert [(h.type, h.tunnel_id) for h in said] == [(Msg.STOPCCN, rt.local), (Msg.FSQ, 0xABCD)]
    assert sorted(states(said[1])) == sorted([(s1, 0x0A11), (s2, 0x0A12)])
    rt.zlb()
    x.say(Msg.FSR, *fss((0x0A11, s1), (0, s2)))
    said = x.say(Msg.FSQ, *fss((0x0A11, s1), (0x0777, 0x0888)))
    fsr = only(said, Msg.FSR)
    assert states(fsr) == [(s1, 0x0A11), (0, 0x0777)]
    assert (fsr.ns, fsr.nr) == (4, 102)
    assert list(rig.endpoint.tunnels[x.remote].sessions) == [s1]
    assert list(rig.endpoint.tunnels) == [x.remote]


def test_a_session_that_works_after_the_recovery() -> None:
    rig = Rig()
    line, _, heard = confirmed(rig)
    line.say(Msg.FSR, *fss(*[(b, a) for a, b in states(only(heard, Msg.FSQ))]))
    icrp = only(line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0F00), CALL_SERIAL_NUMBER(9)), Msg.ICRP)
    local = icrp.body.need(ASSIGNED_SESSION_ID)
    line.say(Msg.ICCN, TX_CONNECT_SPEED(1), FRAMING_TYPE(1), session=local)
    assert len(rig.endpoint.tunnels[line.remote].sessions) == 3
