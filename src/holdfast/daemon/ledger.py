"""The ledger of peers while the node runs: it watches tunnels and recoveries, and tells the endpoint what they teach.

Invariants: nobody waits for its writes, which go to the journal within a second and may be lost with the process; an
outage is counted from the last sign of life in the journal, which is up to `ALIVE_INTERVAL` and a second old: where
that matters the doubt goes against the peer's patience; there are at most `MAX_ENTRIES`, and beyond that those go first
that have no tunnel and were not seen for longest.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.daemon import evidence
from holdfast.protocol.effects import Cause, Recovery, RecoveryPhase
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.recovery import REMOTE_ENDPOINT
from holdfast.protocol.resync import OVERESTIMATE
from holdfast.protocol.silent import ROLE as SILENT
from holdfast.protocol.tunnel import Tunnel
from holdfast.records.ledger import PeerKey, PeerRecord
from holdfast.records.writes import Alive, ForgetPeer, Save, Write
from holdfast.state.saved import Saved

MAX_ENTRIES: Final = 1000

ALIVE_INTERVAL: Final[Duration] = OVERESTIMATE - SECOND
"""How old the journal's last sign of life may be in an idle node; where tunnels are busy it is a second."""

RESOLUTION_MS: Final = OVERESTIMATE // MILLISECOND
"""By how much an outage may be overestimated."""


class Attempt(msgspec.Struct, gc=False):
    """A recovery of a tunnel by one method. `asked`: RFC 4951 has failed for it before, in this recovery. `reset`: by RFC
    4951 our side has been reset.
    """

    method: evidence.Field
    begun_at: Instant
    asked: bool = False
    reset: bool = False
    refusal: str = ""


class Ledger:
    """Every peer that was met. Entries are in the order in which they were last seen."""

    def __init__(self, endpoint: Endpoint, utc_us: Callable[[], int]) -> None:
        self._endpoint = endpoint
        self._utc_us = utc_us
        self._entries: dict[PeerKey, PeerRecord] = {}
        self._key_of: dict[int, PeerKey] = {}
        self._tunnels: dict[PeerKey, set[int]] = {}
        self._attempts: dict[int, Attempt] = {}
        self._dirty: dict[PeerKey, None] = {}
        self._boot = 0
        self._began_at: Instant = 0
        self._away_ms = 0

    # Inputs.

    def begin(self, saved: Saved, boot_epoch: int, now: Instant) -> None:
        """The endpoint has restored its tunnels and recovers none yet: tell it what is known of their peers."""
        self._boot = boot_epoch
        self._began_at = now
        if saved.alive_utc_us:
            self._away_ms = max(0, self._utc_us() - saved.alive_utc_us) // MILLISECOND
        for record in sorted(saved.peers, key=lambda record: record.seen_utc_us):
            self._entries[record.key] = record
        for tunnel in self._endpoint.ctx.established():
            self._bind(tunnel)
            if self._key_of[tunnel.local_id] not in self._entries:
                self._put(self._entry(tunnel))
            self._inform(self._key_of[tunnel.local_id], (tunnel.local_id,))
        self._make_room()  # deletions are among the writes that may be lost

    def met(self, tunnel: Tunnel) -> None:
        """A tunnel is up: note who is at its other end and what that offers."""
        self._bind(tunnel)
        record = evidence.offers(
            self._entry(tunnel), self._boot, tunnel.peer_failover, tunnel.peer_vendor, tunnel.peer_firmware
        )
        self._put(replace(record, seen_utc_us=self._utc_us(), window=tunnel.channel.peer_window))
        self._inform(record.key, (tunnel.local_id,))

    def parted(self, tunnel_id: int, cause: Cause) -> None:
        """A tunnel is over."""
        attempt = self._attempts.pop(tunnel_id, None)
        key = self._key_of.pop(tunnel_id, None)
        if key is None:
            return
        record = self._entries.get(key)
        if attempt is not None and attempt.reset and cause is Cause.TIMEOUT and record is not None:
            failed = evidence.failed(record.rfc4951, self._utc_us(), "silent after the reset")
            record = evidence.contradicted(replace(record, rfc4951=failed), self._boot, self._utc_us())
            self._put(record)
            self._inform(key, self._tunnels[key])
        self._tunnels[key].discard(tunnel_id)
        if not self._tunnels[key]:
            del self._tunnels[key]

    def note(self, news: Recovery, now: Instant) -> None:
        """A recovery has moved on."""
        key = self._key_of.get(news.tunnel_id)
        record = self._entries.get(key) if key is not None else None
        if record is None or key is None:
            return
        if news.role == REMOTE_ENDPOINT:
            updated = self._answered(record, news)
        elif news.phase is RecoveryPhase.STARTED:
            updated = self._started(record, news, now)
        else:
            updated = self._moved_on(record, news, now)
        if updated is not record:
            self._put(replace(updated, seen_utc_us=self._utc_us()))
            if updated.contradictions != record.contradictions:
                self._inform(key, self._tunnels.get(key, ()))

    def _answered(self, record: PeerRecord, news: Recovery) -> PeerRecord:
        """The peer recovers a tunnel itself; an attempt of ours for it ends without an outcome."""
        self._attempts.pop(news.tunnel_id, None)
        if news.phase is not RecoveryPhase.CONFIRMED:
            return record
        return evidence.trusted(replace(record, answered=record.answered + 1), self._boot)

    def _started(self, record: PeerRecord, news: Recovery, now: Instant) -> PeerRecord:
        before = self._attempts.get(news.tunnel_id)
        field: evidence.Field = "silent" if news.role == SILENT else "rfc4951"
        asked = before is not None and before.asked
        self._attempts[news.tunnel_id] = Attempt(field, now, asked)
        method = evidence.attempted(evidence.method_of(record, field))
        return evidence.with_method(record, field, method)

    def _moved_on(self, record: PeerRecord, news: Recovery, now: Instant) -> PeerRecord:
        attempt = self._attempts.get(news.tunnel_id)
        if attempt is None:
            return record
        field = attempt.method
        method = evidence.method_of(record, field)
        elapsed_ms = (now - attempt.begun_at) // MILLISECOND
        match news.phase:
            case RecoveryPhase.RESET:
                attempt.reset = True
                return record
            case RecoveryPhase.REFUSED:
                attempt.refusal = news.text
                return record
            case RecoveryPhase.CONFIRMED:
                method = evidence.sent(method, elapsed_ms)
                if field == "rfc4951":  # a refusal may still come; both sides are reset at once
                    method = evidence.received(method, elapsed_ms)
                else:
                    method = evidence.succeeded(method, self._utc_us())
                record = evidence.kept(record, max(0, self._away_for_ms(now) - RESOLUTION_MS))
                if attempt.asked and field == "silent":
                    record = evidence.contradicted(record, self._boot, self._utc_us())
            case RecoveryPhase.SYNCHRONISED:
                del self._attempts[news.tunnel_id]
                if field == "rfc4951":
                    method = evidence.succeeded(method, self._utc_us(), news.text)
                    record = evidence.trusted(record, self._boot)
                else:
                    method = evidence.received(method, elapsed_ms)
            case RecoveryPhase.FELL_BACK | RecoveryPhase.FAILED:
                attempt.asked = attempt.asked or field == "rfc4951"
                reason = ": ".join(text for text in (news.text, attempt.refusal) if text)
                method = evidence.failed(method, self._utc_us(), reason)
                if news.phase is RecoveryPhase.FAILED:
                    record = evidence.lost(record, self._away_for_ms(attempt.begun_at))
            case _:
                return record
        return evidence.with_method(record, field, method)

    # Outputs.

    @property
    def attempts(self) -> int:
        """How many recoveries have no outcome yet."""
        return len(self._attempts)

    @property
    def dirty(self) -> bool:
        """Whether the journal is behind."""
        return bool(self._dirty)

    def take(self) -> tuple[Write, ...]:
        """What is to be written; a sign of life is always among it."""
        dirty, self._dirty = self._dirty, {}
        writes: list[Write] = [Alive(self._utc_us())]
        for key in dirty:
            record = self._entries.get(key)
            writes.append(Save(record) if record is not None else ForgetPeer(*key))
        return tuple(writes)

    def known(self) -> Iterable[PeerKey]:
        """Of every entry, the peer that was seen last at the end."""
        return self._entries

    def entry(self, key: PeerKey) -> PeerRecord | None:
        """One entry."""
        return self._entries.get(key)

    def doubted_until_utc_us(self, key: PeerKey) -> int:
        """Until when RFC 4951 is not tried first with a peer that offers it, 0 if it is."""
        record = self._entries.get(key)
        if record is None or not evidence.is_contradicted(record, self._utc_us()):
            return 0
        return evidence.contradicted_until(record)

    def tunnels(self, key: PeerKey) -> Iterable[int]:
        """The local ids of the tunnels that a peer has now."""
        return self._tunnels.get(key, ())

    # Entries.

    def _away_for_ms(self, at: Instant) -> int:
        """How long the peers had heard nothing of us at an instant of the recovery, at most."""
        return self._away_ms + (at - self._began_at) // MILLISECOND

    def _bind(self, tunnel: Tunnel) -> None:
        key = (tunnel.peer.name, tunnel.peer_host_name)
        self._key_of[tunnel.local_id] = key
        self._tunnels.setdefault(key, set()).add(tunnel.local_id)

    def _entry(self, tunnel: Tunnel) -> PeerRecord:
        """The entry of a tunnel's peer, made if there is none from what is recorded of the tunnel."""
        key = self._key_of[tunnel.local_id]
        return self._entries.get(key) or PeerRecord(
            name=key[0],
            host_name=key[1],
            seen_utc_us=self._utc_us(),
            offered=tunnel.peer_failover,
            window=tunnel.channel.peer_window,
        )

    def _put(self, record: PeerRecord) -> None:
        self._entries.pop(record.key, None)
        self._entries[record.key] = record
        self._dirty[record.key] = None
        self._make_room()

    def _make_room(self) -> None:
        while len(self._entries) > MAX_ENTRIES:
            oldest = next(
                (key for key in self._entries if key not in self._tunnels), next(iter(self._entries))
            )
            del self._entries[oldest]
            self._dirty[oldest] = None

    def _inform(self, key: PeerKey, tunnel_ids: Iterable[int]) -> None:
        record = self._entries.get(key)
        if record is not None:
            known = evidence.evidence(record, self._utc_us(), self._away_ms)
            for tunnel_id in tunnel_ids:
                self._endpoint.inform(tunnel_id, known)
