"""Lines from our LAC to l2tpns: one without a tunnel secret and with PAP, one with a secret and CHAP, on one node."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from holdfast.daemon.views import SessionView, TunnelView
from holdfast.lab.peers.l2tpns import L2tpns, Session
from holdfast.lab.peers.radius import RadiusServer, User
from holdfast.lab.topology import TUN, Topology, route_subscribers
from interop.lines import LineFromOurLac, MakeDirectory, Stage
from interop.rig import (
    GUARDED,
    LNS_ADDRESSES,
    OPEN,
    PASSWORD,
    SECRETS,
    Station,
    forwards,
    laboratory,
    lac_tables,
    on_command,
    running,
    until,
)

MORE = {kind: f"{kind}-more" for kind in SECRETS}
ADDRESSES = {name: f"100.64.3.{n}" for n, name in enumerate((*SECRETS, *MORE.values()), start=1)}
"""What RADIUS gives to each subscriber."""

INSIDE = {OPEN: "198.51.100.9", GUARDED: "198.51.100.10"}
AUTHENTICATION = {OPEN: "pap", GUARDED: "chap"}
RADIUS = ("127.0.0.1", 1812)
RADIUS_SECRET = "between the two of them"


class Line(LineFromOurLac):
    """Our subscriber and the l2tpns that it calls."""

    repeats_until_s = 31

    def __init__(
        self, kind: str, daemon: L2tpns, station: Station, net: Topology, subscriber: str = ""
    ) -> None:
        super().__init__("lac", kind, station, net, subscriber)
        self.daemon = daemon

    @property
    def session(self) -> SessionView | None:
        return next((s for s in self.node.control.sessions() if s.calling_number == self.subscriber), None)

    def ready(self, after: int = 0) -> SessionView | None:
        session = self.session
        if session is None or session.key == after or not forwards(self.node, session):
            return None
        return session

    @property
    def peer_address(self) -> str:
        return LNS_ADDRESSES[self.kind]

    @property
    def at_peer(self) -> Session | None:
        return next((s for s in self.daemon.sessions() if s.address == ADDRESSES[self.subscriber]), None)

    @property
    def half_made_at_peer(self) -> int:
        nowhere = [s.session for s in self.daemon.sessions() if s.address == "0.0.0.0"]
        return sum(self.daemon.lives(session_id) for session_id in nowhere)

    def peer_ends_call(self, session: SessionView) -> None:
        self.daemon.drop_session(session.peer_id)

    def peer_ends_tunnel(self, tunnel: TunnelView) -> None:
        self.daemon.drop_tunnel(tunnel.peer_id)


@contextmanager
def our_lac(make_directory: MakeDirectory) -> Iterator[Stage[Line]]:
    """Our LAC with subscribers of two l2tpns; the first ones have called already."""
    users = {name: User(PASSWORD, address) for name, address in ADDRESSES.items()}
    with ExitStack() as at_end:
        lab, net = at_end.enter_context(laboratory())
        at_end.enter_context(
            closing(RadiusServer(net.lns, RADIUS, RADIUS_SECRET, users, make_directory("radius") / "log"))
        )
        daemons = {
            kind: L2tpns(
                net.lns,
                make_directory(f"l2tpns-{kind}"),
                address=LNS_ADDRESSES[kind],
                inside_address=INSIDE[kind],
                radius=RADIUS,
                radius_secret=RADIUS_SECRET,
                secret=secret,
                authentication=AUTHENTICATION[kind],
                number=number,
            )
            for number, (kind, secret) in enumerate(SECRETS.items(), start=1)
        }
        for daemon in daemons.values():
            at_end.callback(daemon.close)
            daemon.start()
        until(lambda: all(daemon.ready for daemon in daemons.values()), "l2tpns")
        tables = lac_tables(*daemons) + "".join(on_command(name, kind) for kind, name in MORE.items())
        station = at_end.enter_context(running(lab, net, "lac", tables, make_directory("our-lac")))
        route_subscribers(net, TUN)
        yield Stage(
            station,
            {kind: Line(kind, daemon, station, net) for kind, daemon in daemons.items()},
            [Line(kind, daemons[kind], station, net, name) for kind, name in MORE.items()],
        )
