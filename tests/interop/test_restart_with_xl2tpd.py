"""kill -9 and restart of our LNS and of our LAC in front of xl2tpd and pppd, which do not notice.

Four lines meet each fault at once: our LNS and our LAC, each with a tunnel without a secret and one with.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from holdfast.core import seq
from holdfast.wire.codes import Msg
from interop import faults
from interop.outage import (
    connect,
    expect_clear_and_call,
    expect_unnoticed,
    hang_up,
    kill,
    observe,
    recovered,
    restart,
    said_by,
    stations,
)
from interop.rig import GUARDED, OPEN, OUTSIDE, until
from interop.xl2tpd_lines import Line, Stage, our_lac, our_lns

pytestmark = pytest.mark.skipif(OUTSIDE is not None, reason=str(OUTSIDE))
full = pytest.mark.full

Stages = Mapping[str, Stage]

HELLO_AFTER_S = 60
"""xl2tpd says HELLO so long after the tunnel was set up, and again."""

EITHER = [
    pytest.param("lns", OPEN),
    pytest.param("lac", GUARDED),
    pytest.param("lns", GUARDED, marks=full),
    pytest.param("lac", OPEN, marks=full),
]
"""Our role and the kind of tunnel, where one at a time is enough."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    with our_lns(tmp_path_factory.mktemp) as lns, our_lac(tmp_path_factory.mktemp) as lac:
        yield {"lns": lns, "lac": lac}


@pytest.fixture
def lines(stages: Stages) -> Sequence[Line]:
    """All lines, connected. What a test that failed has left behind is cleared away first."""
    lines = [line for stage in stages.values() for line in stage.all]
    for station in stations(lines):
        station.revive()
    for line in lines:
        if line.ready() is None and line.half_made_at_peer:
            line.node.control.clear_tunnel(line.tunnel.id)
            line.released()
    connect(lines)
    return lines


@pytest.mark.parametrize("seconds", [pytest.param(0, marks=full), 5, pytest.param(20, marks=full)])
def test_idle(lines: Sequence[Line], seconds: int) -> None:
    faults.idle(lines, seconds)


@pytest.mark.parametrize("seconds", [0, pytest.param(5, marks=full), pytest.param(20, marks=full)])
def test_under_traffic(lines: Sequence[Line], seconds: int, tmp_path: Path) -> None:
    faults.under_traffic(lines, seconds, tmp_path)


def test_twice_in_a_row(lines: Sequence[Line]) -> None:
    faults.twice_in_a_row(lines)


@pytest.mark.parametrize("earlier", [20, pytest.param(5, marks=full), pytest.param(55, marks=full)])
def test_hello_during_the_outage(lines: Sequence[Line], earlier: int) -> None:
    """Killed so many seconds before xl2tpd says HELLO, which it does on all tunnels of one age at the same time."""
    hang_up(lines)
    for line in lines:
        line.node.control.clear_tunnel(line.tunnel.id)
    connect(lines)
    set_up_at = [line.tunnel.established_utc_us / 1e6 for line in lines]
    assert max(set_up_at) - min(set_up_at) < 3, "the HELLOs come too far apart"
    time.sleep(min(set_up_at) + HELLO_AFTER_S - earlier - time.time())
    faults.hello(lines, earlier + 5)


@pytest.mark.parametrize("seconds", [pytest.param(0, marks=full), 5, pytest.param(20, marks=full)])
def test_cdn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    """xl2tpd says it for the last time after 15 s: then the proof of forwarding finds out."""
    faults.cdn(lines, seconds)


@pytest.mark.parametrize("seconds", [pytest.param(0, marks=full), 5, pytest.param(20, marks=full)])
def test_stopccn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.stopccn(lines, seconds)


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
def test_an_icrq_that_xl2tpd_does_not_repeat_is_lost_and_xl2tpd_waits_for_ever(
    stages: Stages, lines: Sequence[Line]
) -> None:
    """Said in the first seconds of an outage of 20 s: it is acknowledged unseen, or all calls of the tunnel would go.

    xl2tpd has no time-out for the ICRP: until its tunnel is ended it says "already active" and does not call again.
    """
    line = stages["lns"].lines[OPEN]
    hang_up([line])
    before = observe(other for other in lines if other is not line)
    kill([line], before)
    line.call()
    time.sleep(20)
    assert said_by(line, restart(stages["lns"].all), Msg.ICRQ)
    recovered([line])
    time.sleep(45)  # more than its patience, and more than we take to prove our sessions
    assert (line.session, line.daemon.calls, line.daemon.connect()) == (None, 1, False)
    expect_unnoticed(before)
    line.daemon.disconnect()
    line.without_tunnel()
    line.connect()
    line.expect_traffic()


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
