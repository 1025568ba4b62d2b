"""The remote endpoint: RFC 4951 3.2, appendix A; the peer fails and recovers a tunnel of the endpoint under test."""

import pytest

from holdfast.core import seq
from holdfast.core.counters import Counter
from holdfast.protocol.effects import Cause, PeerMoved, Recovery, RecoveryPhase, SessionDown, TunnelDown
from holdfast.protocol.session import SessionState
from holdfast.protocol.settings import FailoverSettings, PeerSettings
from holdfast.protocol.tunnel import TunnelState
from holdfast.wire.codes import StopCcn
from holdfast.wire.dictionary import (
    ASSIGNED_SESSION_ID,
    ASSIGNED_TUNNEL_ID,
    CALL_SERIAL_NUMBER,
    CHALLENGE,
    CHALLENGE_RESPONSE,
    FAILOVER_CAPABILITY,
    SUGGESTED_CONTROL_SEQUENCE,
    TIE_BREAKER,
    TUNNEL_RECOVERY,
    FailoverCap,
    SuggestedSequence,
    TunnelRecovery,
)
from holdfast.wire.messages import Msg, encode
from protocol.script import (
    C1,
    PEER,
    SECRET,
    STRANGER,
    TIE,
    Heard,
    Line,
    Rig,
    ask_recovery,
    begin,
    call_in,
    call_out,
    from_lac,
    fss,
    hello_avps,
    only,
    recover,
    response,
    result,
    result_code,
    states,
    to_lns,
    types,
)

BACKUP = ("192.0.2.10", 1701)


def up(rig: Rig, sessions: int = 2) -> Line:
    """A tunnel from the peer with some sessions."""
    line = from_lac(rig)
    for k in range(sessions):
        call_in(line, 0x0A11 + k)
    rig.news.clear()
    return line


def numbers(rig: Rig, line: Line) -> tuple[int, int]:
    """Ns and Nr of the old tunnel."""
    channel = rig.endpoint.tunnels[line.remote].channel
    return channel.ns, channel.nr


def suggestion(heard: list[Heard]) -> SuggestedSequence:
    return only(heard, Msg.SCCRP).body.need(SUGGESTED_CONTROL_SEQUENCE)


def refused(rig: Rig, rt: Line, heard: list[Heard]) -> None:
    """The recovery gets as far as its SCCCN, then a StopCCN with result 4 (F-S4)."""
    stop = only(rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP))), Msg.STOPCCN)
    assert result(stop)[0] == StopCcn.NOT_AUTHORISED
    assert rig.count(Counter.RECOVERY_REFUSED) == 1
    assert not rig.of(Recovery)


def test_F_28_and_F_87_the_ids_are_the_sender_s_and_ours() -> None:
    rig = Rig()
    line = up(rig)
    recover(rig, line)
    assert next(n.phase for n in rig.news if isinstance(n, Recovery)) is RecoveryPhase.RESET


def test_F_28_swapped_ids_are_refused() -> None:
    rig = Rig()
    line = up(rig)
    rt, heard = ask_recovery(rig, line, ids=(line.remote, line.local))
    refused(rig, rt, heard)
    assert line.say(Msg.HELLO)[0].nr == line.ns


@pytest.mark.parametrize("ids", [(0x1111, 0x0BAD), (0x0BAD, 0), (0, 0), (0x0BAD, 0x0BAD)])
def test_F_29_unknown_ids_or_a_wrong_pair_end_the_recovery_tunnel_only(ids: tuple[int, int]) -> None:
    rig = Rig()
    line = up(rig)
    before = numbers(rig, line)
    rt, heard = ask_recovery(rig, line, ids=ids)
    refused(rig, rt, heard)
    assert numbers(rig, line) == before
    assert len(rig.tunnel().sessions) == 2


@pytest.mark.parametrize("cap", [None, FailoverCap(False, True, 0)])
def test_F_30_a_peer_that_never_said_it_could_is_refused(cap: FailoverCap | None) -> None:
    rig = Rig()
    line = from_lac(rig, cap=cap)
    rt, heard = ask_recovery(rig, line)
    refused(rig, rt, heard)


def test_F_30_and_T_24_so_is_one_to_whom_we_never_said_it() -> None:
    rig = Rig(failover=FailoverSettings(advertise=False))
    line = from_lac(rig)
    rt, heard = ask_recovery(rig, line)
    refused(rig, rt, heard)


def test_F_31_another_version_is_not_even_looked_at() -> None:
    rig = Rig()
    line = up(rig)
    body = encode(
        Msg.SCCRQ,
        *hello_avps(0x5678),
        TIE_BREAKER(TIE),
        TUNNEL_RECOVERY(TunnelRecovery(line.local, line.remote)),
    )
    v3 = b"\xc8\x03" + (12 + len(body)).to_bytes(2, "big") + bytes(8) + body
    assert rig.feed(v3) == []
    assert rig.count(Counter.RX_BAD_VERSION) == 1
    assert len(rig.endpoint.tunnels) == 1


def test_T_19_a_tunnel_that_is_not_up_cannot_be_recovered() -> None:
    rig = Rig()
    line, _ = begin(rig)
    rt, heard = ask_recovery(rig, line)
    refused(rig, rt, heard)
    assert rig.endpoint.tunnels[line.remote].state is TunnelState.WAIT_CONNECT


def test_T_19_nor_one_that_is_closing() -> None:
    rig = Rig()
    line = from_lac(rig)
    rig.take(rig.endpoint.close_tunnel(line.remote, rig.now))
    rt, heard = ask_recovery(rig, line)
    refused(rig, rt, heard)


def test_F_32_the_sccrp_suggests_numbers() -> None:
    rig = Rig()
    line = up(rig)
    _, heard = ask_recovery(rig, line)
    assert suggestion(heard)


def test_F_18_and_T_25_no_capability_in_the_sccrp_even_if_the_peer_sends_one() -> None:
    rig = Rig()
    line = up(rig)
    rt = Line(rig, 0x5678)
    body = encode(
        Msg.SCCRQ,
        *hello_avps(0x5678),
        TIE_BREAKER(TIE),
        TUNNEL_RECOVERY(TunnelRecovery(line.local, line.remote)),
    )
    sccrp = only(rt.raw(body + FAILOVER_CAPABILITY(FailoverCap(True, True, 1)).data), Msg.SCCRP)
    assert FAILOVER_CAPABILITY not in sccrp.body
    rt.remote = sccrp.body.need(ASSIGNED_TUNNEL_ID)
    rt.say(Msg.SCCCN, *response(Msg.SCCCN, sccrp))
    kept = rig.endpoint.records(line.remote).peer_failover
    assert kept is not None
    assert kept.recovery_time_ms == C1.recovery_time_ms


def test_F_19_a_call_on_the_recovery_tunnel_is_ignored_and_counted() -> None:
    rig = Rig()
    line = up(rig)
    rt, _ = recover(rig, line)
    for kind, avps in (
        (Msg.ICRQ, [ASSIGNED_SESSION_ID(1), CALL_SERIAL_NUMBER(1)]),
        (Msg.FSQ, fss((1, 2))),
        (Msg.FSR, fss((1, 2))),
    ):
        assert types(rt.say(kind, *avps)) == [0]
    assert rig.count(Counter.RX_ON_RECOVERY_TUNNEL) == 3
    assert len(rig.endpoint.tunnels[line.remote].sessions) == 2
    assert types(rt.say(Msg.HELLO)) == [0]


def test_F_20_the_recovery_tunnel_gets_an_id_of_its_own() -> None:
    rig = Rig()
    line = up(rig)
    rt, _ = ask_recovery(rig, line)
    assert rt.remote not in (0, line.remote)


def test_F_21_and_T_4_the_old_tunnel_works_until_the_scccn_verifies() -> None:
    rig = Rig()
    line = up(rig)
    ask_recovery(rig, line)
    assert types(line.say(Msg.HELLO)) == [0]
    call_in(line, 0x0F00)
    assert len(rig.tunnel_of(line).sessions) == 3


def test_T_4_strict_discard_is_the_literal_reading_and_ends_with_the_set_up_time() -> None:
    rig = Rig(failover=FailoverSettings(strict_discard=True))
    line = up(rig)
    ask_recovery(rig, line)
    assert line.say(Msg.HELLO, ns=line.ns) == []
    assert rig.count(Counter.RX_DISCARDED_RECOVERING) == 1
    rig.later(5.1)
    assert types(line.say(Msg.HELLO)) == [0]


def test_F_34_at_the_remote_endpoint_strictly() -> None:
    rig = Rig(failover=FailoverSettings(strict_discard=True))
    line = up(rig)
    before = numbers(rig, line)
    ask_recovery(rig, line)
    line.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1))
    assert numbers(rig, line) == before
    assert rig.endpoint.tunnels[line.remote].established


def test_F_35_the_response_is_that_of_any_sccrp() -> None:
    rig = Rig()
    line = up(rig)
    _, heard = ask_recovery(rig, line)
    assert only(heard, Msg.SCCRP).body.get(CHALLENGE_RESPONSE)
    assert only(heard, Msg.SCCRP).body.get(CHALLENGE)


def test_F_36_the_secret_is_that_of_the_old_tunnel() -> None:
    rig = Rig()
    line = up(rig)
    rig.peer = PeerSettings(name="lac1", secret=b"a new secret")
    _, said = recover(rig, line)
    assert Msg.FSQ in types(said)
    rig = Rig()
    line = up(rig)
    rig.peer = PeerSettings(name="lac1", secret=b"a new secret")
    rt, heard = ask_recovery(rig, line)
    bad = rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP), b"a new secret"))
    assert types(bad) == [Msg.STOPCCN]


def test_F_37_a_bad_response_resets_nothing() -> None:
    rig = Rig()
    line = up(rig)
    before = numbers(rig, line)
    rt, heard = ask_recovery(rig, line)
    stop = only(rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP), b"guess")), Msg.STOPCCN)
    assert result(stop)[0] == StopCcn.NOT_AUTHORISED
    assert numbers(rig, line) == before
    assert types(line.say(Msg.HELLO)) == [0]
    assert not rig.endpoint.tunnels[line.remote].pending_recovery_id


def test_F_40_what_was_queued_before_is_not_carried_over() -> None:
    rig = Rig()
    line = up(rig)
    local = next(iter(rig.tunnel().sessions))
    rig.take(rig.endpoint.probe(line.remote, rig.now))
    rig.take(rig.endpoint.close_session(line.remote, local, rig.now))
    rig.heard.clear()
    recover(rig, line)
    line.zlb()
    rig.later(20)
    assert not {Msg.CDN, Msg.HELLO} & set(types(rig.heard))


def test_F_42_the_reset_is_at_the_scccn_and_not_before() -> None:
    rig = Rig()
    line = up(rig)
    before = numbers(rig, line)
    rt, heard = ask_recovery(rig, line)
    assert numbers(rig, line) == before
    rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    assert numbers(rig, line) != before


def test_F_42_if_the_recovery_fails_the_old_numbers_go_on() -> None:
    rig = Rig()
    line = up(rig)
    ask_recovery(rig, line)
    rig.later(6)
    assert list(rig.endpoint.tunnels) == [line.remote]
    heard = line.say(Msg.HELLO)
    assert (heard[0].ns, heard[0].nr) == (line.nr, line.ns)


def test_F_44_and_T_1_our_numbers_are_the_mirror_of_what_we_suggested() -> None:
    rig = Rig()
    line = up(rig)
    rt, heard = ask_recovery(rig, line)
    scs = suggestion(heard)
    said = rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    fsq = only(said, Msg.FSQ)
    assert (fsq.ns, fsq.nr) == (scs.nr, scs.ns)


def test_F_46_without_a_suggestion_both_are_zero() -> None:
    rig = Rig(failover=FailoverSettings(suggest_sequence=False))
    line = up(rig)
    rt, heard = ask_recovery(rig, line)
    assert SUGGESTED_CONTROL_SEQUENCE not in only(heard, Msg.SCCRP).body
    fsq = only(rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP))), Msg.FSQ)
    assert (fsq.ns, fsq.nr) == (0, 0)


@pytest.mark.parametrize("seed", range(8))
def test_T_11_every_stale_message_counts_as_a_duplicate_after_the_reset(seed: int) -> None:
    rig = Rig(seed=seed)
    line = up(rig)
    ns, nr = numbers(rig, line)
    _, heard = ask_recovery(rig, line)
    scs = suggestion(heard)
    for behind in (-4096, -1, 0, 15):
        assert seq.is_duplicate(seq.add(nr, behind), seq.add(scs.ns, -1))
        assert seq.is_duplicate(seq.add(ns, behind), seq.add(scs.nr, -1))


def test_T_12_a_stale_message_after_the_reset_draws_an_acknowledgement_and_nothing_else() -> None:
    rig = Rig()
    line = up(rig)
    stale, stale_nr = line.ns - 1, line.nr
    recover(rig, line)
    heard = line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0F00), CALL_SERIAL_NUMBER(9), ns=stale, nr=stale_nr)
    assert types(heard) == [0]
    assert (heard[0].nr, len(rig.tunnel_of(line).sessions)) == (line.ns, 2)


def test_F_47_a_stopccn_on_the_recovery_tunnel_touches_no_session() -> None:
    rig = Rig()
    line = up(rig)
    rt, _ = recover(rig, line)
    assert types(rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(1))) == [0]
    assert len(rig.tunnel_of(line).sessions) == 2
    assert not rig.of(TunnelDown)
    rig.later(32)
    assert list(rig.endpoint.tunnels) == [line.remote]


def test_T_9_a_recovery_tunnel_that_nobody_closes_is_closed_after_a_while() -> None:
    rig = Rig()
    line = up(rig)
    rt, _ = recover(rig, line)
    line.zlb()
    stop = [h for h in rt.later(30.5) if h.tunnel_id == rt.local]
    assert types(stop) == [Msg.STOPCCN]
    assert result(stop[0])[0] == StopCcn.CLEAR_REQUEST
    assert rig.endpoint.tunnels[line.remote].established


def test_F_48_a_call_right_after_the_reset_is_taken() -> None:
    rig = Rig()
    line = up(rig)
    recover(rig, line)
    line.zlb()
    call_in(line, 0x0F00)
    assert len(rig.tunnel_of(line).sessions) == 3


def test_F_58_half_made_sessions_are_cleared_in_silence() -> None:
    rig = Rig()
    line = up(rig, 1)
    line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0F00), CALL_SERIAL_NUMBER(9))
    rig.heard.clear()
    recover(rig, line)
    line.zlb()
    rig.later(40)
    assert Msg.CDN not in types(rig.heard)
    assert [s.state for s in rig.tunnel_of(line).sessions.values()] == [SessionState.ESTABLISHED]
    assert [n.cause for n in rig.news if isinstance(n, SessionDown)] == [Cause.PURGED]


def test_F_70_the_id_of_a_purged_session_is_not_used_again_soon() -> None:
    rig = Rig()
    line = up(rig, 0)
    icrp = only(line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(1), CALL_SERIAL_NUMBER(9)), Msg.ICRP)
    purged = icrp.body.need(ASSIGNED_SESSION_ID)
    recover(rig, line)
    line.zlb()
    assert purged not in {call_in(line, 0x100 + k) for k in range(100)}


def test_T_6_the_sccrq_is_the_first_sign_of_a_failure() -> None:
    rig = Rig()
    line = up(rig)
    assert not rig.endpoint.suspect(line.remote)
    recover(rig, line)
    assert [n.phase for n in rig.news if isinstance(n, Recovery)][:2] == [
        RecoveryPhase.RESET,
        RecoveryPhase.CONFIRMED,
    ]


def test_T_7_a_recovery_that_fails_leaves_the_old_tunnel_as_it_was() -> None:
    rig = Rig()
    line = up(rig)
    rt, _ = ask_recovery(rig, line)
    assert rig.endpoint.suspect(line.remote)
    rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(2))
    assert not rig.endpoint.suspect(line.remote)
    assert types(line.say(Msg.HELLO)) == [0]
    assert len(rig.tunnel_of(line).sessions) == 2


def test_T_7_and_may_be_tried_again() -> None:
    rig = Rig()
    line = up(rig)
    rt, _ = ask_recovery(rig, line)
    rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(2))
    _, said = recover(rig, line, 0x5679)
    assert Msg.FSQ in types(said)


def test_T_8_a_repeated_scccn_is_acknowledged_and_resets_nothing() -> None:
    rig = Rig()
    line = up(rig)
    rt, heard = ask_recovery(rig, line)
    avps = response(Msg.SCCCN, only(heard, Msg.SCCRP))
    rt.say(Msg.SCCCN, *avps)
    after = numbers(rig, line)
    assert types(rt.say(Msg.SCCCN, *avps, ns=1)) == [0]
    assert numbers(rig, line) == after
    assert rig.count(Counter.RX_DUPLICATE) == 1


def test_T_17_a_second_crash_of_the_peer_replaces_the_first_recovery() -> None:
    rig = Rig()
    line = up(rig)
    ask_recovery(rig, line, 0x5678)
    rig.later(1.5)
    rt, said = recover(rig, line, 0x5679)
    assert Msg.FSQ in types(said)
    assert rt.remote in rig.endpoint.tunnels


def test_T_17_after_the_first_reset_it_resets_again_with_new_numbers() -> None:
    rig = Rig()
    line = up(rig)
    recover(rig, line, 0x5678)
    first = (line.ns, line.nr)
    _, said = recover(rig, line, 0x5679)
    assert (line.ns, line.nr - 1) != first
    fsq = only(said, Msg.FSQ)
    assert len(states(fsq)) == 2
    assert not rig.of(SessionDown)


def test_T_17_the_first_recovery_tunnel_says_nothing_that_matters_any_more() -> None:
    rig = Rig()
    line = up(rig)
    first, heard = ask_recovery(rig, line, 0x5678)
    rig.later(1.5)
    recover(rig, line, 0x5679)
    after = numbers(rig, line)
    assert first.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP))) == []
    assert numbers(rig, line) == after


def test_T_20_the_answer_goes_where_the_sccrq_came_from() -> None:
    rig = Rig()
    line = up(rig)
    _, heard = ask_recovery(rig, line, source=(PEER[0], 40_000))
    assert only(heard, Msg.SCCRP).to == (PEER[0], 40_000)


def test_T_21_the_old_tunnel_moves_with_its_peer_but_only_at_the_scccn() -> None:
    rig = Rig()
    line = up(rig)
    new = (PEER[0], 40_000)
    rt, heard = ask_recovery(rig, line, source=new)
    assert rig.endpoint.tunnels[line.remote].peer_address == PEER
    said = rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    assert only(said, Msg.FSQ).to == new
    assert rig.of(PeerMoved) == [PeerMoved(line.remote)]
    assert (rig.tunnels[line.remote].peer_port, rig.tunnels[line.remote].peer_address) == (40_000, PEER[0])
    assert not rig.endpoint.ctx.by_sccrq.get((PEER, line.local))


def test_T_21_and_F_S2_a_configured_backup_may_recover() -> None:
    rig = Rig()
    rig.peer = PeerSettings(name="lac1", secret=SECRET, recovery_addresses=(BACKUP[0],))
    line = up(rig)
    rt, heard = ask_recovery(rig, line, source=BACKUP)
    said = rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    assert only(said, Msg.FSQ).to == BACKUP


def test_F_S2_another_address_may_not() -> None:
    rig = Rig()
    line = up(rig)
    before = numbers(rig, line)
    rt, heard = ask_recovery(rig, line, source=STRANGER)
    refused(rig, rt, heard)
    assert numbers(rig, line) == before
    assert rig.endpoint.tunnels[line.remote].peer_address == PEER


def test_T_28_another_host_with_the_same_secret_may_not() -> None:
    rig = Rig()
    line = up(rig)
    rt, heard = ask_recovery(rig, line, host="lac2")
    refused(rig, rt, heard)


def test_T_27_the_window_of_the_recovery_tunnel_is_not_that_of_the_old_one() -> None:
    rig = Rig()
    line = from_lac(rig, window=7)
    recover(rig, line)
    channel = rig.endpoint.tunnels[line.remote].channel
    assert (channel.peer_window, channel.ssthresh) == (7, 7)


def test_T_41_a_recovery_tunnel_needs_no_place_among_the_tunnels() -> None:
    rig = Rig(max_tunnels=2)
    line = up(rig)
    _, said = recover(rig, line)
    assert Msg.FSQ in types(said)
    assert rig.count(Counter.TUNNELS_OPENED) == 1
    assert from_lac(rig, 0x1112).remote
    line.zlb()
    rig.later(40)
    assert rig.count(Counter.TUNNELS_CLOSED) == 0


def test_F_3_a_dead_peer_is_waited_for_not_recovered() -> None:
    rig = Rig()
    line = up(rig)
    rig.heard.clear()
    rig.take(rig.endpoint.probe(line.remote, rig.now))
    rig.later(59)
    assert {h.tunnel_id for h in rig.heard} == {line.local}
    assert set(types(rig.heard)) == {Msg.HELLO}


def test_T_23_a_lac_is_told_of_the_call_that_was_purged() -> None:
    rig = Rig()
    line = to_lns(rig)
    call_out(line)
    recover(rig, line)
    assert not rig.of(SessionDown)


def test_appendix_A_as_remote_endpoint() -> None:
    rig = Rig()
    old = from_lac(rig)
    s1, s2 = call_in(old, 0x0A11), call_in(old, 0x0A12)
    rt, heard = ask_recovery(rig, old)
    scs = suggestion(heard)
    old.ns, old.nr = scs.ns, scs.nr
    said = old.note(rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP))))
    assert [h.type for h in said if h.tunnel_id == rt.local] == [0]
    assert sorted(states(only(said, Msg.FSQ))) == sorted([(s1, 0x0A11), (s2, 0x0A12)])
    rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(1))
    said = old.say(Msg.FSQ, *fss((0x0A11, s1), (0x0A99, 0x0999)))
    assert states(only(said, Msg.FSR)) == [(s1, 0x0A11), (0, 0x0A99)]
    old.say(Msg.FSR, *fss((0x0A11, s1), (0, s2)))
    assert list(rig.tunnel_of(old).sessions) == [s1]
