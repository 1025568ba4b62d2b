"""How long a silent peer's tunnel is kept: RFC 4951 5.1, rows F-50…F-55, T-5, T-26, T-42."""

import pytest

from holdfast.core.clock import SECOND
from holdfast.protocol.effects import Cause, SessionDown, TunnelDown
from holdfast.protocol.settings import FailoverSettings
from holdfast.wire.dictionary import FailoverCap
from holdfast.wire.messages import Msg
from protocol.script import Line, Rig, ask_recovery, call_in, from_lac, only, recover, response, types


def silent(rig: Rig, recovery_time_ms: int = 60_000, control: bool = True) -> Line:
    """A tunnel with a session whose peer does not answer the HELLO that has just been sent."""
    line = from_lac(rig, cap=FailoverCap(control, not control, recovery_time_ms))
    call_in(line)
    assert types(rig.take(rig.endpoint.probe(line.remote, rig.now))) == [Msg.HELLO]
    return line


def alive(rig: Rig, line: Line) -> bool:
    return line.remote in rig.endpoint.tunnels


@pytest.mark.parametrize(("asked_ms", "dead_at"), [(60_000, 60), (45_000, 45), (10_000, 31), (0, 31)])
def test_F_50_and_F_51_the_peer_s_value_counts(asked_ms: int, dead_at: int) -> None:
    rig = Rig(failover=FailoverSettings(recovery_time_ms=5_000))
    line = silent(rig, asked_ms)
    rig.later(dead_at - 0.1)
    assert alive(rig, line)
    rig.later(0.2)
    assert not alive(rig, line)


def test_F_51_retransmission_goes_on_meanwhile() -> None:
    rig = Rig()
    line = silent(rig)
    rig.later(45)
    assert alive(rig, line)
    assert len(rig.tunnel().sessions) == 1
    assert [h.type for h in rig.later(12)] == [Msg.HELLO]


def test_F_52_the_timer_stops_when_the_peer_has_authenticated() -> None:
    rig = Rig()
    line = silent(rig)
    rig.later(40)
    recover(rig, line)
    line.zlb()
    rig.later(50)
    assert alive(rig, line)


def test_F_52_and_T_29_an_sccrq_alone_does_not_stop_it() -> None:
    rig = Rig()
    line = silent(rig)
    for k in range(13):
        rig.later(5.01)
        if alive(rig, line):
            ask_recovery(rig, line, 0x7000 + k)
    assert not alive(rig, line)


def test_F_53_an_acknowledgement_ends_it() -> None:
    rig = Rig()
    line = silent(rig)
    rig.later(20)
    line.nr = rig.tunnel().channel.ns
    line.zlb()
    assert not rig.endpoint.suspect(line.remote)
    rig.later(45)
    assert alive(rig, line)
    assert rig.tunnel().clear_at is None


def test_F_53_also_after_the_retransmissions_are_spent() -> None:
    rig = Rig()
    line = silent(rig)
    rig.later(50)
    line.nr = rig.tunnel().channel.ns
    line.zlb()
    rig.later(30)
    assert alive(rig, line)
    assert rig.tunnel().clear_at is None


def test_F_54_when_it_expires_everything_is_cleared_once() -> None:
    rig = Rig()
    line = silent(rig)
    rig.later(61)
    assert not alive(rig, line)
    (down,) = [n for n in rig.news if isinstance(n, TunnelDown)]
    assert down.cause is Cause.TIMEOUT
    assert len([n for n in rig.news if isinstance(n, SessionDown)]) == 1
    assert not rig.tunnels
    assert not rig.sessions
    assert {Msg.STOPCCN, Msg.CDN}.isdisjoint(types(rig.heard))


def test_F_55_a_recovery_time_of_zero_still_allows_recovery() -> None:
    rig = Rig()
    line = silent(rig, 0)
    rig.later(2)
    _, said = recover(rig, line)
    assert Msg.FSQ in types(said)


def test_F_9_without_the_control_bit_nothing_is_waited_for() -> None:
    rig = Rig()
    line = silent(rig, 60_000, control=False)
    rig.later(31.1)
    assert not alive(rig, line)


def test_T_5_the_timers_run_together_unless_configured_otherwise() -> None:
    rig = Rig(failover=FailoverSettings(additive=True))
    line = silent(rig, 10_000)
    rig.later(40.9)
    assert alive(rig, line)
    rig.later(0.2)
    assert not alive(rig, line)


def test_T_26_a_value_of_many_days_is_capped() -> None:
    rig = Rig(failover=FailoverSettings(peer_recovery_cap=100 * SECOND))
    line = silent(rig, 0xFFFFFFFF)
    rig.later(99.9)
    assert alive(rig, line)
    rig.later(0.2)
    assert not alive(rig, line)


def test_T_42_a_recovery_under_way_postpones_the_end_once() -> None:
    rig = Rig()
    line = silent(rig)
    rig.later(58)
    rt, heard = ask_recovery(rig, line)
    rig.later(4)
    assert alive(rig, line)
    said = rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    assert Msg.FSQ in types(said)


def test_T_42_but_not_for_ever() -> None:
    rig = Rig()
    line = silent(rig)
    rig.later(58)
    ask_recovery(rig, line, 0x7000)
    rig.later(3)
    ask_recovery(rig, line, 0x7001)
    rig.later(4.5)
    assert not alive(rig, line)


def test_T_42_the_hello_of_the_old_tunnel_goes_on_while_a_recovery_is_pending() -> None:
    rig = Rig()
    line = from_lac(rig)
    rig.later(58)
    ask_recovery(rig, line)
    assert Msg.HELLO in types(rig.later(3))


def test_T_7_the_end_of_a_pending_recovery_does_not_bring_the_old_tunnel_back() -> None:
    rig = Rig()
    line = silent(rig)
    rig.later(58)
    rt, heard = ask_recovery(rig, line)
    rig.later(20)
    assert not alive(rig, line)
    assert rt.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP))) == []
    assert not alive(rig, line)
