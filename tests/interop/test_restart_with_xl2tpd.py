"""kill -9 and restart of our LNS and of our LAC in front of xl2tpd and pppd, which do not notice: lines that are up, and
what a peer says in the outage.

Four lines meet each fault at once: our LNS and our LAC, each with a tunnel without a secret and one with.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from interop import faults
from interop.matrix import after_a_while, at_once, full
from interop.outage import connect, hang_up
from interop.rig import OUTSIDE
from interop.xl2tpd_lines import Line, Stages, all_connected, both_roles

pytestmark = pytest.mark.skipif(OUTSIDE is not None, reason=str(OUTSIDE))

HELLO_AFTER_S = 60
"""xl2tpd says HELLO so long after the tunnel was set up, and again."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    with both_roles(tmp_path_factory.mktemp) as stages:
        yield stages


@pytest.fixture
def lines(stages: Stages) -> Sequence[Line]:
    return all_connected(stages)


@after_a_while
def test_idle(lines: Sequence[Line], seconds: int) -> None:
    faults.idle(lines, seconds)


@at_once
def test_under_traffic(lines: Sequence[Line], seconds: int, tmp_path: Path) -> None:
    faults.under_traffic(lines, seconds, tmp_path)


def test_twice_in_a_row(lines: Sequence[Line]) -> None:
    faults.twice_in_a_row(lines)


@pytest.mark.parametrize("earlier", [20, pytest.param(5, marks=full), pytest.param(55, marks=full)])
def test_hello_during_the_outage(lines: Sequence[Line], earlier: int) -> None:
    """Killed so many seconds before xl2tpd says HELLO, which it does on all tunnels of one age at the same time.

    Before its first one, unless a busy machine has taken longer to set up the calls.
    """
    hang_up(lines)
    for line in lines:
        line.node.control.clear_tunnel(line.tunnel.id)
    connect(lines)
    set_up_at = [line.tunnel.established_utc_us / 1e6 for line in lines]
    assert max(set_up_at) - min(set_up_at) < 3, "the HELLOs come too far apart"
    time.sleep((min(set_up_at) - earlier - time.time()) % HELLO_AFTER_S)
    faults.hello(lines, earlier + 5)


@after_a_while
def test_cdn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    """xl2tpd says it for the last time after 15 s: then the proof of forwarding finds out."""
    faults.cdn(lines, seconds)


@after_a_while
def test_stopccn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.stopccn(lines, seconds)
