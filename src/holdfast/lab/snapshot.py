"""Both nodes' view of all sessions at one time, joined by their four ids; and what changed between two of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from holdfast.daemon.views import SessionView, TunnelView

ESTABLISHED = "established"

Ids = tuple[int, int, int, int]
"""LAC's tunnel and session id, LNS's tunnel and session id: one session, seen from either side."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A session as one side sees it. `established` takes in PPP: there is an address.

    `pppd` is the process that runs it at somebody else's daemon, 0 where there is none.
    """

    name: str
    ids: Ids
    address: str
    established: bool
    established_utc_us: int
    pppd: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All sessions of both sides, by their ids."""

    lac: Mapping[Ids, Seen]
    lns: Mapping[Ids, Seen]

    def half_open(self) -> dict[Ids, str]:
        """Sessions that only one side has or that are not established on both; the value is the subscriber."""
        seen = {**self.lns, **self.lac}
        return {
            ids: one.name
            for ids, one in seen.items()
            if not all(ids in side and side[ids].established for side in (self.lac, self.lns))
        }

    def whole(self) -> dict[str, Ids]:
        """Sessions established on both sides, by subscriber."""
        half = self.half_open()
        return {one.name: ids for ids, one in self.lac.items() if ids not in half}


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """How sessions differ from before, as sets of subscribers' names. `lost`: no session is whole now."""

    lost: frozenset[str]
    redialled: frozenset[str]
    addresses: frozenset[str]
    ids: frozenset[str]


def join(
    lac: tuple[Iterable[TunnelView], Iterable[SessionView]],
    lns: tuple[Iterable[TunnelView], Iterable[SessionView]],
) -> Snapshot:
    """A snapshot from both nodes' tunnels and sessions."""
    lac_peers, lns_peers = _peers(lac[0]), _peers(lns[0])
    by_lac = (_seen(_ids(s, lac_peers), s, s.subscriber) for s in lac[1])
    by_lns = (_seen(_turned(_ids(s, lns_peers)), s, s.user) for s in lns[1])
    return Snapshot(lac={seen.ids: seen for seen in by_lac}, lns={seen.ids: seen for seen in by_lns})


def facing(
    role: Literal["lns", "lac"],
    ours: tuple[Iterable[TunnelView], Iterable[SessionView]],
    peer: Callable[[Mapping[Ids, Seen]], Mapping[Ids, Seen]],
) -> Snapshot:
    """A snapshot from our node's tunnels and sessions, and from what its peer holds of them."""
    peers = _peers(ours[0])
    if role == "lac":
        lac = {seen.ids: seen for seen in (_seen(_ids(s, peers), s, s.subscriber) for s in ours[1])}
        return Snapshot(lac=lac, lns=peer(lac))
    lns = {seen.ids: seen for seen in (_seen(_turned(_ids(s, peers)), s, s.user) for s in ours[1])}
    return Snapshot(lac=peer(lns), lns=lns)


def compare(before: Snapshot, after: Snapshot, base: Iterable[str]) -> Changes:
    """What changed for the subscribers of `base`, each of which is whole in `before`."""
    was, now = before.whole(), after.whole()
    lost, redialled, addresses, changed = set(), set(), set(), set()
    for name in base:
        old, new = was[name], now.get(name)
        if new is None:
            lost.add(name)
            continue
        if new != old:
            changed.add(name)
        if _established(after, new) != _established(before, old):
            redialled.add(name)
        if _addresses(after, new) != _addresses(before, old):
            addresses.add(name)
    return Changes(
        lost=frozenset(lost),
        redialled=frozenset(redialled),
        addresses=frozenset(addresses),
        ids=frozenset(changed),
    )


def _established(snapshot: Snapshot, ids: Ids) -> tuple[int, ...]:
    """When either side says that it was; a new pppd is a new call, whatever else is the same."""
    lac, lns = snapshot.lac[ids], snapshot.lns[ids]
    return lac.established_utc_us, lns.established_utc_us, lac.pppd, lns.pppd


def _addresses(snapshot: Snapshot, ids: Ids) -> tuple[str, str]:
    return snapshot.lac[ids].address, snapshot.lns[ids].address


def _peers(tunnels: Iterable[TunnelView]) -> dict[int, int]:
    return {tunnel.id: tunnel.peer_id for tunnel in tunnels}


def _ids(session: SessionView, peers: Mapping[int, int]) -> Ids:
    return session.tunnel_id, session.id, peers.get(session.tunnel_id, 0), session.peer_id


def _turned(ids: Ids) -> Ids:
    return ids[2], ids[3], ids[0], ids[1]


def _seen(ids: Ids, session: SessionView, name: str) -> Seen:
    return Seen(
        name=name,
        ids=ids,
        address=session.address,
        established=session.state == ESTABLISHED and bool(session.address),
        established_utc_us=session.established_utc_us,
    )
