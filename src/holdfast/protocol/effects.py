"""What the protocol asks of its owner, in order: bytes to send, records to write, news to act on.

A *lane* orders effects: a `Persist` holds back the later effects of its own lane until it is on disk, and no others.
A tunnel's lane is its local tunnel id, a session's lane its session key (`records.session_key`).
"""

from enum import Enum
from typing import Any, TypeAlias

import msgspec

from holdfast.records.writes import Write
from holdfast.wire.codes import Cdn, General, StopCcn

Address: TypeAlias = tuple[str, int]
"""IPv4 address (dotted quad) and UDP port."""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send one UDP datagram from our socket."""

    lane: int
    data: bytes
    to: Address


class Persist(msgspec.Struct, frozen=True, gc=False):
    """Write to the journal; what follows in this lane waits for the commit."""

    lane: int
    writes: tuple[Write, ...]


class Cause(Enum):
    """Why a tunnel or a session ended, told apart for policy; the value is the word that logs show."""

    LOCAL = "local"
    PEER = "peer"
    PEER_FAULT = "peer-fault"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    LOST_TIE = "lost-tie"
    PURGED = "purged"
    STALE = "stale"
    TUNNEL = "tunnel"
    NOT_RECOVERABLE = "not-recoverable"
    RECOVERY_FAILED = "recovery-failed"
    FAULT = "internal-error"


class TunnelUp(msgspec.Struct, frozen=True, gc=False):
    """A tunnel reached established."""

    tunnel_id: int


class TunnelDown(msgspec.Struct, frozen=True, gc=False):
    """A tunnel ended, and with it its sessions (each has had its own SessionDown). `peer_name` is the configured peer."""

    tunnel_id: int
    peer_name: str
    cause: Cause
    result: StopCcn | int = 0
    error: General | int = 0
    text: str = ""
    established: bool = False


class Called(msgspec.Struct, frozen=True, gc=False):
    """A call that is being set up has both its ids. To be noted at once, for a restart that would lose the call."""

    tunnel_id: int
    session_id: int
    peer_tunnel: int
    peer_session: int


class SessionUp(msgspec.Struct, frozen=True, gc=False):
    """A session reached established at the L2TP level: PPP may begin."""

    tunnel_id: int
    session_id: int


class SessionDown(msgspec.Struct, frozen=True, gc=False):
    """A session ended; its object is already gone. `established` tells whether it ever was."""

    tunnel_id: int
    session_id: int
    cause: Cause
    result: Cdn | int = 0
    error: General | int = 0
    text: str = ""
    established: bool = True


class PeerMoved(msgspec.Struct, frozen=True, gc=False):
    """A recovered tunnel's peer now lives at another address (T-21): the data plane must follow."""

    tunnel_id: int


class RecoveryPhase(Enum):
    """Where a recovery stands; the value is the word that `show recoveries` prints."""

    STARTED = "started"
    RESET = "reset"
    CONFIRMED = "confirmed"
    SYNCHRONISED = "synchronised"
    FAILED = "failed"
    RETRIED = "retried"
    REFUSED = "refused"
    FELL_BACK = "fell-back"


class Recovery(msgspec.Struct, frozen=True, gc=False):
    """A recovery moved on. `role` is "recovery-endpoint", "remote-endpoint" or "silent".

    `stale` counts the sessions that were cleared so far because the peer did not hold them.
    """

    tunnel_id: int
    peer_name: str
    role: str
    phase: RecoveryPhase
    text: str = ""
    stale: int = 0


class Trace(msgspec.Struct, frozen=True, gc=False):
    """Something worth a log line that changes nothing by itself."""

    event: str
    fields: dict[str, Any]
    level: str = "info"


Effect: TypeAlias = (
    Send | Persist | TunnelUp | TunnelDown | Called | SessionUp | SessionDown | PeerMoved | Recovery | Trace
)
