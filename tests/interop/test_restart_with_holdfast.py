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
from interop.outage import connect, stations

MISSING = netns.unavailable()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

HELLO_WITHIN_S = 30
"""A node of ours says HELLO when its LCP Echo-Requests, sent every 10 s, stay unanswered."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Line]]:
    with our_lns(tmp_path_factory.mktemp) as lns, our_lac(tmp_path_factory.mktemp) as lac:
        yield [*lns.all, *lac.all]


@pytest.fixture
def lines(stage: Sequence[Line]) -> Sequence[Line]:
    """All lines, connected."""
    for station in stations(stage):
        station.revive()
    connect(stage)
    return stage


@pytest.mark.parametrize("seconds", [0, 5, 20])
def test_idle(lines: Sequence[Line], seconds: int) -> None:
    faults.idle(lines, seconds)


@pytest.mark.parametrize("seconds", [0, 5, 20])
def test_under_traffic(lines: Sequence[Line], seconds: int, tmp_path: Path) -> None:
    faults.under_traffic(lines, seconds, tmp_path)


def test_twice_in_a_row(lines: Sequence[Line]) -> None:
    faults.twice_in_a_row(lines)


def test_hello_during_the_outage(lines: Sequence[Line]) -> None:
    faults.hello(lines, HELLO_WITHIN_S)


@pytest.mark.parametrize("seconds", [0, 5, 20])
def test_cdn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.cdn(lines, seconds)


@pytest.mark.parametrize("seconds", [0, 5, 20])
def test_stopccn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.stopccn(lines, seconds)


def test_after_many_messages(lines: Sequence[Line]) -> None:
    faults.after_many_messages(lines)
