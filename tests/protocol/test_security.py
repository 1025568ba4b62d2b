"""What an outsider can do to a recovery: RFC 4951 8, RFC 2661 9.1; rows F-S1…F-S6, T-28, T-29."""

from itertools import pairwise

from holdfast.core.clock import SECOND
from holdfast.core.counters import Counter
from holdfast.protocol.effects import Recovery
from holdfast.protocol.settings import FailoverSettings, PeerSettings
from holdfast.wire.codes import StopCcn
from holdfast.wire.dictionary import ASSIGNED_TUNNEL_ID, FAILOVER_CAPABILITY, SUGGESTED_CONTROL_SEQUENCE
from holdfast.wire.messages import Msg
from protocol.script import (
    SECRET,
    STRANGER,
    Heard,
    Rig,
    ask_recovery,
    begin,
    call_in,
    from_lac,
    only,
    recover,
    response,
    result,
    result_code,
    types,
)


def shape(heard: list[Heard]) -> list[tuple[object, ...]]:
    """All that an outsider can see, apart from the random values."""
    return [
        (h.type, len(h.data), h.ns, h.nr, tuple(h.body.values) if h.msg is not None else (), h.session_id)
        for h in heard
    ]


def test_F_S1_without_a_secret_nothing_is_recovered() -> None:
    rig = Rig(secret=b"")
    line = from_lac(rig)
    _, heard = ask_recovery(rig, line, challenge=None)
    assert result(only(heard, Msg.STOPCCN))[0] == StopCcn.NOT_AUTHORISED
    assert rig.count(Counter.RECOVERY_REFUSED) == 1
    assert types(line.say(Msg.HELLO)) == [0]


def test_F_S1_nor_is_the_capability_advertised_then() -> None:
    rig = Rig(secret=b"")
    _, heard = begin(rig)
    assert FAILOVER_CAPABILITY not in only(heard, Msg.SCCRP).body


def test_F_S1_unless_that_is_what_the_operator_wants() -> None:
    rig = Rig(secret=b"", failover=FailoverSettings(require_secret=False))
    line = from_lac(rig)
    call_in(line)
    rt, heard = ask_recovery(rig, line, challenge=None)
    assert Msg.FSQ in types(rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP))))


def test_F_S3_the_suggested_numbers_cannot_be_predicted() -> None:
    seen = set()
    for seed in range(10):
        rig = Rig(seed=seed)
        line = from_lac(rig)
        _, heard = ask_recovery(rig, line)
        scs = only(heard, Msg.SCCRP).body.need(SUGGESTED_CONTROL_SEQUENCE)
        seen.add((scs.ns, scs.nr))
    assert len(seen) == 10


def test_F_S3_two_recoveries_of_one_tunnel_suggest_different_numbers() -> None:
    rig = Rig()
    line = from_lac(rig)
    recover(rig, line)
    first = (line.ns, line.nr)
    recover(rig, line, 0x5679)
    assert (line.ns, line.nr) != first


def test_F_S4_and_F_29_an_id_that_does_not_exist_is_answered_like_one_that_does() -> None:
    answers = []
    for unknown in (False, True):
        rig = Rig()
        line = from_lac(rig)
        ids = (line.local ^ 0x0101, line.remote) if unknown else (line.local, line.remote)
        rt, heard = ask_recovery(rig, line, ids=ids)
        seen = shape(heard)
        guess = response(Msg.SCCCN, only(heard, Msg.SCCRP), b"guess")
        seen += shape(rt.say(Msg.SCCCN, *guess))
        answers.append(seen)
    assert answers[0] == answers[1]


def test_F_S4_also_when_it_is_asked_for_again_at_once_and_later() -> None:
    answers = []
    for unknown in (False, True):
        rig = Rig()
        line = from_lac(rig)
        ids = (line.local, line.remote ^ 0x0101) if unknown else (line.local, line.remote)
        seen = []
        for k, wait in enumerate((0.0, 0.4, 0.8, 4.0, 6.0)):
            rig.later(wait)
            _, heard = ask_recovery(rig, line, 0x5000 + k, ids=ids)
            seen += shape(heard)
            seen.append(("then",))
        answers.append(seen)
    assert answers[0] == answers[1]


def test_F_S4_with_the_right_secret_the_refusal_comes_after_the_scccn() -> None:
    rig = Rig()
    line = from_lac(rig)
    rt, heard = ask_recovery(rig, line, ids=(line.local, 0x0BAD))
    assert Msg.SCCRP in types(heard)
    stop = only(rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP))), Msg.STOPCCN)
    assert result(stop) == (4, 0)
    assert stop.nr == 2, "it acknowledges the SCCCN as well"


def test_F_S4_the_refusal_is_delivered_even_if_the_peer_says_stopccn_meanwhile() -> None:
    rig = Rig()
    line = from_lac(rig)
    rt, heard = ask_recovery(rig, line, ids=(line.local, 0x0BAD))
    rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    rt.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(rt.local), result_code(1), nr=1)
    again = only(rig.later(1), Msg.STOPCCN)
    assert result(again) == (4, 0)


def test_F_S5_recovery_tunnel_ids_are_random() -> None:
    rig = Rig()
    lines = [from_lac(rig, 0x1100 + k) for k in range(12)]
    rig.crash()
    ids = [h.body.need(ASSIGNED_TUNNEL_ID) for h in rig.restart()]
    gaps = {b - a for a, b in pairwise(sorted(ids))}
    assert len(ids) == len(lines)
    assert len(gaps) > 8


def test_F_S6_one_pending_attempt_for_one_old_tunnel() -> None:
    rig = Rig()
    line = from_lac(rig)
    for k in range(1_000):
        ask_recovery(rig, line, 0x2000 + k)
    assert len(rig.endpoint.tunnels) == 2
    assert rig.count(Counter.SCCRQ_RATE_LIMITED) == 999


def test_F_S6_a_flood_of_claims_is_bounded_in_memory_and_costs_no_tunnel() -> None:
    rig = Rig(max_half_open=100, sccrq_per_second=500)
    line = from_lac(rig)
    call_in(line)
    for k in range(10_000):
        rig.now += SECOND // 10_000
        ask_recovery(rig, line, k + 1, ids=(k, 7))
    assert len(rig.endpoint.tunnels) <= 102
    assert len(rig.endpoint.ctx.half_open) <= 100
    assert types(line.say(Msg.HELLO)) == [0]
    rig.later(40)
    assert list(rig.endpoint.tunnels) == [line.remote]
    assert not rig.endpoint.ctx.half_open
    assert not rig.endpoint.ctx.decoys


def test_F_S6_ordinary_set_ups_too() -> None:
    rig = Rig(max_half_open=100, sccrq_per_second=500)
    line = from_lac(rig)
    for k in range(10_000):
        rig.now += SECOND // 10_000
        begin(rig, k + 0x2000, source=(STRANGER[0], 1024 + k))
    assert len(rig.endpoint.tunnels) <= 101
    assert len(rig.endpoint.ctx.by_sccrq) <= 101
    assert types(line.say(Msg.HELLO)) == [0]
    rig.later(100)
    assert len(rig.endpoint.ctx.by_sccrq) == 1


def test_F_S6_set_ups_that_fail_to_authenticate_are_bounded_as_well() -> None:
    rig = Rig(max_half_open=50)
    line = from_lac(rig)
    for k in range(400):
        attempt, heard = begin(rig, 0x2000 + k)
        if Msg.SCCRP in types(heard):
            attempt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP), b"guess"))
    assert len(rig.endpoint.tunnels) <= 51
    assert types(line.say(Msg.HELLO)) == [0]


def test_T_29_an_sccrq_changes_nothing_on_the_old_tunnel() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    tunnel = rig.tunnel()
    channel = tunnel.channel
    before = (channel.ns, channel.nr, channel.acked, channel.peer_window, tunnel.hello_at, tunnel.secret)
    ask_recovery(rig, line, source=STRANGER)
    ask_recovery(rig, line, 0x5679)
    after = (channel.ns, channel.nr, channel.acked, channel.peer_window, tunnel.hello_at, tunnel.secret)
    assert after == before
    assert not rig.of(Recovery)


def test_T_28_a_peer_with_the_same_secret_cannot_take_another_s_tunnel() -> None:
    rig = Rig()
    line = from_lac(rig)
    rig.peer = PeerSettings(name="lac2", secret=SECRET)
    rt, heard = ask_recovery(rig, line, host="lac2", source=STRANGER)
    stop = only(rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP))), Msg.STOPCCN)
    assert result(stop)[0] == StopCcn.NOT_AUTHORISED


def test_an_attacker_s_attempt_does_not_keep_the_real_peer_out() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    for k in range(5):
        ask_recovery(rig, line, 0x7000 + k)
        rig.later(1.1)
    rt, heard = ask_recovery(rig, line, 0x5678)
    assert Msg.SCCRP in types(heard)
    assert Msg.FSQ in types(rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP))))
