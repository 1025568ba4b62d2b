"""The peer ledger: what experience says of each peer. Evidence for the choice of a recovery method, and for people.

Invariants: losing an entry loses evidence and nothing else, so nobody ever waits for one; an entry belongs to a
configured peer *and* the Host Name that it gave: that pair survives reconnection, a restart of either side and a new
address, and tells apart the machines that share one `[[peer]]` entry with a network for its address.
"""

from enum import Enum
from typing import TypeAlias

import msgspec

from holdfast.records import FailoverCapability

PeerKey: TypeAlias = tuple[str, str]
"""Name of the configured peer, and the peer's Host Name."""


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

    attempts: int = 0
    successes: int = 0
    failures: int = 0
    last: Outcome = Outcome.NONE
    last_utc_us: int = 0
    last_reason: str = ""
    send_last_ms: int | None = None
    send_worst_ms: int | None = None
    receive_last_ms: int | None = None
    receive_worst_ms: int | None = None


class PeerRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One peer. `offered` is its last AVP 76, None for none; `firmware` and `window` are None where it gave none.

    `contradictions` counts our restarts in a row in which RFC 4951 failed with this peer for tunnels that it still knew
    (`daemon.evidence`); `contradicted_boot` is the boot epoch of the last of them. `kept_ms` is the longest outage of
    ours after which the peer still knew its tunnel, `lost_ms` the shortest longer one after which it did not answer for
    it. `answered` counts recoveries that the peer itself made by RFC 4951.
    """

    name: str
    host_name: str
    seen_utc_us: int
    offered: FailoverCapability | None = None
    vendor: str = ""
    firmware: int | None = None
    window: int | None = None
    rfc4951: MethodRecord = MethodRecord()
    silent: MethodRecord = MethodRecord()
    contradictions: int = 0
    contradicted_boot: int = 0
    contradicted_utc_us: int = 0
    kept_ms: int | None = None
    lost_ms: int | None = None
    answered: int = 0

    @property
    def key(self) -> PeerKey:
        """What the entry is found by."""
        return self.name, self.host_name
