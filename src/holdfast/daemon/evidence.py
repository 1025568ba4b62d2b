"""What a peer's entry in the ledger says about the next recovery: the rule, and the arithmetic on entries.

The rule, which `auto` follows: RFC 4951 is *contradicted* for a peer that offers it once it has failed in
`CONTRADICTIONS` of our restarts in a row, each time with silent resynchronisation succeeding for the same tunnel, or
with the tunnel lost because the peer said nothing on it after the reset; and for `RETRY_AFTER` from then on. A tunnel
of the peer that is recovered by RFC 4951, from either side, clears it at once, and so does another offer: an AVP 76,
Vendor Name or Firmware Revision that is not the one in the entry.
"""

from typing import Final, Literal, TypeAlias

from msgspec.structs import replace

from holdfast.core.clock import MILLISECOND, SECOND, Duration
from holdfast.protocol.resync import PATIENCE
from holdfast.protocol.settings import Evidence
from holdfast.records import FailoverCapability
from holdfast.records.ledger import MethodRecord, Outcome, PeerRecord

CONTRADICTIONS: Final = 2
RETRY_AFTER: Final[Duration] = 30 * 24 * 3600 * SECOND

LONGEST_PATIENCE: Final[Duration] = 60 * SECOND
"""No probing goes on for longer, however patient the peer has been."""

TEXT_LIMIT: Final = 100
"""Characters of a peer's text that are kept."""

Field: TypeAlias = Literal["rfc4951", "silent"]
"""The part of an entry that a method has."""


def method_of(record: PeerRecord, field: Field) -> MethodRecord:
    """What the entry says of one method."""
    return record.rfc4951 if field == "rfc4951" else record.silent


def with_method(record: PeerRecord, field: Field, method: MethodRecord) -> PeerRecord:
    """The entry with another word on one method."""
    return replace(record, **{field: method})


def contradicted_until(record: PeerRecord) -> int:
    """Until when (UTC, microseconds) RFC 4951 is contradicted for this peer, 0 if it is not."""
    return record.contradicted_utc_us + RETRY_AFTER if record.contradictions >= CONTRADICTIONS else 0


def is_contradicted(record: PeerRecord, utc_us: int) -> bool:
    """Whether RFC 4951 is contradicted for this peer now. Not before the time that is noted: the clock went back."""
    return record.contradicted_utc_us <= utc_us < contradicted_until(record)


def evidence(record: PeerRecord, utc_us: int, outage_ms: int) -> Evidence:
    """What the entry says about a recovery now, `outage_ms` after we were last alive.

    A peer that has kept its tunnels over a longer outage is asked until that is over; never for less than the least
    patient router keeps a message.
    """
    kept = (record.kept_ms or 0) - outage_ms
    return Evidence(
        rfc4951_fails=is_contradicted(record, utc_us),
        patience=max(PATIENCE, min(kept * MILLISECOND, LONGEST_PATIENCE)),
    )


def offers(
    record: PeerRecord, boot: int, capability: FailoverCapability | None, vendor: str, firmware: int | None
) -> PeerRecord:
    """The peer has set up a tunnel: an offer that differs makes old experience with RFC 4951 void."""
    vendor = vendor[:TEXT_LIMIT]
    if (record.offered, record.vendor, record.firmware) == (capability, vendor, firmware):
        return record
    return trusted(replace(record, offered=capability, vendor=vendor, firmware=firmware), boot)


def attempted(method: MethodRecord) -> MethodRecord:
    """A recovery of one tunnel begins."""
    return replace(method, attempts=method.attempts + 1)


def succeeded(method: MethodRecord, utc_us: int, remark: str = "") -> MethodRecord:
    """A recovery of one tunnel has worked."""
    return replace(
        method,
        successes=method.successes + 1,
        last=Outcome.SUCCESS,
        last_utc_us=utc_us,
        last_reason=remark[:TEXT_LIMIT],
    )


def failed(method: MethodRecord, utc_us: int, reason: str) -> MethodRecord:
    """A recovery of one tunnel has not worked, for this reason."""
    return replace(
        method,
        failures=method.failures + 1,
        last=Outcome.FAILURE,
        last_utc_us=utc_us,
        last_reason=reason[:TEXT_LIMIT],
    )


def sent(method: MethodRecord, elapsed_ms: int) -> MethodRecord:
    """The send side was in step again after that time."""
    worst = max(elapsed_ms, method.send_worst_ms or 0)
    return replace(method, send_last_ms=elapsed_ms, send_worst_ms=worst)


def received(method: MethodRecord, elapsed_ms: int) -> MethodRecord:
    """The receive side was settled after that time."""
    worst = max(elapsed_ms, method.receive_worst_ms or 0)
    return replace(method, receive_last_ms=elapsed_ms, receive_worst_ms=worst)


def contradicted(record: PeerRecord, boot: int, utc_us: int) -> PeerRecord:
    """RFC 4951 has failed for a tunnel that could have been recovered: counted once in a boot of ours, and not in one in
    which RFC 4951 has worked as well.
    """
    if record.contradicted_boot == boot:
        return record
    return replace(
        record, contradictions=record.contradictions + 1, contradicted_boot=boot, contradicted_utc_us=utc_us
    )


def trusted(record: PeerRecord, boot: int) -> PeerRecord:
    """RFC 4951 has worked with this peer, or nothing is known yet of what it offers now."""
    if record.contradictions == 0 and record.contradicted_boot == boot:
        return record
    return replace(record, contradictions=0, contradicted_boot=boot)


def kept(record: PeerRecord, outage_ms: int) -> PeerRecord:
    """The peer still knew a tunnel after we had been away for at least that long."""
    longest = max(outage_ms, record.kept_ms or 0)
    doubtful = record.lost_ms is not None and record.lost_ms <= longest
    return replace(record, kept_ms=longest, lost_ms=None if doubtful else record.lost_ms)


def lost(record: PeerRecord, outage_ms: int) -> PeerRecord:
    """The peer did not answer for a tunnel after we had been away for at most that long.

    One that has kept a tunnel for longer was not impatient but away itself.
    """
    if outage_ms <= (record.kept_ms or 0):
        return record
    return replace(record, lost_ms=outage_ms if record.lost_ms is None else min(outage_ms, record.lost_ms))
