"""Lines between us and xl2tpd with pppd, in either role; one line without a tunnel secret and one with, on one node."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from holdfast.daemon.views import SessionView, TunnelView
from holdfast.lab.nodes import Node
from holdfast.lab.peers import xl2tpd
from holdfast.lab.peers.xl2tpd import Xl2tpd
from holdfast.lab.probes import Pings, Transfer, address_of, exchange, ping
from holdfast.lab.topology import (
    CORE_ADDRESS,
    LNS_ADDRESS,
    LNS_CORE_ADDRESS,
    TUN,
    Topology,
    route_subscriber,
    route_subscribers,
    set_apart,
)
from interop.rig import (
    GUARDED,
    LAC_ADDRESSES,
    LNS_ADDRESSES,
    OPEN,
    PASSWORD,
    SECRETS,
    Station,
    in_pool,
    laboratory,
    lac_tables,
    lns_tables,
    running,
    session_of,
    tunnel_of,
    until,
)

POOLS = {OPEN: ("100.64.1.1", "100.64.1.9"), GUARDED: ("100.64.2.1", "100.64.2.9")}
"""What xl2tpd gives out as an LNS."""

MakeDirectory = Callable[[str], Path]


class Line(ABC):
    """One subscriber between a daemon of theirs and a node of ours."""

    def __init__(self, role: str, kind: str, daemon: Xl2tpd, station: Station, net: Topology) -> None:
        self.kind = kind
        self.daemon = daemon
        self.station = station
        self.net = net
        self.name = f"{role}-{kind}"

    @property
    def node(self) -> Node:
        """Ours."""
        return self.station.node

    @property
    def session(self) -> SessionView | None:
        """Our session, whatever its state."""
        return session_of(self.node, self.kind)

    @property
    def tunnel(self) -> TunnelView:
        """Our tunnel, which is established."""
        tunnel = tunnel_of(self.node, self.kind)
        assert tunnel is not None, f"{self.name}: no tunnel"
        return tunnel

    @abstractmethod
    def call(self) -> None:
        """Place the call."""

    @abstractmethod
    def ready(self, after: int = 0) -> SessionView | None:
        """The session, on another key than `after`, once both ends have the subscriber's IP address."""

    @property
    @abstractmethod
    def peer_address(self) -> str:
        """Where xl2tpd is."""

    @property
    @abstractmethod
    def leave_by(self) -> str:
        """The device or the source address by which the subscriber sends."""

    def connected(self, after: int = 0) -> SessionView:
        """Wait until both ends have IP."""
        until(lambda: self.ready(after), f"{self.name} to be connected")
        session = self.session
        assert session is not None
        return session

    def connect(self) -> SessionView:
        """Call, and wait until both ends have IP."""
        self.call()
        return self.connected()

    def released(self) -> None:
        """Wait until both ends have let go of the session."""
        until(lambda: self.daemon.pppd is None, f"pppd of {self.name} to end")
        until(lambda: self.session is None, f"our session of {self.name} to end")

    def without_tunnel(self) -> None:
        """Wait until we have let go of the tunnel too."""
        until(lambda: tunnel_of(self.node, self.kind) is None, f"our tunnel of {self.name} to end")

    @abstractmethod
    def end(self) -> None:
        """The subscriber ends the call; the tunnel stays."""

    def hang_up(self) -> None:
        """End the call, and wait until both ends have let go of it."""
        self.end()
        self.released()

    def expect_pings(self) -> None:
        """Echo-Requests are answered both ways."""
        session = self.session
        assert session is not None
        assert ping(self.net.lac, CORE_ADDRESS, leave_by=self.leave_by) == 3, (
            f"{self.name}: pings of the subscriber"
        )
        assert ping(self.net.core, session.address) == 3, f"{self.name}: pings to the subscriber"

    def expect_traffic(self) -> None:
        """Pings both ways, and TCP."""
        self.expect_pings()
        exchange(self.net.core, CORE_ADDRESS, self.net.lac, leave_by=self.leave_by, octets=1 << 18)

    def pings(self, directory: Path) -> Pings:
        """The subscriber pings, in the background."""
        return Pings(self.net.lac, CORE_ADDRESS, directory, leave_by=self.leave_by)

    def transfer(self, directory: Path) -> Transfer:
        """The subscriber has a TCP connection, in the background."""
        return Transfer(self.net.core, CORE_ADDRESS, self.net.lac, directory, leave_by=self.leave_by)


class LineToOurLns(Line):
    """xl2tpd is the LAC, and its pppd the subscriber. `apart`: the addresses that have a route of their own."""

    def __init__(self, kind: str, daemon: Xl2tpd, station: Station, net: Topology, apart: set[str]) -> None:
        super().__init__("lns", kind, daemon, station, net)
        self._apart = apart

    def call(self) -> None:
        until(self.daemon.connect, f"xl2tpd of {self.name} to place the call")

    def ready(self, after: int = 0) -> SessionView | None:
        address, session = address_of(self.net.lac, self.daemon.device), self.session
        if session is None or session.key == after or not address or session.address != address:
            return None
        if address not in self._apart:
            set_apart(self.net, address)
            self._apart.add(address)
        route_subscriber(self.net, address, self.daemon.device)
        return session

    @property
    def leave_by(self) -> str:
        return self.daemon.device

    def end(self) -> None:
        self.daemon.hang_up()

    @property
    def peer_address(self) -> str:
        return LAC_ADDRESSES[self.kind]


class LineFromOurLac(Line):
    """xl2tpd with its pppd is the LNS, and our PPP client the subscriber."""

    def call(self) -> None:
        self.node.control.subscriber(self.kind, "up")

    def ready(self, after: int = 0) -> SessionView | None:
        session = self.session
        if session is None or session.key == after or not session.address:
            return None
        return session if address_of(self.net.lns, self.daemon.device) else None

    @property
    def leave_by(self) -> str:
        session = self.session
        assert session is not None
        return session.address

    def end(self) -> None:
        self.node.control.subscriber(self.kind, "down")

    @property
    def peer_address(self) -> str:
        return LNS_ADDRESSES[self.kind]


class Stage:
    """A station of ours, and its two lines."""

    def __init__(self, station: Station, lines: Mapping[str, Line]) -> None:
        self.station = station
        self.lines = lines


@contextmanager
def our_lns(make_directory: MakeDirectory) -> Iterator[Stage]:
    """Our LNS, and two xl2tpd as LACs of it that wait for commands."""
    with ExitStack() as at_end:
        lab, net = at_end.enter_context(laboratory())
        station = at_end.enter_context(running(lab, net, "lns", lns_tables(), make_directory("our-lns")))
        _prepare()
        daemons = {
            kind: xl2tpd.lac(
                f"lac-{kind}",
                net.lac,
                make_directory(f"lac-{kind}"),
                address=LAC_ADDRESSES[kind],
                lns=LNS_ADDRESS,
                user=kind,
                password=PASSWORD,
                secret=secret,
            )
            for kind, secret in SECRETS.items()
        }
        _start(daemons, at_end)
        apart: set[str] = set()
        yield Stage(station, {k: LineToOurLns(k, d, station, net, apart) for k, d in daemons.items()})


@contextmanager
def our_lac(make_directory: MakeDirectory) -> Iterator[Stage]:
    """Our LAC with a subscriber for each of two xl2tpd, which are LNSs; they have called already."""
    with ExitStack() as at_end:
        lab, net = at_end.enter_context(laboratory())
        _prepare()
        daemons = {
            kind: xl2tpd.lns(
                f"lns-{kind}",
                net.lns,
                make_directory(f"lns-{kind}"),
                address=LNS_ADDRESSES[kind],
                local_ip=LNS_CORE_ADDRESS,
                pool="-".join(POOLS[kind]),
                secret=secret,
            )
            for kind, secret in SECRETS.items()
        }
        _start(daemons, at_end)
        tables = lac_tables(*daemons)
        station = at_end.enter_context(running(lab, net, "lac", tables, make_directory("our-lac")))
        route_subscribers(net, TUN)
        yield Stage(station, {k: LineFromOurLac("lac", k, d, station, net) for k, d in daemons.items()})


def _prepare() -> None:
    xl2tpd.prepare((kind, PASSWORD) for kind in SECRETS)


def _start(daemons: Mapping[str, Xl2tpd], at_end: ExitStack) -> None:
    for daemon in daemons.values():
        at_end.callback(daemon.close)
        daemon.start()
    until(lambda: all(daemon.ready for daemon in daemons.values()), "xl2tpd")


def in_range(line: Line, address: str) -> bool:
    """Whether the LNS of that line may have given out this address."""
    if isinstance(line, LineToOurLns):
        return in_pool(address)
    first, last = map(IPv4Address, POOLS[line.kind])
    return first <= IPv4Address(address) <= last
