"""Who takes part in a drill: one or two nodes of ours, perhaps somebody else's daemon, and the subscribers' names."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from holdfast.lab.drill import others
from holdfast.lab.drill.laboratory import Laboratory
from holdfast.lab.nodes import Node, lac_config, lns_config
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
    """Our nodes by role, and who is on the other side if that is not one of them."""

    nodes: dict[Role, Node]
    peer: Peer | None
    names: Names


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
            yield Sides(nodes=nodes, peer=peer, names=names)
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
    return Node(role, lab.net.of(role), config, work, run)


def _config(role: Role, options: Options, names: Names, secret: str, state: Path, run: Path) -> str:
    if role == "lns":
        return lns_config([*names.base, *names.extra], secret, state, run)
    return lac_config(names.base, names.extra, options.tunnels, secret, state, run)
