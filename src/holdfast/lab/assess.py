"""From what was observed in one round to its report."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from holdfast.lab import measure
from holdfast.lab.events import EventLog
from holdfast.lab.measure import Direction, Moments
from holdfast.lab.options import By, Drill, Kill, Role
from holdfast.lab.report import (
    BothWays,
    DataBack,
    DataGap,
    Echoes,
    End,
    InFlight,
    LostWhere,
    NodeTimes,
    Noticed,
    Outcome,
    Packets,
    Ping,
    Place,
    Report,
    Subscriber,
    Transfer,
    verdict,
)
from holdfast.lab.snapshot import Snapshot, compare
from holdfast.lab.stream import Shortfall
from holdfast.lab.traffic import Side

OTHERS = ("xl2tpd", "l2tpns")
"""Daemons that are not ours."""


class Restarted(msgspec.Struct, frozen=True, kw_only=True):
    """A killed node: when it was dead, when it was started, its log."""

    dead_ns: int
    started_ns: int
    log: EventLog
    stale_cleared: int


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One round. `names` are the base subscribers by session index; `logs` those of all our nodes.

    `noticed` is what somebody else's daemon has logged from the kill on. It, `ping` and `transfer` are None where
    both sides are ours. `outages`: from the end of a process until its successor's data flow. `echoes`: when each LCP
    Echo-Request was sent and answered (0: never), None if nobody asked. `plane`: what the LNS's plane has counted.
    """

    drill: Drill
    dataplane: Literal["", "tun", "tc", "xdp"]
    by: By
    kills: int
    kill: Kill
    peer: Literal["", "holdfast", "xl2tpd", "l2tpns"]
    kernel: Literal["host", "user-mode-linux"]
    stagger_ms: float
    tunnels: int
    traffic_pps: int
    names: Sequence[str]
    setups: Sequence[str]
    teardowns: Sequence[str]
    before: Snapshot
    after: Snapshot
    moments: Moments
    up: Direction
    down: Direction
    ping: Ping | None
    transfer: Transfer | None
    restarted: Mapping[Role, Restarted]
    logs: Mapping[Role, EventLog]
    noticed: Noticed | None
    stale_cleared: int
    lost_by_kernel: dict[str, dict[str, int]]
    shortfalls: Mapping[Side, Shortfall]
    plane: dict[str, int]
    outages: Sequence[tuple[int, int]]
    echoes: Sequence[tuple[int, int]] | None


def assess(o: Observed) -> Report:
    """The report of a round, with its verdict."""
    base = measure.sessions_before(o.up, o.down)
    base_names = [o.names[s] for s in base]
    changes = compare(o.before, o.after, base_names)
    moved = changes.lost | changes.redialled | changes.ids
    after = {s for s in measure.sessions_after(base, o.up, o.down) if o.names[s] not in moved}
    first_back, all_back = measure.data_back(base, o.up, o.down, o.moments.started_ns)
    gap, worst_gap = measure.gaps(base, o.up, o.down)
    nodes = {role: _times(node) for role, node in o.restarted.items()}
    report = Report(
        drill=o.drill,
        dataplane=o.dataplane or "tun",
        packets_by="lab" if o.dataplane else "tun",
        by=o.by,
        kills=o.kills,
        programs_replaced=_replaced(o),
        kill=o.kill,
        peer=o.peer or "holdfast",
        peer_offers_rfc4951=not o.peer,
        kernel=o.kernel,
        stagger_ms=o.stagger_ms,
        sessions=len(o.names),
        tunnels=o.tunnels,
        traffic_pps=o.traffic_pps,
        sessions_before=len(base),
        sessions_after=len(after),
        sessions_redialled=len(changes.redialled),
        ppp_renegotiated=_renegotiated(o, base_names),
        addresses_changed=len(changes.addresses),
        session_ids_changed=len(changes.ids),
        subscribers=_subscribers(o) if o.peer in OTHERS else [],
        in_flight=_in_flight(o),
        recovered_by=_most(node.recovered_by for node in nodes.values()),
        down_ms=max(node.down_ms for node in nodes.values()),
        data_back_ms=DataBack(first=_ms(first_back), all=_ms(all_back)),
        data_gap_ms=DataGap(p50=_ms(gap), max=_ms(worst_gap)),
        packets=BothWays(up=_packets(o.up), down=_packets(o.down)),
        lost_where=_lost_where(o),
        plane=o.plane,
        echoes=_echoes(o),
        ping=o.ping,
        tcp=o.transfer,
        noticed=o.noticed,
        control_recovered_ms=_last(node.control_recovered_ms for node in nodes.values()),
        synchronised_ms=_last(node.synchronised_ms for node in nodes.values()),
        stale_cleared=o.stale_cleared,
        nodes=nodes,
        result="ok",
    )
    return msgspec.structs.replace(report, result=verdict(report))


def _times(node: Restarted) -> NodeTimes:
    def after_start(at_ns: int | None) -> float | None:
        return None if at_ns is None else _ms(at_ns - node.started_ns)

    log, since = node.log, node.started_ns
    methods = Counter(str(e.get("method", "rfc4951")) for e in log.since(since, "tunnel.recovered"))
    return NodeTimes(
        down_ms=_ms(node.started_ns - node.dead_ns) or 0.0,
        data_flows_ms=after_start(log.first_ns("node.data_flows", since)),
        control_recovered_ms=after_start(log.last_ns("tunnel.recovered", since)),
        synchronised_ms=after_start(log.first_ns("node.synchronised", since)),
        recovered_by=dict(methods),
        stale_cleared=node.stale_cleared,
    )


def _renegotiated(o: Observed, base: Iterable[str]) -> int:
    """Base sessions for which either node saw PPP come up, or go through negotiation, after the kill."""
    names = set(base)
    whole = o.before.whole()
    lac_ids = {whole[name][:2]: name for name in names}
    lns_ids = {whole[name][2:]: name for name in names}
    seen: set[str] = set()
    for role, log in o.logs.items():
        ids = lac_ids if role == "lac" else lns_ids
        for event in log.since(o.moments.killed_ns, "ppp.up", "ppp.renegotiated"):
            name = ids.get((event.get("tunnel", 0), event.get("session", 0)))
            if name is not None:
                seen.add(name)
    return len(seen)


def _in_flight(o: Observed) -> InFlight:
    """What cannot be told apart by name (an LNS may not know the user yet) counts as a set-up."""
    half_open = set(o.after.half_open().values())
    survived = o.after.whole().keys()
    unnamed = half_open - {*o.names, *o.setups, *o.teardowns}
    return InFlight(
        setups=_outcome(o.setups, survived, half_open, len(unnamed)),
        teardowns=_outcome(o.teardowns, survived, half_open, 0),
    )


def _subscribers(o: Observed) -> list[Subscriber]:
    """Ids and addresses of the base sessions, as both sides have them."""
    return [
        Subscriber(name=name, before=_place(o.before, name), after=_place(o.after, name)) for name in o.names
    ]


def _place(snapshot: Snapshot, name: str) -> Place | None:
    ids = snapshot.whole().get(name)
    if ids is None:
        return None
    return Place(
        lac_tunnel=ids[0],
        lac_session=ids[1],
        lns_tunnel=ids[2],
        lns_session=ids[3],
        address=snapshot.lac[ids].address,
        pppd=snapshot.lac[ids].pppd or snapshot.lns[ids].pppd,
    )


def _outcome(names: Sequence[str], survived: Iterable[str], half_open: set[str], more: int) -> Outcome:
    half, whole = set(names) & half_open, set(names) & set(survived)
    clean = set(names) - half - whole
    return Outcome(survived=len(whole - half), ended_clean=len(clean), half_open=len(half) + more)


def _lost_where(o: Observed) -> LostWhere:
    down = o.up.lost_while_down + o.down.lost_while_down
    return LostWhere(
        while_down=down,
        otherwise=o.up.lost + o.down.lost - down,
        lac_end=_end(o.shortfalls["lac"]),
        core_end=_end(o.shortfalls["core"]),
        kernel=o.lost_by_kernel,
    )


def _end(shortfall: Shortfall) -> End:
    return End(no_room=shortfall.no_room, unsent=shortfall.unsent, late_ms=_ms(shortfall.late_ns) or 0.0)


def _echoes(o: Observed) -> Echoes | None:
    """Those that were sent while a daemon was dead."""
    if o.echoes is None:
        return None
    meanwhile = [answered for at, answered in o.echoes if any(dead <= at < up for dead, up in o.outages)]
    return Echoes(sent=len(meanwhile), answered=sum(at > 0 for at in meanwhile))


def _replaced(o: Observed) -> bool:
    return any(
        next(node.log.since(node.started_ns, "dataplane.upgrade"), None) is not None
        for node in o.restarted.values()
    )


def _packets(direction: Direction) -> Packets:
    return Packets(sent=direction.sent, received=direction.received, lost=direction.lost)


def _most(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Per method, the most tunnels that any one node recovered by it: two nodes recover the same tunnels."""
    most: dict[str, int] = {}
    for count in counts:
        for method, n in count.items():
            most[method] = max(n, most.get(method, 0))
    return most


def _last(times: Iterable[float | None]) -> float | None:
    """The latest of all, or None if one never happened."""
    known = list(times)
    return None if None in known else max((t for t in known if t is not None), default=None)


def _ms(ns: int | None) -> float | None:
    return None if ns is None else round(ns / 1e6, 1)
