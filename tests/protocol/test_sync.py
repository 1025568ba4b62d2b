"""Session state synchronisation: RFC 4951 3.3, 4.1, 4.2, 5.4, appendix C; rows F-58…F-72 and their traps."""

import pytest

from holdfast.core.counters import Counter
from holdfast.protocol.effects import Cause, Recovery, RecoveryPhase, SessionDown, Trace
from holdfast.protocol.session import Call
from holdfast.protocol.settings import ChannelSettings
from holdfast.records import session_key
from holdfast.wire.dictionary import ASSIGNED_SESSION_ID, CALL_SERIAL_NUMBER, FAILOVER_SESSION_STATE
from holdfast.wire.messages import MAX_FSS, Msg, decode, encode
from protocol.pair import Pair
from protocol.script import (
    Heard,
    Line,
    Rig,
    answer_recovery,
    call_in,
    call_out,
    from_lac,
    fss,
    only,
    recover,
    result,
    result_code,
    states,
    to_lns,
    types,
)


def recovered(rig: Rig, sessions: int = 2) -> tuple[Line, list[int], list[Heard]]:
    """The peer has recovered a tunnel with sessions; the FSQ that followed is not answered yet."""
    line = from_lac(rig)
    local = [call_in(line, 0x0A11 + k) for k in range(sessions)]
    rig.news.clear()
    _, said = recover(rig, line)
    return line, local, said


def downs(rig: Rig) -> list[SessionDown]:
    return [n for n in rig.news if isinstance(n, SessionDown)]


def sessions(rig: Rig, line: Line) -> list[int]:
    return sorted(rig.tunnel_of(line).sessions)


def test_F_59_a_query_is_answered_at_any_time() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    fsr = only(line.say(Msg.FSQ, *fss((0x0A11, local))), Msg.FSR)
    assert states(fsr) == [(local, 0x0A11)]


def test_F_60_a_query_names_at_least_one_session() -> None:
    rig = Rig()
    _, _, said = recovered(rig, 0)
    assert Msg.FSQ not in types(said)
    assert [n.phase for n in rig.news if isinstance(n, Recovery)][-1] is RecoveryPhase.SYNCHRONISED


def test_F_60_an_empty_query_is_harmless() -> None:
    rig = Rig()
    line = from_lac(rig)
    assert types(line.raw(bytes.fromhex("0008000000000015"))) == [0]


def test_F_61_and_T_36_many_sessions_make_several_queries_without_waiting() -> None:
    rig = Rig()
    count = 2 * MAX_FSS + 3
    line, local, said = recovered(rig, count)
    queries = [h for h in said if h.type == Msg.FSQ]
    line.note(queries)
    while len(queries) < 3:
        more = [h for h in line.zlb() if h.type == Msg.FSQ]
        assert more, "the next query needs no answer to the first"
        queries += more
    asked = [s for q in queries for s in states(q)]
    assert sorted(a for a, _ in asked) == sorted(local)
    assert all(len(q.data) <= 12 + 8 + 16 * MAX_FSS for q in queries)
    assert max(len(q.data) for q in queries) <= 1_280 - 28


def test_F_62_every_entry_is_answered_exactly_once() -> None:
    rig = Rig()
    line, local, _ = recovered(rig, 3)
    asked = [(0x0A11, local[0]), (0x0A12, local[1]), (7, 8), (0x0A13, local[2]), (7, 8)]
    heard = line.say(Msg.FSQ, *fss(*asked))
    answers = [s for h in heard if h.type == Msg.FSR for s in states(h)]
    assert sorted(r for _, r in answers) == sorted(a for a, _ in asked)


def test_F_62_more_entries_than_fit_one_answer() -> None:
    rig = Rig()
    line = from_lac(rig)
    body = encode(Msg.FSQ, *fss(*[(k, 1) for k in range(1, MAX_FSS + 1)]))
    body += b"".join(a.data for a in fss(*[(k, 1) for k in range(100, 120)]))
    heard = line.raw(body) + line.zlb()
    answers = [s for h in heard if h.type == Msg.FSR for s in states(h)]
    assert len(answers) == MAX_FSS + 20


def test_F_63_and_F_64_and_T_2_the_lookup_is_by_our_own_id() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line, 0x0A11)
    fsr = only(line.say(Msg.FSQ, *fss((0x0A11, local))), Msg.FSR)
    assert states(fsr) == [(local, 0x0A11)]
    fsr = only(line.say(Msg.FSQ, *fss((local, 0x0A11))), Msg.FSR)
    assert states(fsr) == [(0, local)]


def test_F_63_a_session_that_is_not_established_does_not_exist() -> None:
    rig = Rig()
    line = from_lac(rig)
    icrp = only(line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(5), CALL_SERIAL_NUMBER(1)), Msg.ICRP)
    local = icrp.body.need(ASSIGNED_SESSION_ID)
    fsr = only(line.say(Msg.FSQ, *fss((5, local))), Msg.FSR)
    assert states(fsr) == [(0, 5)]


@pytest.mark.parametrize("asked", [(0x0A11, 0), (0, 0), (0, 9), (0x0A11, 0xFFFF)])
def test_F_65_and_F_67_and_T_33_what_is_missing_is_answered_with_zero(asked: tuple[int, int]) -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    fsr = only(line.say(Msg.FSQ, *fss(asked)), Msg.FSR)
    assert states(fsr) == [(0, asked[0])]
    assert len(rig.tunnel().sessions) == 1


def test_F_66_a_session_that_is_paired_differently_is_not_cleared_but_asked_about() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line, 0x0A11)
    heard = line.say(Msg.FSQ, *fss((0x0BBB, local)))
    heard += line.zlb()
    assert states(only(heard, Msg.FSR)) == [(0, 0x0BBB)]
    assert states(only(heard, Msg.FSQ)) == [(local, 0x0A11)]
    assert sessions(rig, line) == [local]
    line.say(Msg.FSR, *fss((0, local)))
    assert sessions(rig, line) == []


def test_F_66_it_is_asked_about_once() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line, 0x0A11)
    heard = []
    for _ in range(3):
        heard += line.say(Msg.FSQ, *fss((0x0BBB, local)))
        heard += line.zlb()
    assert types(heard).count(Msg.FSQ) == 1


def test_F_68_zero_clears_in_silence_anything_else_confirms() -> None:
    rig = Rig()
    line, local, _ = recovered(rig)
    rig.heard.clear()
    line.say(Msg.FSR, *fss((0, local[0]), (0x0A12, local[1])))
    line.later(40)
    assert sessions(rig, line) == [local[1]]
    assert Msg.CDN not in types(rig.heard)
    (down,) = downs(rig)
    assert (down.session_id, down.cause, down.established) == (local[0], Cause.STALE, True)
    assert rig.count(Counter.STALE_CLEARED) == 1


def test_F_68_and_T_2_the_answer_is_matched_by_the_remote_session_id() -> None:
    rig = Rig()
    line, local, _ = recovered(rig, 2)
    line.say(Msg.FSR, *fss((local[1], local[0])))
    assert sessions(rig, line) == sorted(local), "a Session ID that happens to be one of ours says nothing"


def test_F_69_and_T_35_an_icrq_for_an_established_session_ends_that_session() -> None:
    rig = Rig()
    line, local, _ = recovered(rig, 2)
    line.zlb()
    heard = line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0A11), CALL_SERIAL_NUMBER(9))
    cdn = only(heard, Msg.CDN)
    assert cdn.session_id == 0x0A11
    assert cdn.body.need(ASSIGNED_SESSION_ID) == local[0]
    assert result(cdn) == (2, 5)
    assert sessions(rig, line) == [local[1]]
    assert Msg.ICRP not in types(heard)


def test_T_35_also_long_after_the_recovery() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line, 0x0A11)
    heard = line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0A11), CALL_SERIAL_NUMBER(9))
    assert result(only(heard, Msg.CDN)) == (2, 5)
    assert [n.event for n in rig.news if isinstance(n, Trace)] == ["peer.reused_session_id"]
    call_in(line, 0x0A11)
    assert len(rig.tunnel().sessions) == 1


def test_T_35_the_cdn_ends_the_new_call_of_the_lac_that_reused_the_id() -> None:
    rig = Rig()
    line = to_lns(rig)
    local, effects = rig.endpoint.place_call(line.remote, Call(), rig.now)
    line.note(rig.take(effects))
    line.say(Msg.CDN, result_code(2, 5), ASSIGNED_SESSION_ID(0x0011), session=local)
    assert not rig.tunnel().sessions
    assert [(d.result, d.error) for d in downs(rig)] == [(2, 5)]


def test_F_71_queries_and_answers_go_over_the_old_tunnel() -> None:
    rig = Rig()
    line, local, said = recovered(rig)
    said += line.say(Msg.FSQ, *fss((0x0A11, local[0])))
    assert {h.tunnel_id for h in said if h.type in (Msg.FSQ, Msg.FSR)} == {line.local}


def test_F_72_a_lost_cdn_leaves_no_half_open_session() -> None:
    pair = Pair()
    tunnel = pair.connect()
    pair.call(tunnel, 3)
    lns = pair.lns.endpoint.ctx.established()[0]
    victim = next(iter(lns.sessions))
    pair.lose = lambda data, to: True
    pair.deliver(pair.lns, pair.lns.endpoint.close_session(lns.local_id, victim, pair.now))
    pair.lns.sessions.pop(session_key(lns.local_id, victim))
    pair.crash(pair.lns)
    pair.lose = lambda data, to: False
    pair.restart(pair.lns)
    pair.run(5)
    left = [len(s.endpoint.ctx.established()[0].sessions) for s in (pair.lns, pair.lac)]
    assert left == [2, 2]


def test_F_72_and_T_22_a_lost_iccn_leaves_no_half_open_session() -> None:
    pair = Pair()
    tunnel = pair.connect()
    pair.call(tunnel, 1)
    pair.lose = lambda data, to: len(data) > 20 and decode(data[12:]).type == Msg.ICCN
    _, effects = pair.lac.endpoint.place_call(tunnel, Call(), pair.now)
    pair.deliver(pair.lac, effects)
    pair.lac.record_sessions()
    assert len(pair.lac.sessions) == 2
    assert len(pair.lns.sessions) == 1
    pair.crash(pair.lns)
    pair.lose = lambda data, to: False
    pair.restart(pair.lns)
    pair.run(5)
    left = [len(s.endpoint.ctx.established()[0].sessions) for s in (pair.lns, pair.lac)]
    assert left == [1, 1]


def test_F_83_and_F_88_the_sender_s_own_id_comes_first() -> None:
    rig = Rig()
    line, local, said = recovered(rig, 1)
    assert states(only(said, Msg.FSQ)) == [(local[0], 0x0A11)]
    fsr = only(line.say(Msg.FSQ, *fss((0x0A11, local[0]))), Msg.FSR)
    assert states(fsr) == [(local[0], 0x0A11)]


def test_F_84_and_F_85_and_F_90_neither_message_is_mandatory_nor_of_a_session() -> None:
    rig = Rig()
    line, local, said = recovered(rig, 1)
    said += line.say(Msg.FSQ, *fss((0x0A11, local[0])))
    for kind in (Msg.FSQ, Msg.FSR):
        message = only(said, kind)
        assert not message.body.mandatory
        assert message.session_id == 0
        assert set(message.body.values) == {FAILOVER_SESSION_STATE.key}
    fsq, fsr = only(said, Msg.FSQ), only(said, Msg.FSR)
    assert fsr.ns == fsq.ns + 1, "each takes one number"


def test_F_86_and_T_31_other_avps_in_a_query_are_ignored_even_mandatory_ones() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    body = encode(Msg.FSQ, *fss((0x0A11, local))) + bytes.fromhex("800800000fa0beef")
    assert states(only(line.raw(body), Msg.FSR)) == [(local, 0x0A11)]
    assert rig.tunnel().established


def test_F_89_reserved_bits_are_ignored() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    body = bytearray(encode(Msg.FSQ, *fss((0x0A11, local))))
    body[14:18] = b"\xff" * 4
    body[20:22] = b"\xff" * 2
    assert states(only(line.raw(bytes(body)), Msg.FSR)) == [(local, 0x0A11)]


def test_T_30_without_an_answer_it_asks_again_and_then_keeps_the_sessions() -> None:
    rig = Rig()
    line, local, _ = recovered(rig)
    line.zlb()
    for _ in range(2):
        heard = line.later(10.1)
        assert len(states(only(heard, Msg.FSQ))) == 2
        line.zlb()
    assert Msg.FSQ not in types(line.later(30))
    assert sessions(rig, line) == sorted(local)
    assert [n.event for n in rig.news if isinstance(n, Trace) and n.level == "error"] == [
        "recovery.unanswered"
    ]
    assert [n.phase for n in rig.news if isinstance(n, Recovery)][-1] is RecoveryPhase.SYNCHRONISED


def test_T_30_a_late_answer_still_counts() -> None:
    rig = Rig()
    line, local, _ = recovered(rig, 1)
    line.zlb()
    line.later(35)
    line.say(Msg.FSR, *fss((0, local[0])))
    assert sessions(rig, line) == []


def test_T_32_an_answer_that_contradicts_the_pairing_confirms_but_is_asked_once_more() -> None:
    rig = Rig()
    line, local, _ = recovered(rig, 1)
    heard = line.say(Msg.FSR, *fss((0x0BBB, local[0])))
    assert states(only(heard, Msg.FSQ)) == [(local[0], 0x0A11)]
    assert sessions(rig, line) == local
    heard = line.say(Msg.FSR, *fss((0x0BBB, local[0])))
    assert Msg.FSQ not in types(heard)
    assert sessions(rig, line) == local
    assert rig.count(Counter.FSR_CONTRADICTS) == 2
    assert [n.phase for n in rig.news if isinstance(n, Recovery)][-1] is RecoveryPhase.SYNCHRONISED


def test_T_33_an_answer_to_nothing_clears_nothing() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    line.say(Msg.FSR, *fss((0, local), (0, 0), (5, 0), (0, 0x7777), (9, local)))
    assert sessions(rig, line) == [local]
    assert not downs(rig)


def test_T_33_nor_does_a_second_answer_to_one_question() -> None:
    rig = Rig()
    line, local, _ = recovered(rig, 1)
    line.say(Msg.FSR, *fss((0x0A11, local[0])))
    line.say(Msg.FSR, *fss((0, local[0])))
    assert sessions(rig, line) == local


def test_T_34_an_answer_about_a_session_that_has_gone_meanwhile_is_ignored() -> None:
    rig = Rig()
    line, local, _ = recovered(rig, 1)
    line.say(Msg.CDN, result_code(3), ASSIGNED_SESSION_ID(0x0A11), session=local[0])
    line.say(Msg.FSR, *fss((0, local[0])))
    assert len(downs(rig)) == 1


def test_T_34_nor_does_it_hit_a_new_session_with_the_same_id() -> None:
    rig = Rig()
    line, local, _ = recovered(rig, 1)
    line.say(Msg.CDN, result_code(3), ASSIGNED_SESSION_ID(0x0A11), session=local[0])
    tunnel = rig.tunnel_of(line)
    tunnel.ids.reserve(i for i in range(1, 0x10000) if i != local[0])
    reused = call_in(line, 0x0A22)
    assert reused == local[0], "the only id that is left"
    line.say(Msg.FSR, *fss((0, local[0])))
    assert sessions(rig, line) == local


def test_T_43_a_stale_session_of_a_lac_is_told_to_its_owner() -> None:
    rig = Rig()
    line = to_lns(rig)
    local = call_out(line)
    recover(rig, line)
    line.say(Msg.FSR, *fss((0, local)))
    assert [(d.session_id, d.cause) for d in downs(rig)] == [(local, Cause.STALE)]


def test_appendix_C_as_remote_endpoint() -> None:
    """We hold (B, C); the peer holds (A, B) and (C, D)."""
    rig = Rig()
    a, c = 0x00AA, 0x00CC
    line = from_lac(rig)
    b = call_in(line, c)
    heard = line.say(Msg.FSQ, *fss((a, b)))
    heard += line.zlb()
    assert states(only(heard, Msg.FSR)) == [(0, a)]
    assert states(only(heard, Msg.FSQ)) == [(b, c)]
    assert sessions(rig, line) == [b]
    line.say(Msg.FSR, *fss((0, b)))
    assert sessions(rig, line) == []
    d = 0x00DD
    fsr = only(line.say(Msg.FSQ, *fss((c, d))), Msg.FSR)
    assert states(fsr) == [(0, c)]


def test_appendix_C_as_recovery_endpoint() -> None:
    """We hold (A, B) and (C, D); the peer holds (B, C)."""
    rig = Rig()
    line = from_lac(rig)
    b, d = 0x00BB, 0x00DD
    a, c = call_in(line, b), call_in(line, d)
    rig.crash()
    rt, _ = answer_recovery(rig, only(rig.restart(), Msg.SCCRQ), scs=(3, 100))
    line.nr, line.ns = 3, 100
    fsq = only(line.note(rt.zlb()), Msg.FSQ)
    assert sorted(states(fsq)) == sorted([(a, b), (c, d)])
    line.say(Msg.FSR, *fss((0, a)))
    assert sessions(rig, line) == [c], "A is cleared, without a word"
    heard = line.say(Msg.FSQ, *fss((b, c)))
    assert states(only(heard, Msg.FSR)) == [(0, b)]
    assert sessions(rig, line) == [c], "C is only stale"
    line.say(Msg.FSR, *fss((0, c)))
    assert sessions(rig, line) == []


def test_a_small_window_paces_the_queries() -> None:
    rig = Rig(channel=ChannelSettings(receive_window=4))
    line = from_lac(rig, window=1)
    for k in range(MAX_FSS * 2):
        call_in(line, 0x0A11 + k)
    _, said = recover(rig, line)
    assert types(said).count(Msg.FSQ) == 1
    assert types(line.zlb()).count(Msg.FSQ) == 1
