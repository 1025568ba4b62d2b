"""The peer ledger: what experience says of each peer. Evidence for the choice of a recovery method, and for people.

Invariants: losing an entry loses evidence and nothing else, so nobody ever waits for one; an entry belongs to a
configured peer *and* the Host Name that it gave: that pair survives reconnection, a restart of either side and a new
address, and tells apart the machines that share one `[[peer]]` entry with a network for its address.
"""

from enum import Enum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from holdfast.records import FailoverCapability

PeerKey: TypeAlias = tuple[str, str]
"""Name of the configured peer, and the peer's Host Name."""

Amount: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 57)]
"""A count, a duration in milliseconds or a UTC time in microseconds; the last one is in the year 6536."""

Text: TypeAlias = Annotated[str, Meta(max_length=1024)]
"""Longer than a Host Name can be (RFC 2661 4.1)."""


class Outcome(Enum):
    """How an attempt ended; the value is the word that lists show."""

    NONE = ""
    SUCCESS = "success"
    FAILURE = "failure"


class MethodRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of our recoveries by one method. Each tunnel's is an attempt; some end without an outcome.

    Times count from the beginning of the attempt, its turn among many included, in milliseconds: `send_*` until we might
    speak again, `receive_*` until our Nr was proved (RFC 4951 resets both at one moment). None: never measured.
    """

    attempts: Amount = 0
    successes: Amount = 0
    failures: Amount = 0
    last: Outcome = Outcome.NONE
    last_utc_us: Amount = 0
    last_reason: Text = ""
    send_last_ms: Amount | None = None
    send_worst_ms: Amount | None = None
    receive_last_ms: Amount | None = None
    receive_worst_ms: Amount | None = None


class PeerRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One peer. `offered` is its last AVP 76, None for none; `firmware` and `window` are None where it gave none.

    `contradictions` counts our restarts in a row in which RFC 4951 failed with this peer for tunnels that it still knew
    (`daemon.evidence`); `contradicted_boot` is the boot epoch of the last of them. `kept_ms` is the longest outage of
    ours after which the peer still knew its tunnel, `lost_ms` the shortest longer one after which it did not answer for
    it. `answered` counts recoveries that the peer itself made by RFC 4951.
    """

    name: Text
    host_name: Text
    seen_utc_us: Amount
    offered: FailoverCapability | None = None
    vendor: Text = ""
    firmware: Amount | None = None
    window: Amount | None = None
    rfc4951: MethodRecord = MethodRecord()
    silent: MethodRecord = MethodRecord()
    contradictions: Amount = 0
    contradicted_boot: Amount = 0
    contradicted_utc_us: Amount = 0
    kept_ms: Amount | None = None
    lost_ms: Amount | None = None
    answered: Amount = 0

    @property
    def key(self) -> PeerKey:
        """What the entry is found by."""
        return self.name, self.host_name
