"""kill -9 and restart of our LAC in front of l2tpns, which does not notice.

Two lines meet each fault at once: one without a tunnel secret and one with. l2tpns as an LNS never sends an ICRQ.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from holdfast.lab import netns
from holdfast.lab.peers import l2tpns
from interop import faults
from interop.l2tpns_lines import Line, our_lac
from interop.outage import connect, stations

MISSING = l2tpns.unavailable() or netns.unavailable()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

HELLO_WITHIN_S = 70
"""l2tpns says HELLO after 60 s without any packet."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Line]]:
    with our_lac(tmp_path_factory.mktemp) as stage:
        yield stage.all


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
