"""Our LNS in front of xl2tpd as a LAC, with pppd and the kernel's PPP over L2TP as the subscriber."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.daemon.views import SessionView
from holdfast.lab.netns import Claim
from holdfast.lab.nodes import Node
from holdfast.lab.peers import xl2tpd
from holdfast.lab.peers.xl2tpd import Xl2tpd
from holdfast.lab.probes import address_of, exchange, ping
from holdfast.lab.topology import CORE_ADDRESS, LNS_ADDRESS, Topology, route_subscribers
from interop.rig import (
    GUARDED,
    LAC_ADDRESSES,
    OPEN,
    OUTSIDE,
    PASSWORD,
    SECRETS,
    in_pool,
    laboratory,
    lns_tables,
    running,
    session_of,
    tunnel_of,
    until,
)

pytestmark = pytest.mark.skipif(OUTSIDE is not None, reason=str(OUTSIDE))


@pytest.fixture(scope="module")
def lab() -> Iterator[tuple[Claim, Topology]]:
    with laboratory() as made:
        yield made


@pytest.fixture(scope="module")
def net(lab: tuple[Claim, Topology]) -> Topology:
    return lab[1]


@pytest.fixture(scope="module")
def node(lab: tuple[Claim, Topology], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(*lab, "lns", lns_tables(), tmp_path_factory.mktemp("lns")) as node:
        yield node


class Line:
    """A subscriber at a LAC: xl2tpd and its pppd, as our LNS and the subscriber see them."""

    def __init__(self, kind: str, daemon: Xl2tpd, node: Node, net: Topology) -> None:
        self.kind = kind
        self.daemon = daemon
        self.node = node
        self.net = net

    def connect(self) -> SessionView:
        """Call, and wait until both ends have IP."""
        until(self.daemon.connect, "xl2tpd to place the call")
        until(lambda: self.address, "an address at pppd")
        route_subscribers(self.net, self.daemon.device)
        until(lambda: (s := session_of(self.node, self.kind)) and s.address, "an address in our list")
        session = session_of(self.node, self.kind)
        assert session is not None
        return session

    @property
    def address(self) -> str:
        """The subscriber's address, "" while there is none."""
        return address_of(self.net.lac, self.daemon.device)

    def expect_end(self) -> None:
        """Both ends have let go of the session."""
        until(lambda: not self.daemon.has_pppd, "pppd to end")
        until(lambda: session_of(self.node, self.kind) is None, "our session to end")

    def expect_tunnel_end(self) -> None:
        """We have let go of the tunnel too."""
        until(lambda: tunnel_of(self.node, self.kind) is None, "our tunnel to end")


@pytest.fixture(scope="module")
def lines(node: Node, net: Topology, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Line]]:
    xl2tpd.prepare([])
    lines = {kind: Line(kind, _lac(kind, net, tmp_path_factory.mktemp(kind)), node, net) for kind in SECRETS}
    for line in lines.values():
        line.daemon.start()
    for line in lines.values():
        until(lambda line=line: line.daemon.ready, "xl2tpd")  # type: ignore[misc]
    yield lines
    for line in lines.values():
        line.daemon.close()


def _lac(kind: str, net: Topology, directory: Path) -> Xl2tpd:
    return xl2tpd.lac(
        kind,
        net.lac,
        directory,
        address=LAC_ADDRESSES[kind],
        lns=LNS_ADDRESS,
        user=kind,
        password=PASSWORD,
        secret=SECRETS[kind],
    )


@pytest.fixture(params=[OPEN, GUARDED])
def line(request: pytest.FixtureRequest, lines: dict[str, Line]) -> Iterator[Line]:
    line = lines[request.param]
    yield line
    if line.daemon.has_pppd:
        line.daemon.disconnect()
        line.expect_end()


def test_set_up_ping_and_tcp(line: Line) -> None:
    session = line.connect()
    assert session.address == line.address
    assert in_pool(session.address)
    assert ping(line.net.lac, CORE_ADDRESS, leave_by=line.daemon.device) == 3
    assert ping(line.net.core, line.address) == 3
    exchange(line.net.core, CORE_ADDRESS, line.net.lac, device=line.daemon.device)


CLEARINGS: dict[str, Callable[[Line, SessionView], None]] = {
    "we clear the session": lambda line, session: line.node.control.clear_session(session.key),
    "we clear the tunnel": lambda line, session: line.node.control.clear_tunnel(session.tunnel_id),
    "xl2tpd disconnects": lambda line, session: line.daemon.disconnect(),
    "pppd hangs up": lambda line, session: line.daemon.signal_pppd(signal.SIGTERM),
    "pppd is killed": lambda line, session: line.daemon.signal_pppd(signal.SIGKILL),
}


@pytest.mark.parametrize("clearing", CLEARINGS)
def test_clear(line: Line, clearing: str) -> None:
    CLEARINGS[clearing](line, line.connect())
    line.expect_end()
    if clearing in ("we clear the tunnel", "xl2tpd disconnects"):
        line.expect_tunnel_end()
