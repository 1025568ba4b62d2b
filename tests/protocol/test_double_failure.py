"""Both ends fail at once: RFC 4951 3.2.1 (tie breaker), appendix B."""

import pytest

from holdfast.core.counters import Counter
from holdfast.protocol.effects import Address, Recovery, RecoveryPhase, TunnelDown
from holdfast.wire.dictionary import ASSIGNED_TUNNEL_ID, SUGGESTED_CONTROL_SEQUENCE, TIE_BREAKER
from holdfast.wire.header import parse_control
from holdfast.wire.messages import Msg, decode
from protocol.pair import LAC_ADDRESS, LNS_ADDRESS, Pair
from protocol.script import (
    LOSES,
    PEER,
    WINS,
    Heard,
    Line,
    Rig,
    answer_recovery,
    ask_recovery,
    call_in,
    from_lac,
    hello_avps,
    only,
    response,
    result_code,
    types,
)


def both_down(rig: Rig, tunnels: int = 1) -> tuple[list[Line], list[Heard]]:
    """Tunnels with a session each; the endpoint under test has restarted and asked, the peer is about to."""
    lines = [from_lac(rig, 0x1100 + k) for k in range(tunnels)]
    for line in lines:
        call_in(line)
    rig.crash()
    rig.heard.clear()
    rig.news.clear()
    return lines, rig.restart()


def attempts(rig: Rig) -> list[int]:
    """Recovery tunnels that are ours."""
    return [t.local_id for t in rig.endpoint.tunnels.values() if t.recovers and t.initiator]


def test_F_23_and_F_25_the_higher_value_yields_and_answers() -> None:
    rig = Rig()
    (line,), _ = both_down(rig)
    rt, heard = ask_recovery(rig, line, tie=WINS)
    assert types(heard) == [Msg.SCCRP]
    assert attempts(rig) == []
    assert rig.endpoint.tunnels[line.remote].established, "the old tunnel survives its own recovery tunnel"
    assert rt.remote


def test_F_24_the_lower_value_goes_on_and_asks_again_at_once() -> None:
    rig = Rig()
    (line,), asked = both_down(rig)
    _, heard = ask_recovery(rig, line, tie=LOSES)
    again = only(heard, Msg.SCCRQ)
    assert again.body.need(ASSIGNED_TUNNEL_ID) == only(asked, Msg.SCCRQ).body.need(ASSIGNED_TUNNEL_ID)
    assert again.ns == 0
    assert Msg.SCCRP not in types(heard)
    _, heard = answer_recovery(rig, again)
    assert types(heard) == [Msg.SCCCN]


def test_F_49_and_F_25_the_loser_resets_like_a_remote_endpoint() -> None:
    rig = Rig()
    (line,), _ = both_down(rig)
    rt, heard = ask_recovery(rig, line, tie=WINS)
    scs = only(heard, Msg.SCCRP).body.need(SUGGESTED_CONTROL_SEQUENCE)
    said = rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    fsq = only(said, Msg.FSQ)
    assert (fsq.ns, fsq.nr) == (scs.nr, scs.ns)
    assert not rig.endpoint.tunnels[line.remote].recovering


def test_F_34_the_loser_is_deaf_until_then() -> None:
    rig = Rig()
    (line,), _ = both_down(rig)
    ask_recovery(rig, line, tie=WINS)
    assert line.say(Msg.HELLO) == []
    assert rig.count(Counter.RX_DISCARDED_RECOVERING) == 1


def test_T_13_the_ids_of_crossed_recoveries_are_mirror_images_and_still_meet() -> None:
    rig = Rig()
    (line,), asked = both_down(rig)
    ours = only(asked, Msg.SCCRQ)
    _, heard = ask_recovery(rig, line, ids=(line.local, line.remote), tie=WINS)
    assert types(heard) == [Msg.SCCRP]
    assert ours.body.need(ASSIGNED_TUNNEL_ID) not in rig.endpoint.tunnels


def test_F_26_an_ordinary_tie_breaker_does_not_touch_a_recovery_tunnel() -> None:
    rig = Rig()
    both_down(rig)
    before = attempts(rig)
    heard = Line(rig, 0x4444).say(Msg.SCCRQ, *hello_avps(0x4444, TIE_BREAKER(b"\0" * 8)))
    assert types(heard) == [Msg.SCCRP]
    assert attempts(rig) == before


def test_F_27_a_recovery_meets_only_that_of_the_same_old_tunnel() -> None:
    rig = Rig()
    (first, second), _ = both_down(rig, 2)
    ask_recovery(rig, first, tie=WINS)
    assert len(attempts(rig)) == 1
    (left,) = attempts(rig)
    assert rig.endpoint.tunnels[left].recovers == second.remote


def test_F_27_nor_an_ordinary_set_up() -> None:
    rig = Rig()
    (line,), _ = both_down(rig)
    assert rig.peer is not None
    ordinary, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    rig.take(effects)
    ask_recovery(rig, line, tie=WINS)
    assert ordinary in rig.endpoint.tunnels


def test_T_14_equal_values_are_drawn_again() -> None:
    rig = Rig()
    (line,), asked = both_down(rig)
    tie = only(asked, Msg.SCCRQ).body.need(TIE_BREAKER)
    _, heard = ask_recovery(rig, line, tie=tie)
    assert heard == []
    assert attempts(rig) == []
    again = only(rig.later(0.5), Msg.SCCRQ)
    assert again.body.need(TIE_BREAKER) != tie
    assert rig.endpoint.tunnels[line.remote].established
    assert RecoveryPhase.FAILED not in [n.phase for n in rig.news if isinstance(n, Recovery)]


def test_T_14_a_recovery_without_a_tie_breaker_loses() -> None:
    rig = Rig()
    (line,), _ = both_down(rig)
    _, heard = ask_recovery(rig, line, tie=None)
    assert types(heard) == [Msg.SCCRQ]
    assert len(attempts(rig)) == 1


def test_T_15_a_refusal_of_the_losing_recovery_does_not_end_it_all() -> None:
    rig = Rig()
    (line,), asked = both_down(rig)
    peer = Line(rig, 0x6666)
    peer.remote = only(asked, Msg.SCCRQ).body.need(ASSIGNED_TUNNEL_ID)
    peer.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(0x6666), result_code(3), nr=1)
    rt, heard = ask_recovery(rig, line, tie=WINS)
    said = rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    assert Msg.FSQ in types(said)
    assert not rig.of(TunnelDown)


def test_a_winner_that_never_authenticates_delays_a_recovery_once() -> None:
    rig = Rig()
    (line,), _ = both_down(rig)
    ask_recovery(rig, line, 0x7000, tie=WINS)
    assert attempts(rig) == []
    again = [h for h in rig.later(5.1) if h.type == Msg.SCCRQ]
    assert len(again) == 1
    ask_recovery(rig, line, 0x7001, tie=WINS)
    assert len(attempts(rig)) == 1, "ties are not trusted any more"
    rt, heard = answer_recovery(rig, again[0])
    assert types(heard) == [Msg.SCCCN]
    assert Msg.FSQ in types(rt.zlb())


def recoveries(pair: Pair, name: str) -> list[tuple[str, RecoveryPhase]]:
    side = pair.lns if name == "lns1" else pair.lac
    return [(n.role, n.phase) for n in side.news if isinstance(n, Recovery)]


@pytest.mark.parametrize("late", ["lns1", "lac1"])
@pytest.mark.parametrize("gap", [0.0, 0.3, 2.0])
def test_F_23_after_a_double_failure_both_hold_every_session(late: str, gap: float) -> None:
    pair = Pair()
    tunnel = pair.connect()
    pair.call(tunnel, 5)
    pair.crash(pair.lns)
    pair.crash(pair.lac)
    first, second = (pair.lac, pair.lns) if late == "lns1" else (pair.lns, pair.lac)
    pair.run(1)
    pair.restart(first)
    pair.run(gap)
    pair.restart(second)
    pair.run(20)
    for side in (pair.lns, pair.lac):
        (up,) = side.endpoint.ctx.established()
        assert len(up.sessions) == 5
        assert up.own_recovery is None
        assert up.channel.idle
        assert all(t is up or t.is_recovery for t in side.endpoint.tunnels.values())


def test_appendix_B_with_both_requests_in_flight() -> None:
    pair = Pair()
    tunnel = pair.connect()
    pair.call(tunnel, 2)
    pair.crash(pair.lns)
    pair.crash(pair.lac)
    held: list[tuple[bytes, Address]] = []
    pair.log.clear()

    def hold(data: bytes, to: Address) -> bool:
        held.append((data, to))
        return True

    pair.lose = hold
    pair.down.clear()
    pair.restart(pair.lns)
    pair.restart(pair.lac)
    ties = {to: decode(data[12:]).need(TIE_BREAKER) for data, to in held}
    winner = pair.lns if ties[LAC_ADDRESS] < ties[LNS_ADDRESS] else pair.lac
    loser = pair.lac if winner is pair.lns else pair.lns
    pair.lose = lambda data, to: False
    pair.log.clear()
    for data, to in held:
        target = pair.side_at(to)
        source = LNS_ADDRESS if target is pair.lac else LAC_ADDRESS
        pair.deliver(target, target.endpoint.datagram(data, source, pair.now))
    pair.run(1)
    said = [(who, decode(d[12:]).type) for who, d in pair.log if parse_control(d).end > 12]
    assert (loser.name, Msg.SCCRP) in said
    assert (winner.name, Msg.SCCCN) in said
    assert (winner.name, Msg.SCCRP) not in said
    assert (loser.name, Msg.SCCCN) not in said
    assert {who for who, kind in said if kind == Msg.FSQ} == {"lns1", "lac1"}
    assert {who for who, kind in said if kind == Msg.FSR} == {"lns1", "lac1"}
    assert ("recovery-endpoint", RecoveryPhase.CONFIRMED) in recoveries(pair, winner.name)
    assert ("remote-endpoint", RecoveryPhase.CONFIRMED) in recoveries(pair, loser.name)
    assert len(pair.lns.endpoint.ctx.established()[0].sessions) == 2
    assert len(pair.lac.endpoint.ctx.established()[0].sessions) == 2
