"""A line: one subscriber between a node of ours and a daemon of somebody else's. What the cells ask of every peer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from holdfast.daemon.views import SessionView, TunnelView
from holdfast.lab.nodes import Node
from holdfast.lab.probes import Pings, Transfer, exchange, ping
from holdfast.lab.topology import CORE_ADDRESS, Topology
from interop.rig import RECOVERY_S, Station, session_of, tunnel_of, until

MakeDirectory = Callable[[str], Path]


class Line(ABC):
    """One subscriber between a daemon of theirs and a node of ours.

    `repeats_until_s`: what the peer says, and nobody acknowledges, it says for the last time after so many seconds.
    """

    repeats_until_s = 15

    def __init__(self, role: str, kind: str, station: Station, net: Topology, subscriber: str = "") -> None:
        """`role` is our node's, `kind` the name of the peer, and of the subscriber if that has none of its own."""
        self.kind = kind
        self.subscriber = subscriber or kind
        self.station = station
        self.net = net
        self.name = f"{role}-{self.subscriber}"

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
        """Where the peer is."""

    @property
    @abstractmethod
    def leave_by(self) -> str:
        """The device or the source address by which the subscriber sends."""

    @property
    @abstractmethod
    def at_peer(self) -> object:
        """What the peer has of the call: equal to the same thing asked later if it has noticed nothing; None without
        a call.
        """

    @property
    def half_made_at_peer(self) -> int:
        """How many calls the peer has, this one's or others', whose PPP is not up."""
        return 0

    @abstractmethod
    def end(self) -> None:
        """The subscriber ends the call; the tunnel stays."""

    @abstractmethod
    def peer_ends_call(self, session: SessionView) -> None:
        """The peer ends the call, even while our node is dead."""

    @abstractmethod
    def peer_ends_tunnel(self, tunnel: TunnelView) -> None:
        """The peer ends the tunnel, even while our node is dead."""

    @property
    def logged(self) -> int:
        """How much the peer has logged, if that can be read."""
        return 0

    def complaints(self, since: int) -> list[str]:
        """What the peer has logged since it had logged so much, but for what is ordinary."""
        return []

    def connected(self, after: int = 0) -> SessionView:
        """Wait until both ends have IP."""
        until(lambda: self.ready(after), f"{self.name} to be connected", RECOVERY_S)
        session = self.session
        assert session is not None
        return session

    def connect(self) -> SessionView:
        """Call, and wait until both ends have IP."""
        self.call()
        return self.connected()

    def released(self) -> None:
        """Wait until both ends have let go of the session."""
        until(lambda: self.at_peer is None, f"the peer of {self.name} to let go of the call")
        until(lambda: self.session is None, f"our session of {self.name} to end")

    def without_tunnel(self, tunnel_id: int = 0) -> None:
        """Wait until we have let go of that tunnel too, or of any to this peer."""
        until(lambda: not self._has_tunnel(tunnel_id), f"our tunnel of {self.name} to end", RECOVERY_S)

    def _has_tunnel(self, tunnel_id: int) -> bool:
        tunnel = tunnel_of(self.node, self.kind)
        return tunnel is not None and tunnel_id in (0, tunnel.id)

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


class LineFromOurLac(Line):
    """Our LAC places the calls, and our PPP client is the subscriber."""

    def call(self) -> None:
        self.node.control.subscriber(self.subscriber, "up")

    def end(self) -> None:
        self.node.control.subscriber(self.subscriber, "down")

    @property
    def leave_by(self) -> str:
        session = self.session
        assert session is not None
        return session.address


L = TypeVar("L", bound=Line, covariant=True)


class Stage(Generic[L]):
    """A station of ours in one role, and its lines; `more` are second subscribers, who call when told to."""

    def __init__(self, station: Station, lines: Mapping[str, L], more: Sequence[L] = ()) -> None:
        self.station = station
        self.lines = lines
        self.more = more

    @property
    def all(self) -> Sequence[L]:
        """Every line but `more`."""
        return list(self.lines.values())
