"""Our LNS in front of xl2tpd as a LAC, with pppd and the kernel's PPP over L2TP as the subscriber."""

import signal
from collections.abc import Callable, Iterator

import pytest

from holdfast.daemon.views import SessionView
from interop.rig import GUARDED, OPEN, OUTSIDE, alternately
from interop.xl2tpd_lines import Line, Stage, in_range, our_lns

pytestmark = pytest.mark.skipif(OUTSIDE is not None, reason=str(OUTSIDE))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with our_lns(tmp_path_factory.mktemp) as stage:
        yield stage


@pytest.fixture
def line(stage: Stage, kind: str) -> Iterator[Line]:
    line = stage.lines[kind]
    yield line
    if line.daemon.pppd is not None:
        line.hang_up()


@pytest.mark.parametrize("kind", [OPEN, GUARDED])
def test_set_up_ping_and_tcp(line: Line) -> None:
    assert in_range(line, line.connect().address)
    line.expect_traffic()


CLEARINGS: dict[str, Callable[[Line, SessionView], None]] = {
    "we clear the session": lambda line, session: line.node.control.clear_session(session.key),
    "we clear the tunnel": lambda line, session: line.node.control.clear_tunnel(session.tunnel_id),
    "xl2tpd disconnects": lambda line, session: line.daemon.disconnect(),
    "pppd hangs up": lambda line, session: line.daemon.signal_pppd(signal.SIGTERM),
    "pppd is killed": lambda line, session: line.daemon.signal_pppd(signal.SIGKILL),
}


@pytest.mark.parametrize(("clearing", "kind"), alternately(CLEARINGS))
def test_clear(line: Line, clearing: str) -> None:
    CLEARINGS[clearing](line, line.connect())
    line.released()
    if clearing in ("we clear the tunnel", "xl2tpd disconnects"):
        line.without_tunnel()
