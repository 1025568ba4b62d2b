"""kill -9 and restart of our LAC in front of l2tpns, which does not notice.

Two lines meet each fault at once: one without a tunnel secret and one with. l2tpns as an LNS never sends an ICRQ.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from holdfast.core import seq
from holdfast.lab import netns
from holdfast.lab.peers import l2tpns
from holdfast.lab.tap import Said
from holdfast.lab.topology import LAC_ADDRESS
from holdfast.wire.codes import Msg
from interop import faults
from interop.l2tpns_lines import Line, our_lac
from interop.lines import Stage
from interop.outage import connect, expect_unnoticed, hang_up, observe, recovered, restart
from interop.rig import possible, until

pytestmark = possible(l2tpns.unavailable() or netns.unavailable())
full = pytest.mark.full

HELLO_WITHIN_S = 70
"""l2tpns says HELLO after 60 s without any packet."""


SILENCE_S = 45


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage[Line]]:
    with our_lac(tmp_path_factory.mktemp) as stage:
        yield stage


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage[Line]]:
    """The same with `idle_echo_timeout`s that are over within the minute."""
    with our_lac(tmp_path_factory.mktemp, SILENCE_S) as stage:
        yield stage


@pytest.fixture
def lines(stage: Stage[Line]) -> Sequence[Line]:
    """Those who have called already, connected."""
    stage.station.revive()
    connect(stage.all)
    return stage.all


@pytest.mark.parametrize("seconds", [pytest.param(0, marks=full), 5, pytest.param(20, marks=full)])
def test_idle(lines: Sequence[Line], seconds: int) -> None:
    faults.idle(lines, seconds)


@pytest.mark.parametrize("seconds", [0, pytest.param(5, marks=full), pytest.param(20, marks=full)])
def test_under_traffic(lines: Sequence[Line], seconds: int, tmp_path: Path) -> None:
    faults.under_traffic(lines, seconds, tmp_path)


def test_twice_in_a_row(lines: Sequence[Line]) -> None:
    faults.twice_in_a_row(lines)


@pytest.mark.netem
@pytest.mark.parametrize(
    "moment", [pytest.param(m, marks=() if m == "lcp" else full) for m in faults.HALF_MADE]
)
def test_during_set_up(impatient: Stage[Line], moment: str) -> None:
    """What l2tpns cannot be told about (below) it gives up after its own time-out."""
    impatient.station.revive()
    hang_up(impatient.more)
    connect(impatient.all)
    faults.during_set_up(impatient.more, impatient.all, moment)


@full
@pytest.mark.netem
def test_a_lost_call_is_not_found_by_its_assigned_session_id(
    stage: Stage[Line], lines: Sequence[Line]
) -> None:
    """l2tpns does not take a CDN with session 0 in its header for the call that its AVP names (RFC 2661 4.4.4).

    A call that waits for the subscriber's password has no time-out there but the one for idle sessions.
    """
    hang_up(stage.more)
    line, before = stage.more[0], observe(lines)
    faults.kill_half_made([line], before, "authentication")
    restart([line])
    said: list[Said] = []
    recovered([line])
    until(lambda: line.station.happened("session.lost_call"), "l2tpns to name the call")

    def answered() -> bool:
        said.extend(line.station.tap.take())
        ours = [m.ns for m in said if m.type == Msg.CDN and m.source == LAC_ADDRESS and not m.session_id]
        return any(m.source == line.peer_address and m.nr == seq.succ(ns) for m in said for ns in ours)

    until(answered, "our CDN to be acknowledged")
    assert line.half_made_at_peer == 1
    expect_unnoticed(before)


def test_hello_during_the_outage(lines: Sequence[Line]) -> None:
    faults.hello(lines, HELLO_WITHIN_S)


@pytest.mark.parametrize("seconds", [pytest.param(0, marks=full), 5, pytest.param(20, marks=full)])
def test_cdn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.cdn(lines, seconds)


@pytest.mark.parametrize("seconds", [pytest.param(0, marks=full), 5, pytest.param(20, marks=full)])
def test_stopccn_during_the_outage(lines: Sequence[Line], seconds: int) -> None:
    faults.stopccn(lines, seconds)


def test_after_many_messages(lines: Sequence[Line]) -> None:
    faults.after_many_messages(lines)
