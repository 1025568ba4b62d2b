"""Who takes part in a drill: one or two nodes of ours, perhaps somebody else's daemon, and the subscribers' names."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from holdfast.lab.drill import others
from holdfast.lab.drill.installation import another
from holdfast.lab.drill.laboratory import Laboratory
from holdfast.lab.lac_end import SOCKET
from holdfast.lab.nodes import TUN_PLANE, Launch, Node, command, kernel_plane, lac_config, lac_end, lns_config
from holdfast.lab.options import Options, Role
from holdfast.lab.report import Noticed
from holdfast.lab.snapshot import Ids, Seen

_UNADVERTISED = "[failover]\nadvertise = false\n"


class Peer(Protocol):
    """Somebody else's daemon on the other side, which is never killed."""

    device: str
    """Where subscribers' packets go at the LAC."""

    def start(self) -> None:
        """Start it; it can place no call and take none yet."""
        ...

    def ready(self) -> bool:
        """Whether it can. Raises PeerFailed if it has ended."""
        ...

    def dial(self) -> bool:
        """A LAC places its calls, others do nothing; False if it has to be told again."""
        ...

    def sees(self, ours: Mapping[Ids, Seen]) -> Mapping[Ids, Seen]:
        """What it holds of our sessions, and what it holds besides, by the same ids."""
        ...

    def noticed(self) -> Noticed:
        """What it has logged since this was last asked, but for what it logs about any message."""
        ...

    def close(self) -> None:
        """Kill it."""
        ...


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """Subscribers: those that must survive, and those that are being connected or disconnected at the kill."""

    base: list[str]
    setups: list[str]
    teardowns: list[str]

    @property
    def extra(self) -> list[str]:
        """Those that connect on command."""
        return [*self.setups, *self.teardowns]


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """Our nodes by role, and who is on the other side if that is not one of them.

    `lac_end` is where the LAC takes plans, "" if a TUN device of its own carries its subscribers' packets.
    `installations` are those that an LNS to be upgraded can be started from: the first one is its own.
    """

    nodes: dict[Role, Node]
    peer: Peer | None
    names: Names
    lac_end: str
    installations: Sequence[Launch]


@contextmanager
def taking_part(options: Options, lab: Laboratory) -> Iterator[Sides]:
    """Everybody, configured and not yet started; killed at the end."""
    names = Names(
        base=[f"s{i:05}" for i in range(options.sessions)],
        setups=[f"setup{i}" for i in range(options.in_flight)],
        teardowns=[f"teardown{i}" for i in range(options.in_flight)],
    )
    secret = secrets.token_urlsafe(18)
    roles = [role for role in _ROLES if role == options.kill or not options.others_daemon]
    nodes = {role: _node(role, options, lab, names, secret) for role in roles}
    with others.peer(options, lab.net, lab.work, [*names.base, *names.extra], secret) as peer:
        try:
            end = str(lab.run / "lac" / SOCKET) if options.dataplane else ""
            installations = [command, another(lab.work)] if options.drill == "upgrade" else []
            yield Sides(nodes=nodes, peer=peer, names=names, lac_end=end, installations=installations)
        finally:
            for node in nodes.values():
                node.close()


_ROLES: tuple[Role, Role] = ("lns", "lac")


def _node(role: Role, options: Options, lab: Laboratory, names: Names, secret: str) -> Node:
    work, run = lab.work / role, lab.run / role
    (work / "state").mkdir(parents=True, mode=0o700)
    run.mkdir(mode=0o700)
    config = _config(role, options, names, secret, work / "state", run)
    if options.peer == "holdfast" and role != options.kill:
        config += _UNADVERTISED
    launch = lac_end if role == "lac" and options.dataplane else command
    return Node(role, lab.net.of(role), config, work, run, launch=launch)


def _config(role: Role, options: Options, names: Names, secret: str, state: Path, run: Path) -> str:
    everybody = [*names.base, *names.extra]
    if role == "lns":
        plane = TUN_PLANE
        if options.dataplane in ("tc", "xdp"):
            plane = kernel_plane(options.dataplane, len(everybody) + _SPARE)
        return lns_config(everybody, secret, state, run, plane)
    plane = 'kind = "null"' if options.dataplane else TUN_PLANE
    return lac_config(names.base, names.extra, options.tunnels, secret, state, run, plane)


_SPARE = 64
"""Room for sessions whose predecessors' records are not gone yet."""
