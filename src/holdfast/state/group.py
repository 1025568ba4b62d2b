"""Many writes as one commit: the last word on every record, and the statements that say it.

Invariant: the outcome of a group is that of its writes one after another. A tunnel that is forgotten takes
the sessions written before with it, and only those: its id may be in use again in the same group.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from holdfast.records import EndpointRecord, SessionRecord, TunnelRecord, split_key
from holdfast.records.ledger import PeerKey, PeerRecord
from holdfast.records.writes import (
    Alive,
    ForgetPeer,
    ForgetSession,
    ForgetTunnel,
    Hint,
    Recount,
    Save,
    SetAside,
    Write,
)
from holdfast.state.codec import encode
from holdfast.state.saved import Kind, Quarantined
from holdfast.state.slots import Slots

Item: TypeAlias = Write | Quarantined
Value: TypeAlias = int | str | bytes
Statement: TypeAlias = tuple[str, Sequence[Value]]

MAX_ROWS: Final = 500
"""Rows of one statement: SQLite's compiled form of it grows with the rows, and stays in a cache."""


class Group:
    """What a set of writes comes to."""

    __slots__ = (
        "alive",
        "endpoint",
        "hints",
        "peers",
        "purged",
        "quarantined",
        "recounts",
        "sessions",
        "tunnels",
    )

    def __init__(self) -> None:
        self.tunnels: dict[int, TunnelRecord | None] = {}
        self.sessions: dict[int, dict[int, SessionRecord | None]] = {}
        self.recounts: dict[tuple[int, int], SessionRecord] = {}
        self.purged: set[int] = set()
        self.hints: dict[int, Hint] = {}
        self.endpoint: EndpointRecord | None = None
        self.peers: dict[PeerKey, PeerRecord | None] = {}
        self.alive: Alive | None = None
        self.quarantined: list[Quarantined] = []

    def __bool__(self) -> bool:
        return bool(
            self.tunnels
            or self.sessions
            or self.recounts
            or self.purged
            or self.hints
            or self.endpoint
            or self.peers
            or self.alive
            or self.quarantined
        )

    def add(self, items: Iterable[Item]) -> None:
        """Add writes, in their order, after those that are here."""
        for item in items:
            if isinstance(item, Save):
                self._save(item.record)
            elif isinstance(item, Hint):
                self.hints[item.tunnel_id] = item
            elif isinstance(item, Recount):
                self._recount(item.record)
            elif isinstance(item, ForgetSession):
                tunnel_id, session_id = split_key(item.key)
                self._session(tunnel_id, session_id, None)
            elif isinstance(item, ForgetTunnel):
                self._forget_tunnel(item.tunnel_id)
            elif isinstance(item, Alive):
                self.alive = item
            elif isinstance(item, ForgetPeer):
                self.peers[item.name, item.host_name] = None
            elif isinstance(item, SetAside):
                self.quarantined.append(_quarantined(item))
            else:
                self.quarantined.append(item)

    def owe(self, items: Iterable[Item]) -> None:
        """Add what must still happen after its commit failed: everything but the saving of records."""
        self.add(item for item in items if not isinstance(item, (Save, Recount)))

    def copy(self) -> "Group":
        """A group that starts with everything in this one."""
        other = Group()
        other.tunnels = dict(self.tunnels)
        other.sessions = {tunnel_id: dict(sessions) for tunnel_id, sessions in self.sessions.items()}
        other.recounts = dict(self.recounts)
        other.purged = set(self.purged)
        other.hints = dict(self.hints)
        other.endpoint = self.endpoint
        other.peers = dict(self.peers)
        other.alive = self.alive
        other.quarantined = list(self.quarantined)
        return other

    def _save(self, record: TunnelRecord | SessionRecord | EndpointRecord | PeerRecord) -> None:
        if isinstance(record, SessionRecord):
            self._session(record.tunnel_id, record.local_id, record)
        elif isinstance(record, TunnelRecord):
            self.tunnels[record.local_id] = record
            self.hints.pop(record.local_id, None)  # the record has newer numbers of its own
        elif isinstance(record, PeerRecord):
            self.peers[record.key] = record
        else:
            self.endpoint = record

    def _session(self, tunnel_id: int, session_id: int, record: SessionRecord | None) -> None:
        sessions = self.sessions.get(tunnel_id)
        if sessions is None:
            sessions = self.sessions[tunnel_id] = {}
        sessions[session_id] = record
        self.recounts.pop((tunnel_id, session_id), None)

    def _recount(self, record: SessionRecord) -> None:
        sessions = self.sessions.get(record.tunnel_id, {})
        if sessions.get(record.local_id) is not None:
            sessions[record.local_id] = record
        elif record.local_id not in sessions and record.tunnel_id not in self.purged:
            self.recounts[record.tunnel_id, record.local_id] = record

    def _forget_tunnel(self, tunnel_id: int) -> None:
        self.tunnels[tunnel_id] = None
        self.purged.add(tunnel_id)
        self.sessions.pop(tunnel_id, None)
        self.recounts = {ids: record for ids, record in self.recounts.items() if ids[0] != tunnel_id}
        self.hints.pop(tunnel_id, None)


class Changes:
    """A group made ready for the database: its statements, in order, and what they do to the slots."""

    __slots__ = ("_gone", "_placed", "_purged", "_vacated", "rows", "statements")

    def __init__(self, group: Group, slots: Slots) -> None:
        """Nothing is written yet and `slots` is as before. Raises what encoding a bad record raises."""
        self._purged = group.purged
        self._gone: list[tuple[int, int]] = []
        self._vacated: set[tuple[int, int]] = set()
        self._placed: list[tuple[int, int, int]] = []
        deletions: list[Value] = []
        rows: list[Value] = []
        quarantine = self._quarantine(group, slots, deletions)
        for tunnel_id in group.purged:
            deletions += slots.of_tunnel(tunnel_id)
        self._sessions(group, slots, deletions, rows)
        tunnels: list[Value] = []
        for tunnel in group.tunnels.values():
            if tunnel is not None:
                tunnels += (tunnel.local_id, tunnel.acked, tunnel.nr, encode(tunnel))
        dead: list[Value] = [tunnel_id for tunnel_id, tunnel in group.tunnels.items() if tunnel is None]
        dead += [q.tunnel_id for q in group.quarantined if q.kind is Kind.TUNNEL]
        hints: list[Value] = []
        for hint in group.hints.values():
            hints += (hint.tunnel_id, hint.acked, hint.nr)
        peers: list[Value] = []
        strangers: list[Value] = []
        for key, peer in group.peers.items():
            if peer is None:
                strangers += key
            else:
                peers += (*key, encode(peer))
        self.statements: list[Statement] = [
            *quarantine,
            *_in_parts(_DELETE_SESSIONS, 1, deletions),
            *_in_parts(_DELETE_TUNNELS, 1, dead),
            *_in_parts(_PUT_TUNNELS, 4, tunnels),
            *_in_parts(_PUT_SESSIONS, 4, rows),
            *_in_parts(_PUT_HINTS, 3, hints),
            *_in_parts(_DELETE_PEERS, 2, strangers),
            *_in_parts(_PUT_PEERS, 3, peers),
        ]
        if group.endpoint is not None:
            self.statements.append((_PUT_ENDPOINT, (encode(group.endpoint),)))
        if group.alive is not None:
            self.statements.append((_PUT_ALIVE, (group.alive.utc_us,)))
        self.rows = len(deletions) + len(dead) + len(tunnels) // 4 + len(rows) // 4 + len(hints) // 3
        self.rows += len(group.peers)

    def apply(self, slots: Slots) -> None:
        """The statements are committed: move the slots along."""
        for tunnel_id in self._purged:
            slots.drop_tunnel(tunnel_id)
        for tunnel_id, session_id in self._gone:
            slots.drop(tunnel_id, session_id)
        for tunnel_id, session_id, slot in self._placed:
            slots.put(tunnel_id, session_id, slot)

    def _quarantine(self, group: Group, slots: Slots, deletions: list[Value]) -> Iterator[Statement]:
        if not group.quarantined:
            return iter(())
        rows: list[Value] = []
        drops: list[Statement] = []
        unreadable: list[Value] = []
        for q in group.quarantined:
            rows += (q.kind.value, q.tunnel_id, q.session_id, q.reason, q.body)
            if q.kind is Kind.ENDPOINT:
                drops.append((_DELETE_ENDPOINT, ()))
            elif q.kind is Kind.PEER:
                unreadable.append(q.slot)
            elif q.kind is Kind.SESSION:
                if q.slot:
                    deletions.append(q.slot)
                elif slot := slots.find(q.tunnel_id, q.session_id):
                    deletions.append(slot)
                    self._gone.append((q.tunnel_id, q.session_id))
                    self._vacated.add((q.tunnel_id, q.session_id))
        drops += _in_parts(_DELETE_UNREADABLE_PEERS, 1, unreadable)
        return iter([*_in_parts(_PUT_QUARANTINE, 5, rows), *drops])

    def _sessions(self, group: Group, slots: Slots, deletions: list[Value], rows: list[Value]) -> None:
        fresh = slots.next
        for tunnel_id, sessions in group.sessions.items():
            purged = tunnel_id in group.purged
            for session_id, record in sessions.items():
                vacated = purged or (tunnel_id, session_id) in self._vacated
                slot = 0 if vacated else slots.find(tunnel_id, session_id)
                if record is None:
                    if slot:
                        deletions.append(slot)
                        self._gone.append((tunnel_id, session_id))
                    continue
                if not slot:
                    slot = fresh
                    fresh += 1
                    self._placed.append((tunnel_id, session_id, slot))
                rows += (slot, tunnel_id, session_id, encode(record))
        for (tunnel_id, session_id), record in group.recounts.items():
            slot = slots.find(tunnel_id, session_id)
            if slot and (tunnel_id, session_id) not in self._vacated:
                rows += (slot, tunnel_id, session_id, encode(record))


def _quarantined(item: SetAside) -> Quarantined:
    record, body = item.record, encode(item.record)
    if isinstance(record, SessionRecord):
        ids = {"tunnel_id": record.tunnel_id, "session_id": record.local_id}
        return Quarantined(kind=Kind.SESSION, reason=item.reason, body=body, **ids)
    if isinstance(record, TunnelRecord):
        return Quarantined(kind=Kind.TUNNEL, reason=item.reason, body=body, tunnel_id=record.local_id)
    return Quarantined(kind=Kind.ENDPOINT, reason=item.reason, body=body)


_PUT_TUNNELS: Final = ("INSERT OR REPLACE INTO tunnel (tunnel_id, acked, nr, body) VALUES ", "")
_PUT_SESSIONS: Final = ("INSERT OR REPLACE INTO session (slot, tunnel_id, session_id, body) VALUES ", "")
_PUT_HINTS: Final = (
    "WITH hint (tunnel_id, acked, nr) AS (VALUES ",
    ") UPDATE tunnel SET acked = hint.acked, nr = hint.nr FROM hint WHERE tunnel.tunnel_id = hint.tunnel_id",
)
_PUT_QUARANTINE: Final = (
    "INSERT INTO quarantine (kind, tunnel_id, session_id, reason, body) VALUES ",
    "",
)
_DELETE_SESSIONS: Final = ("DELETE FROM session WHERE slot IN (VALUES ", ")")
_DELETE_TUNNELS: Final = ("DELETE FROM tunnel WHERE tunnel_id IN (VALUES ", ")")
_PUT_PEERS: Final = ("INSERT OR REPLACE INTO peer (name, host_name, body) VALUES ", "")
_DELETE_PEERS: Final = ("DELETE FROM peer WHERE (name, host_name) IN (VALUES ", ")")
_DELETE_UNREADABLE_PEERS: Final = ("DELETE FROM peer WHERE rowid IN (VALUES ", ")")
_PUT_ALIVE: Final = "INSERT OR REPLACE INTO alive (id, utc_us) VALUES (1, ?)"
_PUT_ENDPOINT: Final = "INSERT OR REPLACE INTO endpoint (id, body) VALUES (1, ?)"
_DELETE_ENDPOINT: Final = "DELETE FROM endpoint"


def _in_parts(around: tuple[str, str], width: int, values: list[Value]) -> Iterator[Statement]:
    """`values`, `width` to a row, as statements of at most MAX_ROWS rows each."""
    step = width * MAX_ROWS
    for start in range(0, len(values), step):
        part = values[start : start + step]
        yield _sql(around, width, len(part) // width), part


@lru_cache(maxsize=128)
def _sql(around: tuple[str, str], width: int, rows: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return around[0] + ",".join([row] * rows) + around[1]
