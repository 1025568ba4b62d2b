"""kill -9 and restart of our LNS and of our LAC in front of nodes of ours that have never heard of RFC 4951.

Eight lines meet each fault at once: our LNS and our LAC, each with a tunnel without a secret and one with, recovered
by the method that `auto` chooses and by `silent`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from holdfast.lab import netns
from interop import faults
from interop.holdfast_lines import Line, our_lac, our_lns
from interop.lines import Stage
from interop.matrix import after_a_while, at_once, full, while_half_made
from interop.outage import connect, hang_up
from interop.rig import possible

pytestmark = possible(netns.unavailable())

HELLO_WITHIN_S = 30
"""A node of ours says HELLO when its LCP Echo-Requests, sent every 10 s, stay unanswered."""

Stages = tuple[Stage[Line], Stage[Line]]
"""Our LNS, our LAC."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    with our_lns(tmp_path_factory.mktemp) as lns, our_lac(tmp_path_factory.mktemp) as lac:
        yield lns, lac


@pytest.fixture
def lines(stages: Stages) -> Sequence[Line]:
    """Those who have called already, connected; nobody else is."""
    lines = [line for stage in stages for line in stage.all]
    for stage in stages:
        stage.station.revive()
        hang_up(stage.more)
    connect(lines)
    return lines


@pytest.fixture
def more(stages: Stages) -> Sequence[Line]:
    """Those who call when told to."""
    return [line for stage in stages for line in stage.more]


@after_a_while
def test_idle(lines: Sequence[Line], seconds: int) -> None:
    faults.idle(lines, seconds)


@at_once
def test_under_traffic(lines: Sequence[Line], seconds: int, tmp_path: Path) -> None:
    faults.under_traffic(lines, seconds, tmp_path)


def test_twice_in_a_row(lines: Sequence[Line]) -> None:
    faults.twice_in_a_row(lines)


@pytest.mark.netem
@while_half_made
def test_during_set_up(more: Sequence[Line], lines: Sequence[Line], moment: str) -> None:
    faults.during_set_up(more, lines, moment)


def test_hello_during_the_outage(lines: Sequence[Line]) -> None:
    faults.hello(lines, HELLO_WITHIN_S)


@after_a_while
def test_cdn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.cdn(lines, seconds)


@after_a_while
def test_stopccn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.stopccn(lines, seconds)


@after_a_while
def test_icrq_during_the_outage(stages: Stages, lines: Sequence[Line], seconds: int) -> None:
    """Of a LAC, to our LNS; our LAC restarts with it."""
    faults.icrq(stages[0].more, lines, seconds)


@pytest.mark.parametrize(
    ("role", "line"),
    [
        (0, 0),
        (1, 3),
        *(pytest.param(r, i, marks=full) for r, i in ((0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2))),
    ],
)
def test_after_many_messages(stages: Stages, lines: Sequence[Line], role: int, line: int) -> None:
    """One tunnel at a time: the other subscribers' LCP echoes stay unanswered meanwhile."""
    stage = stages[role]
    faults.after_many_messages(stage.all, stage.all[line])
