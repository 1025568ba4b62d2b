"""kill -9 and restart of our LNS and of our LAC in front of xl2tpd and pppd at bad moments: amid a call's set-up, and
with sequence numbers past the wrap or at it.
"""

import time
from collections.abc import Iterator, Sequence

import pytest

from holdfast.core import seq
from holdfast.wire.codes import Msg
from interop import faults
from interop.matrix import full
from interop.outage import (
    expect_clear_and_call,
    expect_unnoticed,
    hang_up,
    kill,
    observe,
    recovered,
    restart,
    said_by,
)
from interop.rig import GUARDED, OPEN, OUTSIDE, until
from interop.xl2tpd_lines import Line, Stages, all_connected, both_roles

pytestmark = pytest.mark.skipif(OUTSIDE is not None, reason=str(OUTSIDE))

EITHER = [
    pytest.param("lns", OPEN),
    pytest.param("lac", GUARDED),
    pytest.param("lns", GUARDED, marks=full),
    pytest.param("lac", OPEN, marks=full),
]
"""Our role and the kind of tunnel, where one at a time is enough."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    with both_roles(tmp_path_factory.mktemp) as stages:
        yield stages


@pytest.fixture
def lines(stages: Stages) -> Sequence[Line]:
    return all_connected(stages)


@pytest.mark.parametrize(
    ("earlier", "later"), [pytest.param(0, 0, marks=full), (0, 5), pytest.param(10, 10, marks=full)]
)
@pytest.mark.parametrize("kind", [OPEN, pytest.param(GUARDED, marks=full)])
def test_icrq_during_the_outage(
    stages: Stages, lines: Sequence[Line], kind: str, earlier: int, later: int
) -> None:
    """A LAC's call comes up. An LNS's is refused: we serve no incoming calls there, and xl2tpd has no other kind."""
    calling, called = stages["lns"].lines[kind], stages["lac"].lines[kind]
    hang_up([calling])
    before = observe(line for line in lines if line is not calling)
    tunnel = called.tunnel
    kill(lines, before)
    time.sleep(earlier)
    calling.call()
    called.daemon.call_on(tunnel.peer_id)
    time.sleep(later)
    said = restart(lines)
    assert said_by(calling, said, Msg.ICRQ)
    assert said_by(called, said, Msg.ICRQ)
    recovered(lines)
    calling.connected()
    until(lambda: called.daemon.calls == 1, "the LNS's call to end")
    calling.expect_traffic()
    (quiet,) = (b for b in before if b.line is called)
    assert called.connected() == quiet.session
    called.expect_traffic()
    expect_unnoticed(b for b in before if b is not quiet)
    expect_clear_and_call(lines)


@full
def test_an_icrq_that_xl2tpd_does_not_repeat_is_lost_and_xl2tpd_calls_again(
    stages: Stages, lines: Sequence[Line]
) -> None:
    """Said in the first seconds of an outage of 20 s: it is acknowledged unseen, or all calls of the tunnel would go.

    xl2tpd has no time-out for the ICRP: until its tunnel is ended it says "already active" and does not call again. So
    we end a tunnel that has no other call.
    """
    line = stages["lns"].lines[OPEN]
    hang_up([line])
    before = observe(other for other in lines if other is not line)
    kill([line], before)
    line.call()
    time.sleep(20)
    assert said_by(line, restart(stages["lns"].all), Msg.ICRQ)
    recovered([line])
    line.without_tunnel()
    until(lambda: not line.daemon.calls, "xl2tpd to give up its call")
    line.connect()
    line.expect_traffic()
    expect_unnoticed(before)


@pytest.mark.parametrize(("role", "kind"), EITHER)
def test_after_many_messages(stages: Stages, lines: Sequence[Line], role: str, kind: str) -> None:
    """So many that Ns has wrapped, and is numerically lower than it was."""
    faults.after_many_messages(stages[role].all, stages[role].lines[kind])


@full
@pytest.mark.parametrize(("role", "kind"), EITHER)
def test_at_the_wrap(stages: Stages, lines: Sequence[Line], role: str, kind: str) -> None:
    """xl2tpd compares without wrapping: where it expects 0 there is no number that it takes for an old one."""
    stage = stages[role]
    line = stage.lines[kind]
    faults.after_many_messages(stage.all, line, hellos=seq.distance(line.tunnel.ns, 0))
    ours = [said.ns for said in stage.station.tap.take() if said.source != line.peer_address and said.type]
    assert {65_535, 0} <= set(ours)


@pytest.mark.parametrize(
    ("moment", "kind"),
    [
        pytest.param(moment, kind, marks=() if (moment, kind) == ("lcp", GUARDED) else full)
        for moment in faults.HALF_MADE
        for kind in (OPEN, GUARDED)
    ],
)
def test_during_set_up(stages: Stages, lines: Sequence[Line], moment: str, kind: str) -> None:
    calling = [stage.lines[kind] for stage in stages.values()]
    hang_up(calling)
    faults.during_set_up(calling, [line for line in lines if line not in calling], moment)
    until(lambda: not any(line.daemon.calls for line in calling), "xl2tpd to have no call left")
