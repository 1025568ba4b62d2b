"""Our LAC and its PPP client in front of l2tpns: no secret and PAP, then a secret and CHAP."""

from collections.abc import Callable, Iterator
from itertools import repeat

import pytest

from holdfast.daemon.views import SessionView
from holdfast.lab import netns
from holdfast.lab.nodes import Node
from holdfast.lab.peers import l2tpns
from holdfast.lab.peers.l2tpns import L2tpns
from holdfast.lab.peers.radius import RadiusServer, User
from holdfast.lab.probes import exchange, ping
from holdfast.lab.topology import CORE_ADDRESS, TUN, Topology, route_subscribers
from interop.rig import (
    GUARDED,
    LNS_ADDRESSES,
    OPEN,
    PASSWORD,
    SECRETS,
    forwards,
    laboratory,
    lac_tables,
    on_command,
    possible,
    running,
    session_of,
    tunnel_of,
    until,
)

pytestmark = possible(l2tpns.unavailable() or netns.unavailable())

ADDRESS = "100.64.3.1"
INSIDE = "198.51.100.9"
RADIUS = ("127.0.0.1", 1812)
RADIUS_SECRET = "between the two of them"
CROWD = {f"crowd{i}": f"100.64.4.{i + 1}" for i in range(20)}
AUTHENTICATION = {OPEN: "pap", GUARDED: "chap"}


class Line:
    """Our subscriber and the LNS that it calls."""

    def __init__(self, kind: str, daemon: L2tpns, node: Node, net: Topology) -> None:
        self.kind = kind
        self.daemon = daemon
        self.node = node
        self.net = net

    def connected(self, after: int = 0) -> SessionView:
        """Wait until the subscriber can send, on another session than `after`."""
        until(lambda: self._session(after), "our subscriber to be connected")
        session = self._session(after)
        assert session is not None
        return session

    def _session(self, after: int) -> SessionView | None:
        session = session_of(self.node, self.kind)
        if session is None or session.key == after or not forwards(self.node, session):
            return None
        return session


@pytest.fixture(scope="module", params=[OPEN, GUARDED])
def line(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    kind = request.param
    with laboratory() as (lab, net):
        users = {name: User(PASSWORD, address) for name, address in {kind: ADDRESS, **CROWD}.items()}
        directory = tmp_path_factory.mktemp("l2tpns")
        radius = RadiusServer(net.lns, RADIUS, RADIUS_SECRET, users, directory / "radius.log")
        daemon = L2tpns(
            net.lns,
            directory,
            address=LNS_ADDRESSES[kind],
            inside_address=INSIDE,
            radius=RADIUS,
            radius_secret=RADIUS_SECRET,
            secret=SECRETS[kind],
            authentication=AUTHENTICATION[kind],
        )
        daemon.start()
        try:
            until(lambda: daemon.ready, "l2tpns")
            tables = lac_tables(kind) + "".join(map(on_command, CROWD, repeat(kind)))
            with running(lab, net, "lac", tables, tmp_path_factory.mktemp("lac")) as station:
                route_subscribers(net, TUN)
                yield Line(kind, daemon, station.node, net)
        finally:
            daemon.close()
            radius.close()


def expect_traffic(line: Line, session: SessionView) -> None:
    """Every ping is answered, both ways."""
    assert ping(line.net.lac, CORE_ADDRESS, leave_by=session.address) == 3
    assert ping(line.net.core, session.address) == 3


def test_set_up_ping_and_tcp(line: Line) -> None:
    session = line.connected()
    assert session.address == ADDRESS
    expect_traffic(line, session)
    exchange(line.net.core, CORE_ADDRESS, line.net.lac, leave_by=session.address)


CLEARINGS: dict[str, Callable[[Line, SessionView], None]] = {
    "we clear the session": lambda line, session: line.node.control.clear_session(session.key),
    "we clear the tunnel": lambda line, session: line.node.control.clear_tunnel(session.tunnel_id),
    "l2tpns drops the session": lambda line, session: line.daemon.drop_session(session.peer_id),
    "l2tpns drops the tunnel": lambda line, session: line.daemon.drop_tunnel(_peer_tunnel(line)),
}


def _peer_tunnel(line: Line) -> int:
    tunnel = tunnel_of(line.node, line.kind)
    assert tunnel is not None
    return tunnel.peer_id


@pytest.mark.parametrize("clearing", CLEARINGS)
def test_clear_and_call_again(line: Line, clearing: str) -> None:
    first = line.connected()
    CLEARINGS[clearing](line, first)
    expect_traffic(line, line.connected(after=first.key))


def test_disconnect(line: Line) -> None:
    line.connected()
    line.node.control.subscriber(line.kind, "down")
    until(lambda: session_of(line.node, line.kind) is None, "our session to end")
    assert tunnel_of(line.node, line.kind) is not None
    line.node.control.subscriber(line.kind, "up")
    expect_traffic(line, line.connected())


def test_many_calls_at_once_in_a_window_of_four(line: Line) -> None:
    tunnel = tunnel_of(line.node, line.kind)
    assert tunnel is not None
    assert tunnel.peer_window == 4
    for name in CROWD:
        line.node.control.subscriber(name, "up")
    until(lambda: crowd(line) == CROWD, "everybody to be connected")
    for name in CROWD:
        line.node.control.subscriber(name, "down")
    until(lambda: not crowd(line), "everybody to be gone")


def crowd(line: Line) -> dict[str, str]:
    """Who is connected besides the line's own subscriber, with which address."""
    sessions = line.node.control.sessions()
    return {s.subscriber: s.address for s in sessions if s.address and s.subscriber in CROWD}
