"""Lines between us and xl2tpd with pppd, in either role; one line without a tunnel secret and one with, on one node."""

import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from typing import TypeAlias

from holdfast.daemon.views import SessionView, TunnelView
from holdfast.lab.netns import has_device
from holdfast.lab.peers import xl2tpd
from holdfast.lab.peers.xl2tpd import Xl2tpd
from holdfast.lab.probes import address_of
from holdfast.lab.topology import (
    LNS_ADDRESS,
    LNS_CORE_ADDRESS,
    TUN,
    Topology,
    route_subscriber,
    route_subscribers,
    set_apart,
)
from interop.lines import Line as AnyLine
from interop.lines import LineFromOurLac as AnyLineFromOurLac
from interop.lines import MakeDirectory
from interop.lines import Stage as AnyStage
from interop.outage import connect, stations
from interop.rig import (
    GUARDED,
    LAC_ADDRESSES,
    LNS_ADDRESSES,
    OPEN,
    PASSWORD,
    SECRETS,
    Station,
    forwards,
    in_pool,
    laboratory,
    lac_tables,
    lns_tables,
    running,
    until,
)

POOLS = {OPEN: ("100.64.1.1", "100.64.1.9"), GUARDED: ("100.64.2.1", "100.64.2.9")}
"""What xl2tpd gives out as an LNS."""

PROBE_HEARD = (
    re.compile(
        r"check_control: Received out of order control packet on tunnel \d+ \(got \d+, expected \d+\)"
    ),
    re.compile(r"handle_control: bad control packet!"),
)
"""What xl2tpd logs of every duplicate, and so of our probes, before it acknowledges it."""


def complaints(logged: str) -> list[str]:
    """What xl2tpd has logged, but for the duplicates that it was sent."""
    lines = [line.partition(": ")[2] for line in logged.splitlines()]
    return [line for line in lines if not any(known.fullmatch(line.strip()) for known in PROBE_HEARD)]


class Line(AnyLine):
    """One subscriber between xl2tpd with its pppd and a node of ours."""

    def __init__(self, role: str, kind: str, daemon: Xl2tpd, station: Station, net: Topology) -> None:
        super().__init__(role, kind, station, net)
        self.daemon = daemon

    @property
    def at_peer(self) -> int | None:
        return self.daemon.pppd

    @property
    def half_made_at_peer(self) -> int:
        return self.daemon.calls - (self.ready() is not None)

    @property
    def logged(self) -> int:
        return len(self.daemon.said)

    def complaints(self, since: int) -> list[str]:
        return complaints(self.daemon.said[since:])

    def peer_ends_call(self, session: SessionView) -> None:
        self.daemon.signal_pppd(signal.SIGKILL)

    def peer_ends_tunnel(self, tunnel: TunnelView) -> None:
        self.daemon.stop_tunnel(tunnel.peer_id)


class LineToOurLns(Line):
    """xl2tpd is the LAC, and its pppd the subscriber. `apart`: the addresses that have a route of their own."""

    def __init__(self, kind: str, daemon: Xl2tpd, station: Station, net: Topology, apart: set[str]) -> None:
        super().__init__("lns", kind, daemon, station, net)
        self._apart = apart

    def call(self) -> None:
        """A pppd that is still going away keeps the name of the device, without which the next one does not start."""
        device = self.daemon.device
        until(lambda: not has_device(self.net.lac, device), f"{device} of the last call to go away")
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


class LineFromOurLac(Line, AnyLineFromOurLac):
    """xl2tpd with its pppd is the LNS, and our PPP client the subscriber."""

    def ready(self, after: int = 0) -> SessionView | None:
        session = self.session
        if session is None or session.key == after or not forwards(self.node, session):
            return None
        return session if address_of(self.net.lns, self.daemon.device) else None

    @property
    def peer_address(self) -> str:
        return LNS_ADDRESSES[self.kind]


Stage: TypeAlias = AnyStage[Line]


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


Stages: TypeAlias = Mapping[str, Stage]
"""By our role."""


@contextmanager
def both_roles(make_directory: MakeDirectory) -> Iterator[Stages]:
    """Our LNS and our LAC, each with a line of each kind."""
    with our_lns(make_directory) as lns, our_lac(make_directory) as lac:
        yield {"lns": lns, "lac": lac}


def all_connected(stages: Stages) -> Sequence[Line]:
    """All lines. What a test that failed has left behind is cleared away first."""
    lines = [line for stage in stages.values() for line in stage.all]
    for station in stations(lines):
        station.revive()
    for line in lines:
        if line.ready() is None and line.half_made_at_peer:
            line.node.control.clear_tunnel(line.tunnel.id)
            line.released()
    connect(lines)
    return lines


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
