"""Our LAC and its PPP client in front of xl2tpd as an LNS, with pppd and the kernel's PPP over L2TP behind it."""

import signal
from collections.abc import Callable, Iterator

import pytest

from holdfast.daemon.views import SessionView
from holdfast.lab.netns import Claim
from holdfast.lab.nodes import Node
from holdfast.lab.peers import xl2tpd
from holdfast.lab.peers.xl2tpd import Xl2tpd
from holdfast.lab.probes import address_of, exchange, ping
from holdfast.lab.topology import CORE_ADDRESS, LNS_CORE_ADDRESS, TUN, Topology, route_subscribers
from interop.rig import (
    GUARDED,
    LNS_ADDRESSES,
    OPEN,
    OUTSIDE,
    PASSWORD,
    SECRETS,
    laboratory,
    lac_tables,
    running,
    session_of,
    tunnel_of,
    until,
)

pytestmark = pytest.mark.skipif(OUTSIDE is not None, reason=str(OUTSIDE))

POOLS = {OPEN: "100.64.1.1-100.64.1.9", GUARDED: "100.64.2.1-100.64.2.9"}


class Line:
    """A subscriber of ours and the LNS that it calls."""

    def __init__(self, kind: str, daemon: Xl2tpd, node: Node, net: Topology) -> None:
        self.kind = kind
        self.daemon = daemon
        self.node = node
        self.net = net

    def connect(self) -> SessionView:
        """Call, and wait until both ends have IP."""
        self.node.control.subscriber(self.kind, "up")
        return self.connected()

    def connected(self, after: int = 0) -> SessionView:
        """Wait until both ends have IP, on another session than `after`."""
        until(lambda: self._session(after), "our subscriber to be connected")
        until(lambda: address_of(self.net.lns, self.daemon.device), "an address at pppd")
        session = self._session(after)
        assert session is not None
        return session

    def _session(self, after: int) -> SessionView | None:
        session = session_of(self.node, self.kind)
        return session if session is not None and session.key != after and session.address else None

    def hang_up(self) -> None:
        """Disconnect the subscriber, and wait until both ends have let go of the session."""
        self.node.control.subscriber(self.kind, "down")
        until(lambda: session_of(self.node, self.kind) is None, "our session to end")
        until(lambda: not self.daemon.has_pppd, "pppd to end")


@pytest.fixture(scope="module")
def lab() -> Iterator[tuple[Claim, Topology]]:
    with laboratory() as made:
        yield made


@pytest.fixture(scope="module")
def daemons(
    lab: tuple[Claim, Topology], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Xl2tpd]]:
    xl2tpd.prepare((kind, PASSWORD) for kind in SECRETS)
    daemons = {
        kind: xl2tpd.lns(
            kind,
            lab[1].lns,
            tmp_path_factory.mktemp(kind),
            address=LNS_ADDRESSES[kind],
            local_ip=LNS_CORE_ADDRESS,
            pool=POOLS[kind],
            secret=secret,
        )
        for kind, secret in SECRETS.items()
    }
    for daemon in daemons.values():
        daemon.start()
    until(lambda: all(daemon.ready for daemon in daemons.values()), "xl2tpd")
    yield daemons
    for daemon in daemons.values():
        daemon.close()


@pytest.fixture(scope="module")
def lines(
    lab: tuple[Claim, Topology], daemons: dict[str, Xl2tpd], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Line]]:
    with running(*lab, "lac", lac_tables(*daemons), tmp_path_factory.mktemp("lac")) as node:
        route_subscribers(lab[1], TUN)
        yield {kind: Line(kind, daemon, node, lab[1]) for kind, daemon in daemons.items()}


@pytest.fixture(params=[OPEN, GUARDED])
def line(request: pytest.FixtureRequest, lines: dict[str, Line]) -> Iterator[Line]:
    line = lines[request.param]
    yield line
    line.hang_up()


def test_set_up_ping_and_tcp(line: Line) -> None:
    session = line.connect()
    assert session.address.startswith(POOLS[line.kind].rpartition("-")[2][:9])
    assert ping(line.net.lac, CORE_ADDRESS, leave_by=session.address) == 3
    assert ping(line.net.core, session.address) == 3
    exchange(line.net.core, CORE_ADDRESS, line.net.lac, source=session.address)


CLEARINGS: dict[str, Callable[[Line, SessionView], None]] = {
    "we clear the session": lambda line, session: line.node.control.clear_session(session.key),
    "we clear the tunnel": lambda line, session: line.node.control.clear_tunnel(session.tunnel_id),
    "pppd hangs up": lambda line, session: line.daemon.signal_pppd(signal.SIGTERM),
    "pppd is killed": lambda line, session: line.daemon.signal_pppd(signal.SIGKILL),
}


@pytest.mark.parametrize("clearing", CLEARINGS)
def test_clear_and_call_again(line: Line, clearing: str) -> None:
    first = line.connect()
    CLEARINGS[clearing](line, first)
    second = line.connected(after=first.key)
    assert ping(line.net.lac, CORE_ADDRESS, leave_by=second.address) == 3


def test_disconnect(line: Line) -> None:
    line.connect()
    line.hang_up()
    assert tunnel_of(line.node, line.kind) is not None


def test_the_lns_ends_and_comes_back(line: Line) -> None:
    first = line.connect()
    line.daemon.end()
    until(lambda: session_of(line.node, line.kind) is None, "our session to end")
    line.daemon.start()
    second = line.connected(after=first.key)
    assert second.tunnel_id != first.tunnel_id
