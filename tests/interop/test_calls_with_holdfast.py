"""Our LNS and our LAC with nodes of ours that have never heard of RFC 4951: calls come up, carry data, and are ended from
each side. Eight lines do the same at once, as in the tests of restarts.
"""

from collections.abc import Callable, Iterator, Sequence

import pytest

from holdfast.daemon.views import SessionView
from holdfast.lab import netns
from interop.holdfast_lines import Line, our_lac, our_lns
from interop.outage import connect, hang_up
from interop.rig import in_pool, possible

pytestmark = possible(netns.unavailable())


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Line]]:
    with our_lns(tmp_path_factory.mktemp) as lns, our_lac(tmp_path_factory.mktemp) as lac:
        yield [*lns.all, *lac.all]


@pytest.fixture
def lines(everybody: Sequence[Line]) -> Sequence[Line]:
    """All of them, connected."""
    connect(everybody)
    return everybody


def test_set_up_ping_and_tcp(lines: Sequence[Line]) -> None:
    for line in lines:
        assert in_pool(line.connected().address)
        assert line.tunnel.failover == "silent"
        assert line.tunnel.peer_recovery_time_ms == 0
        line.expect_traffic()


CLEARINGS: dict[str, Callable[[Line, SessionView], None]] = {
    "we clear the session": lambda line, session: line.node.control.clear_session(session.key),
    "we clear the tunnel": lambda line, session: line.node.control.clear_tunnel(session.tunnel_id),
    "the peer clears the session": lambda line, session: line.peer_ends_call(session),
    "the peer clears the tunnel": lambda line, session: line.peer_ends_tunnel(line.tunnel),
}


@pytest.mark.parametrize("clearing", CLEARINGS)
def test_clear_and_call_again(lines: Sequence[Line], clearing: str) -> None:
    """The LAC's subscribers call again by themselves, in the same tunnel unless it was ended."""
    before = [(line, line.connected(), line.tunnel.id) for line in lines]
    for line, session, _ in before:
        CLEARINGS[clearing](line, session)
    for line, session, tunnel_id in before:
        line.connected(after=session.key)
        assert (line.tunnel.id == tunnel_id) == ("session" in clearing)
        line.expect_pings()


def test_the_subscriber_hangs_up_and_calls_again(lines: Sequence[Line]) -> None:
    tunnels = [line.tunnel.id for line in lines]
    hang_up(lines)
    assert [line.tunnel.id for line in lines] == tunnels
    connect(lines)
    for line in lines:
        line.expect_pings()
