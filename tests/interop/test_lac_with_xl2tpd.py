"""Our LAC and its PPP client in front of xl2tpd as an LNS, with pppd and the kernel's PPP over L2TP behind it."""

import signal
from collections.abc import Callable, Iterator

import pytest

from holdfast.daemon.views import SessionView
from interop.rig import GUARDED, OPEN, OUTSIDE, alternately, until
from interop.xl2tpd_lines import Line, Stage, in_range, our_lac

pytestmark = pytest.mark.skipif(OUTSIDE is not None, reason=str(OUTSIDE))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with our_lac(tmp_path_factory.mktemp) as stage:
        yield stage


@pytest.fixture
def line(stage: Stage, kind: str) -> Iterator[Line]:
    line = stage.lines[kind]
    yield line
    line.hang_up()


@pytest.mark.parametrize("kind", [OPEN, GUARDED])
def test_set_up_ping_and_tcp(line: Line) -> None:
    assert in_range(line, line.connect().address)
    line.expect_traffic()


CLEARINGS: dict[str, Callable[[Line, SessionView], None]] = {
    "we clear the session": lambda line, session: line.node.control.clear_session(session.key),
    "we clear the tunnel": lambda line, session: line.node.control.clear_tunnel(session.tunnel_id),
    "pppd hangs up": lambda line, session: line.daemon.signal_pppd(signal.SIGTERM),
    "pppd is killed": lambda line, session: line.daemon.signal_pppd(signal.SIGKILL),
}


@pytest.mark.parametrize(("clearing", "kind"), alternately(CLEARINGS))
def test_clear_and_call_again(line: Line, clearing: str) -> None:
    first = line.connect()
    CLEARINGS[clearing](line, first)
    line.connected(after=first.key)
    line.expect_pings()


@pytest.mark.parametrize("kind", [pytest.param(OPEN, marks=pytest.mark.full), GUARDED])
def test_disconnect(line: Line) -> None:
    line.connect()
    line.hang_up()
    assert line.tunnel


@pytest.mark.parametrize("kind", [OPEN, pytest.param(GUARDED, marks=pytest.mark.full)])
def test_the_lns_ends_and_comes_back(line: Line) -> None:
    first = line.connect()
    line.daemon.end()
    until(lambda: line.session is None, "our session to end")
    line.daemon.start()
    second = line.connected(after=first.key)
    assert second.tunnel_id != first.tunnel_id
