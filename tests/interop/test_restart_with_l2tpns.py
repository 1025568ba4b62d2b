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
from interop.lines import Stage
from interop.matrix import after_a_while, at_once, full, while_half_made
from interop.outage import connect, expect_unnoticed, hang_up, observe, recovered, restart
from interop.rig import possible, until

pytestmark = possible(l2tpns.unavailable() or netns.unavailable())

HELLO_WITHIN_S = 70
"""l2tpns says HELLO after 60 s without any packet."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage[Line]]:
    with our_lac(tmp_path_factory.mktemp) as stage:
        yield stage


@pytest.fixture
def lines(stage: Stage[Line]) -> Sequence[Line]:
    """Those who have called already, connected."""
    stage.station.revive()
    connect(stage.all)
    return stage.all


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
def test_during_set_up(stage: Stage[Line], lines: Sequence[Line], moment: str) -> None:
    hang_up(stage.more)
    faults.during_set_up(stage.more, lines, moment)


@full
@pytest.mark.netem
def test_a_lost_call_is_ended_at_l2tpns_by_its_own_id(stage: Stage[Line], lines: Sequence[Line]) -> None:
    """l2tpns goes by the header of a CDN alone, and waits for a password without any other time-out than for idleness."""
    hang_up(stage.more)
    line, before = stage.more[0], observe(lines)
    faults.kill_half_made([line], before, "authentication")
    restart([line])
    recovered([line])
    until(lambda: line.station.happened("session.lost_call"), "l2tpns to name the call")
    until(lambda: not line.half_made_at_peer, "l2tpns to have ended it")
    expect_unnoticed(before)


def test_hello_during_the_outage(lines: Sequence[Line]) -> None:
    faults.hello(lines, HELLO_WITHIN_S)


@after_a_while
def test_cdn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.cdn(lines, seconds)


@after_a_while
def test_stopccn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.stopccn(lines, seconds)


def test_after_many_messages(lines: Sequence[Line]) -> None:
    faults.after_many_messages(lines)
