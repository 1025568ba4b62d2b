"""What the cells of the interop matrix share: places, configurations, waiting, and the kill of a node of ours."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from holdfast.daemon.views import SessionView, TunnelView
from holdfast.lab.events import Event
from holdfast.lab.kernel import uml
from holdfast.lab.netns import Claim, LabUnavailable, claim, ip
from holdfast.lab.nodes import Node, forked
from holdfast.lab.tap import Said, Tap
from holdfast.lab.topology import (
    LAC_ADDRESS,
    LNS_ADDRESS,
    LNS_CORE_ADDRESS,
    POOL,
    TUN,
    WIRE,
    Topology,
    build,
)
from holdfast.state import inspect
from holdfast.state.saved import Saved

OUTSIDE = None if uml.inside() else "needs a kernel with PPP over L2TP: make test-interop"

OPEN, GUARDED = "open", "guarded"
"""A tunnel without a secret, and one with; each has its own addresses, as peers are told apart by address."""

SECRET = "nobody else knows it"
LAC_ADDRESSES = {OPEN: "192.0.2.5", GUARDED: LAC_ADDRESS}
LNS_ADDRESSES = {OPEN: "192.0.2.6", GUARDED: LNS_ADDRESS}
SECRETS = {OPEN: "", GUARDED: SECRET}
PASSWORD = "swordfish"

LIMIT_S = 25.0
RECOVERY_S = 60.0
_POLL_S = 0.05


def possible(reason: str | None) -> pytest.MarkDecorator:
    """For `pytestmark`: skip where a test cannot run; but under make test-interop that fails (LabUnavailable)."""
    if reason is not None and (uml.inside() or "HOLDFAST_INTEROP" in os.environ):
        raise LabUnavailable(reason)
    return pytest.mark.skipif(reason is not None, reason=str(reason))


def alternately(cases: Iterable[str]) -> list[object]:
    """Every case with a tunnel of either kind: one kind each, taking turns, and the rest for `full`."""
    kinds = (OPEN, GUARDED)
    return [
        pytest.param(case, kind, marks=() if kind == kinds[i % 2] else pytest.mark.full)
        for i, case in enumerate(cases)
        for kind in kinds
    ]


@contextmanager
def laboratory() -> Iterator[tuple[Claim, Topology]]:
    """Namespaces lac – lns – core, with the second pair of addresses."""
    with claim() as lab:
        net = build(lab)
        lac, lns = LAC_ADDRESSES[OPEN], LNS_ADDRESSES[OPEN]
        ip(f"addr add {lac}/32 dev {WIRE}", f"route add {lns} dev {WIRE}", namespace=net.lac)
        ip(f"addr add {lns}/32 dev {WIRE}", f"route add {lac} dev {WIRE}", namespace=net.lns)
        yield lab, net


def until(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for something that another process brings about."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s:.0f} s for {what}"
        time.sleep(_POLL_S)


class Station:
    """A node of ours that is killed and started again: what it has recorded, and what is said on its wire."""

    def __init__(self, node: Node, namespace: str, journal: Path) -> None:
        self.node = node
        self.namespace = namespace
        self.journal = journal
        self.tap = Tap(namespace)
        self._said: list[Said] = []

    def kill(self) -> Saved:
        """SIGKILL; returns what is recorded at that moment."""
        self.node.kill()
        assert self.node.reap() == -signal.SIGKILL
        self.tap.take()
        self._said.clear()
        return self.recorded()

    def recorded(self) -> Saved:
        """What its journal holds."""
        return inspect.show(self.journal).saved

    def heard(self) -> list[Said]:
        """What its peers have said since it was killed. It says nothing itself."""
        self._said += self.tap.take()
        return list(self._said)

    def restart(self) -> list[Said]:
        """Start it again; returns what its peers said while it was dead."""
        said = self.heard()
        self.node.start()
        return said

    def recovered(self) -> None:
        """Wait until both directions of every recorded tunnel are in step, and the control API answers."""
        for event in ("node.synchronised", "node.api"):
            until(lambda event=event: self.node.reached_ns(event) is not None, event, RECOVERY_S)  # type: ignore[misc]

    def revive(self) -> None:
        """Start it if it is dead: a test that failed may have left it so."""
        if not self.node.alive:
            self.restart()
        self.recovered()

    def happened(self, *events: str) -> list[Event]:
        """The events of these names since the last start."""
        self.node.log.refresh()
        return list(self.node.log.since(self.node.started_ns, *events))


@contextmanager
def running(
    lab: Claim,
    net: Topology,
    role: str,
    tables: str,
    directory: Path,
    *,
    name: str = "",
    device: str = TUN,
) -> Iterator[Station]:
    """A node of ours in its namespace, from when its control API answers; killed at the end. Its log is kept.

    Of several in one namespace each has a `name` and a `device`.
    """
    name = name or role
    state = lab.scratch() / name
    run_dir = lab.directory / name
    state.mkdir(mode=0o700)
    run_dir.mkdir(mode=0o700)
    config = f"""
[node]
name = "holdfast-{name}"
role = "{role}"
[paths]
run_dir = "{run_dir}"
state_dir = "{state}"
[log]
format = "json"
[dataplane]
device = "{device}"
{tables}
"""
    node = Node(role, net.of(role), config, directory, run_dir, launch=forked)
    station = Station(node, net.of(role), state / "journal.db")
    node.start()
    try:
        until(lambda: node.reached_ns("node.api") is not None, "our node")
        yield station
    finally:
        node.close()
        station.tap.close()


def lns_tables() -> str:
    """Our node as an LNS of both LACs."""
    peers = "".join(
        f'[[peer]]\nname = "{kind}"\naddress = "{LAC_ADDRESSES[kind]}"\nsecret = "{SECRETS[kind]}"\n'
        for kind in (OPEN, GUARDED)
    )
    users = "".join(f'[[user]]\nname = "{kind}"\nsecret = "{PASSWORD}"\n' for kind in (OPEN, GUARDED))
    pool = f'[[pool]]\nname = "subscribers"\nrange = "{POOL}"\n'
    return f'[ppp]\nauth = ["chap"]\nlocal_address = "{LNS_CORE_ADDRESS}"\n{peers}{pool}{users}'


def lac_tables(*kinds: str) -> str:
    """Our node as a LAC of these LNSs, with a subscriber for each."""
    return f'[listen]\naddress = "{LAC_ADDRESS}"\n' + "".join(
        f'[[peer]]\nname = "{kind}"\naddress = "{LNS_ADDRESSES[kind]}"\nsecret = "{SECRETS[kind]}"\n'
        f"connect = true\n"
        f'[[subscriber]]\nname = "{kind}"\nsecret = "{PASSWORD}"\ntunnel = "{kind}"\n'
        for kind in kinds
    )


def on_command(name: str, kind: str) -> str:
    """A further subscriber of our LAC, who calls when told to."""
    return f'[[subscriber]]\nname = "{name}"\nsecret = "{PASSWORD}"\ntunnel = "{kind}"\nauto = false\n'


def tunnel_of(node: Node, kind: str) -> TunnelView | None:
    """The established tunnel of a peer."""
    return next((t for t in node.control.tunnels() if t.peer_name == kind and t.state == "established"), None)


def session_of(node: Node, kind: str) -> SessionView | None:
    """The session of a peer."""
    return next((s for s in node.control.sessions() if s.peer_name == kind), None)


def forwards(node: Node, session: SessionView) -> bool:
    """Whether a session carries data: it has its address a commit of the journal earlier."""
    detail = node.control.session(session.key)
    return detail is not None and detail.forwarding


def in_pool(address: str) -> bool:
    """Whether an address is one of the subscribers'."""
    return IPv4Address(address) in IPv4Network(POOL)
