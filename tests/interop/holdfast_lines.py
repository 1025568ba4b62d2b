"""Lines between two nodes of ours of which the other one has never heard of RFC 4951 (`failover.advertise = false`).

Four lines end on the node that is killed, each at a node of its own: without a tunnel secret and with one, recovered
by the method that `auto` chooses and by `silent`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import TypeAlias

from holdfast.daemon.views import SessionView, TunnelView
from holdfast.lab.netns import Claim, claim, ip
from holdfast.lab.nodes import Node
from holdfast.lab.topology import (
    LAC_ADDRESS,
    LNS_ADDRESS,
    LNS_CORE_ADDRESS,
    TUN,
    WIRE,
    Topology,
    build,
    route_subscriber,
    route_subscribers,
    set_apart,
)
from interop.lines import Line as AnyLine
from interop.lines import LineFromOurLac as AnyLineFromOurLac
from interop.lines import MakeDirectory, Stage
from interop.rig import GUARDED, OPEN, PASSWORD, SECRETS, Station, forwards, running

METHODS = ("auto", "silent")
SECRET_OF = {f"{kind}-{method}": SECRETS[kind] for kind, method in product((OPEN, GUARDED), METHODS)}
METHOD_OF = {f"{kind}-{method}": method for kind, method in product((OPEN, GUARDED), METHODS)}
NUMBER_OF = {kind: number for number, kind in enumerate(SECRET_OF, start=1)}
US = "us"
"""Our node, as its peers call it."""

UNAWARE = "[failover]\nadvertise = false\n"


def address_of(kind: str) -> str:
    """Where a peer is: on the far side of the wire."""
    return f"192.0.2.{10 + NUMBER_OF[kind]}"


def pool_of(kind: str) -> str:
    """What a peer gives out as an LNS; as a LAC its subscriber gets the address before the pool, from us."""
    return f"100.64.{NUMBER_OF[kind]}.1-100.64.{NUMBER_OF[kind]}.9"


def fixed_address(name: str) -> str:
    """What our LNS gives to a subscriber."""
    kind = name.removesuffix(MORE)
    return f"100.64.{NUMBER_OF[kind]}.{20 + name.endswith(MORE)}"


MORE = "-more"
"""A second subscriber of a line, who calls when told to, has this after the first one's name."""

AtPeer: TypeAlias = tuple[int, int, int, str]


class Line(AnyLine):
    """A subscriber between a node of ours and a peer that is another node of ours."""

    def __init__(
        self, role: str, kind: str, peer: Node, station: Station, net: Topology, subscriber: str = ""
    ) -> None:
        super().__init__(role, kind, station, net, subscriber)
        self.peer = peer

    @property
    def session(self) -> SessionView | None:
        return _session(self.node, self.kind, self.subscriber)

    def ready(self, after: int = 0) -> SessionView | None:
        session, theirs = self.session, _session(self.peer, US, self.subscriber)
        if session is None or session.key == after or theirs is None:
            return None
        whole = (theirs.peer_id, theirs.address) == (session.id, session.address)
        return session if whole and forwards(self.node, session) and forwards(self.peer, theirs) else None

    @property
    def peer_address(self) -> str:
        return address_of(self.kind)

    @property
    def at_peer(self) -> AtPeer | None:
        session = _session(self.peer, US, self.subscriber)
        if session is None:
            return None
        return session.key, session.peer_id, session.established_utc_us, session.address

    @property
    def half_made_at_peer(self) -> int:
        return sum(not session.address for session in self.peer.control.sessions())

    def peer_ends_call(self, session: SessionView) -> None:
        theirs = _session(self.peer, US, self.subscriber)
        assert theirs is not None
        self.peer.control.clear_session(theirs.key)

    def peer_ends_tunnel(self, tunnel: TunnelView) -> None:
        self.peer.control.clear_tunnel(tunnel.peer_id)


class LineFromOurLac(Line, AnyLineFromOurLac):
    """The peer is the LNS."""


class LineToOurLns(Line):
    """The peer is the LAC, and runs the subscriber."""

    def call(self) -> None:
        self.peer.control.subscriber(self.subscriber, "up")

    def end(self) -> None:
        self.peer.control.subscriber(self.subscriber, "down")

    @property
    def leave_by(self) -> str:
        return fixed_address(self.subscriber)


def _session(node: Node, peer_name: str, name: str) -> SessionView | None:
    """A subscriber's session; before PPP knows a user, the call's number tells whose it is."""
    sessions = node.control.sessions()
    return next(
        (s for s in sessions if s.peer_name == peer_name and name in (s.user, s.calling_number)), None
    )


@contextmanager
def our_lns(make_directory: MakeDirectory) -> Iterator[Stage[LineToOurLns]]:
    """Our LNS, and LACs whose subscribers have called already."""
    with _place("lac") as (lab, net), ExitStack() as at_end:
        users = "".join(
            f'[[user]]\nname = "{name}"\nsecret = "{PASSWORD}"\naddress = "{fixed_address(name)}"\n'
            for kind in SECRET_OF
            for name in (kind, kind + MORE)
        )
        tables = f'{_ppp()}[listen]\naddress = "{LNS_ADDRESS}"\n{_peers()}{users}'
        station = at_end.enter_context(running(lab, net, "lns", tables, make_directory("our-lns")))
        peers: dict[str, Node] = {}
        for kind in SECRET_OF:
            tables = f"{UNAWARE}{_us(kind, LNS_ADDRESS)}connect = true\n{_subscribers(kind, US)}"
            peers[kind] = _peer(at_end, lab, net, "lac", kind, tables, make_directory)
            for name in (kind, kind + MORE):
                set_apart(net, fixed_address(name))
                route_subscriber(net, fixed_address(name), _device(kind))
        yield Stage(
            station,
            {k: LineToOurLns("lns", k, peer, station, net) for k, peer in peers.items()},
            [LineToOurLns("lns", k, peer, station, net, k + MORE) for k, peer in peers.items()],
        )


@contextmanager
def our_lac(make_directory: MakeDirectory) -> Iterator[Stage[LineFromOurLac]]:
    """Our LAC, whose subscribers have called the LNSs already."""
    with _place("lns") as (lab, net), ExitStack() as at_end:
        peers: dict[str, Node] = {}
        for kind in SECRET_OF:
            users = "".join(
                f'[[user]]\nname = "{name}"\nsecret = "{PASSWORD}"\n' for name in (kind, kind + MORE)
            )
            pool = f'[[pool]]\nname = "subscribers"\nrange = "{pool_of(kind)}"\n'
            tables = f"{UNAWARE}{_ppp()}{_us(kind, LAC_ADDRESS)}{pool}{users}"
            peers[kind] = _peer(at_end, lab, net, "lns", kind, tables, make_directory)
        subscribers = "".join(_subscribers(kind, kind) for kind in SECRET_OF)
        tables = f'[listen]\naddress = "{LAC_ADDRESS}"\n{_peers("connect = true")}{subscribers}'
        station = at_end.enter_context(running(lab, net, "lac", tables, make_directory("our-lac")))
        route_subscribers(net, TUN)
        yield Stage(
            station,
            {k: LineFromOurLac("lac", k, peer, station, net) for k, peer in peers.items()},
            [LineFromOurLac("lac", k, peer, station, net, k + MORE) for k, peer in peers.items()],
        )


@contextmanager
def _place(theirs: str) -> Iterator[tuple[Claim, Topology]]:
    """The namespaces, with an address of each peer on its side of the wire, which is that of the role `theirs`."""
    with claim() as lab:
        net = build(lab)
        ours = net.lns if theirs == "lac" else net.lac
        ip(*(f"addr add {address_of(kind)}/32 dev {WIRE}" for kind in SECRET_OF), namespace=net.of(theirs))
        ip(*(f"route add {address_of(kind)} dev {WIRE}" for kind in SECRET_OF), namespace=ours)
        yield lab, net


def _peer(
    at_end: ExitStack,
    lab: Claim,
    net: Topology,
    role: str,
    kind: str,
    tables: str,
    make_directory: MakeDirectory,
) -> Node:
    station = running(
        lab, net, role, tables, make_directory(f"peer-{kind}"), name=f"{role}-{kind}", device=_device(kind)
    )
    return at_end.enter_context(station).node


def _device(kind: str) -> str:
    return f"{TUN[:-1]}{NUMBER_OF[kind]}"


def _ppp() -> str:
    return f'[ppp]\nauth = ["chap"]\nlocal_address = "{LNS_CORE_ADDRESS}"\n'


def _us(kind: str, address: str) -> str:
    """A peer's own address, and our node as the peer's configuration has it."""
    listen = f'[listen]\naddress = "{address_of(kind)}"\n'
    return f'{listen}[[peer]]\nname = "{US}"\naddress = "{address}"\nsecret = "{SECRET_OF[kind]}"\n'


def _peers(more: str = "") -> str:
    """The peers as our node's configuration has them."""
    return "".join(
        f'[[peer]]\nname = "{kind}"\naddress = "{address_of(kind)}"\nsecret = "{secret}"\n'
        f'method = "{METHOD_OF[kind]}"\n{more}\n'
        for kind, secret in SECRET_OF.items()
    )


def _subscribers(kind: str, tunnel: str) -> str:
    return "".join(
        f'[[subscriber]]\nname = "{name}"\nsecret = "{PASSWORD}"\ntunnel = "{tunnel}"\nauto = {auto}\n'
        for name, auto in ((kind, "true"), (kind + MORE, "false"))
    )
