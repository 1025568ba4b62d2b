"""What the journal held when it was opened: the input of a restart."""

from enum import Enum

import msgspec

from holdfast.records import EndpointRecord, SessionRecord, TunnelRecord
from holdfast.records.calls import CallsBefore, none_before
from holdfast.records.ledger import PeerRecord


class Kind(Enum):
    """The kinds of record; the value is the name of the table."""

    TUNNEL = "tunnel"
    SESSION = "session"
    ENDPOINT = "endpoint"
    PEER = "peer"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> "Kind":
        return cls.UNKNOWN


class Quarantined(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A record that could not be used, kept as it was found. `body` may hold secrets.

    The ids are those it was stored under, 0 where there is none. `slot` is the row that it still occupies, 0
    once it has been moved out of the way.
    """

    kind: Kind
    reason: str
    body: bytes
    tunnel_id: int = 0
    session_id: int = 0
    slot: int = 0


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """Every record that validates, and those that do not. Each session's tunnel is among `tunnels`.

    `alive_utc_us` is when the node that wrote the journal is last known to have run, 0 if that is not known. `calls`
    comes from beside the journal.
    """

    tunnels: list[TunnelRecord] = []
    sessions: list[SessionRecord] = []
    endpoint: EndpointRecord | None = None
    quarantined: list[Quarantined] = []
    peers: list[PeerRecord] = []
    alive_utc_us: int = 0
    calls: CallsBefore = none_before
