"""A tunnel (control connection) and the table of its states (RFC 2661 7.2; V2-98).

Invariants: `state` changes only through `Tunnel.step`; a pair that is not in the table is the peer's fault
(StopCCN, FSM error). A recovery tunnel (`recovers` not 0, or `decoy`) carries no sessions and has no record.
"""

from collections import deque
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

import msgspec

from holdfast.core.clock import Instant
from holdfast.core.ids import IdPool
from holdfast.protocol.channel import ControlChannel
from holdfast.protocol.effects import Address, Cause
from holdfast.protocol.limits import TokenBucket
from holdfast.protocol.resync import Phase as ResyncPhase
from holdfast.protocol.resync import Resync
from holdfast.protocol.session import Session
from holdfast.protocol.settings import Evidence, PeerSettings
from holdfast.records import FailoverCapability, Side, TunnelRecord
from holdfast.wire.codes import General, PeerError, StopCcn


class TunnelState(IntEnum):
    """RFC 2661 7.2.1. CLOSING: our StopCCN awaits its acknowledgement; CLOSED: the peer's is being re-acknowledged."""

    WAIT_REPLY = 1
    WAIT_CONNECT = 2
    ESTABLISHED = 3
    CLOSING = 4
    CLOSED = 5


Claim: TypeAlias = tuple[str, int, int]
"""Who (host) claims to recover what (both tunnel ids, the claimant's first)."""


class TunnelInput(IntEnum):
    """What moves a tunnel. `CLOSE` is our own StopCCN."""

    SCCRP = 1
    SCCCN = 2
    STOPCCN = 3
    CLOSE = 4


TUNNEL: Final[Mapping[tuple[TunnelState, TunnelInput], TunnelState]] = {
    (TunnelState.WAIT_REPLY, TunnelInput.SCCRP): TunnelState.ESTABLISHED,
    (TunnelState.WAIT_CONNECT, TunnelInput.SCCCN): TunnelState.ESTABLISHED,
    **{(state, TunnelInput.STOPCCN): TunnelState.CLOSED for state in TunnelState},
    **{
        (state, TunnelInput.CLOSE): TunnelState.CLOSING
        for state in TunnelState
        if state < TunnelState.CLOSING
    },
}


class RePhase(IntEnum):
    """Where we stand as recovery endpoint of an old tunnel (requirements, section 7)."""

    QUEUED = 1
    WAIT_REPLY = 2
    RESET = 3
    CONFIRMED = 4


class OwnRecovery(msgspec.Struct, gc=False, kw_only=True):
    """Our own attempt to recover an old tunnel, from take-over until the peer has acknowledged something on it.

    `final`: silent resynchronisation has been tried already, this is not given up for it again.
    `yielded`: the tie was lost and the peer's recovery tunnel is expected to finish; `trust_tie` is withdrawn after a
    winner that never authenticated, so that a forged SCCRQ can delay a recovery once and no more.
    """

    give_up_at: Instant
    phase: RePhase = RePhase.QUEUED
    recovery_tunnel_id: int = 0
    tie: bytes = b""
    tries: int = 0
    refusals: int = 0
    retry_at: Instant | None = None
    yielded: bool = False
    trust_tie: bool = True
    final: bool = False
    reset_ns: int = -1


class Sync(msgspec.Struct, gc=False, kw_only=True):
    """Session state synchronisation under way: local session ids asked about and not yet answered."""

    role: str
    outstanding: set[int]
    guard_at: Instant | None = None
    tries: int = 1
    stale: int = 0


class Orphans(msgspec.Struct, gc=False, kw_only=True):
    """What tells calls lost in a restart from ended ones. `before`: ids that were freed before the restart."""

    before: set[int]
    limit: TokenBucket


class Stop(NamedTuple):
    """Why, and with which result, a tunnel is to be ended by a StopCCN."""

    cause: Cause
    result: StopCcn = StopCcn.CLEAR_REQUEST
    error: General = General.NONE
    text: str = ""


NO_EVIDENCE: Final = Evidence()


class Tunnel:
    """One control connection with its channel and sessions. `peer_vendor` and `peer_firmware` are as it gave them in
    this process, for people only. Until `heeds_until` a CDN or StopCCN counts though its number has been acknowledged.
    `unseen`: a message had to be acknowledged that never came, and nothing has come since that speaks of a call.
    `stop_wanted`: it is to end once its numbers are proved.
    """

    __slots__ = (
        "by_peer",
        "challenge",
        "channel",
        "clear_at",
        "close_result",
        "decoy",
        "end_at",
        "established_utc_us",
        "evidence",
        "heeds_until",
        "hello_at",
        "hinted",
        "ids",
        "initiator",
        "leaving",
        "local_failover",
        "local_id",
        "orphans",
        "own_recovery",
        "peer",
        "peer_address",
        "peer_bearer",
        "peer_failover",
        "peer_firmware",
        "peer_framing",
        "peer_host_name",
        "peer_id",
        "peer_vendor",
        "pending",
        "pending_recovery_id",
        "postponed",
        "recorded",
        "recovers",
        "resync",
        "scs",
        "secret",
        "sessions",
        "side",
        "state",
        "stop_wanted",
        "sync",
        "tie",
        "unseen",
    )

    def __init__(
        self,
        local_id: int,
        peer: PeerSettings,
        peer_address: Address,
        channel: ControlChannel,
        ids: IdPool,
        *,
        initiator: bool,
        side: Side,
        state: TunnelState,
    ) -> None:
        self.local_id = local_id
        self.peer = peer
        self.peer_address = peer_address
        self.channel = channel
        self.ids = ids
        self.initiator = initiator
        self.side = side
        self.state = state
        self.peer_id = 0
        self.peer_host_name = ""
        self.peer_vendor = ""
        self.peer_firmware: int | None = None
        self.secret = peer.secret
        self.challenge = b""
        self.tie = b""
        self.local_failover: FailoverCapability | None = None
        self.peer_failover: FailoverCapability | None = None
        self.peer_framing = self.peer_bearer = 0
        self.established_utc_us = 0
        self.sessions: dict[int, Session] = {}
        self.by_peer: dict[int, int] = {}
        self.pending: deque[tuple[Instant, Session]] = deque()
        self.leaving: deque[tuple[int, Session]] = deque()
        self.hello_at: Instant | None = None
        self.end_at: Instant | None = None
        self.clear_at: Instant | None = None
        self.postponed = False
        self.recorded = False
        self.close_result = 0
        self.recovers = 0
        self.decoy: Claim | None = None
        self.scs: tuple[int, int] | None = None
        self.own_recovery: OwnRecovery | None = None
        self.pending_recovery_id = 0
        self.sync: Sync | None = None
        self.resync: Resync | None = None
        self.heeds_until: Instant = 0
        self.unseen = False
        self.stop_wanted: Stop | None = None
        self.orphans: Orphans | None = None
        self.hinted = (-1, -1)
        self.evidence = NO_EVIDENCE

    def step(self, how: TunnelInput) -> None:
        """Move by the table. Raises PeerError for a pair that it does not hold."""
        following = TUNNEL.get((self.state, how))
        if following is None:
            raise PeerError(StopCcn.FSM_ERROR, General.NONE, f"{how.name} in {self.state.name}")
        self.state = following

    @property
    def established(self) -> bool:
        """Whether the three-way handshake is complete and nobody has said StopCCN."""
        return self.state is TunnelState.ESTABLISHED

    @property
    def is_recovery(self) -> bool:
        """Whether this is a recovery tunnel (RFC 4951 3.2.1)."""
        return self.recovers != 0 or self.decoy is not None

    @property
    def recovering(self) -> bool:
        """Whether we took over after our own failure and the peer has not confirmed the reset yet: nothing is sent."""
        if self.resync is not None and self.resync.phase < ResyncPhase.SETTLING:
            return True
        return self.own_recovery is not None and self.own_recovery.phase < RePhase.CONFIRMED

    @property
    def suspect(self) -> bool:
        """Whether the peer owes us an acknowledgement that has been asked for more than once, or a recovery runs."""
        return self.recovering or self.channel.attempts > 0 or self.pending_recovery_id != 0

    def deadline(self) -> Instant | None:
        """The earliest of this tunnel's timers."""
        earliest = self.channel.retransmit_at
        for at in (self.hello_at, self.end_at, self.clear_at):
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        if self.pending and (earliest is None or self.pending[0][0] < earliest):
            earliest = self.pending[0][0]
        own, sync = self.own_recovery, self.sync
        if own is not None and own.phase < RePhase.CONFIRMED:
            at = own.give_up_at if own.retry_at is None else min(own.retry_at, own.give_up_at)
            earliest = at if earliest is None else min(earliest, at)
        if sync is not None and sync.guard_at is not None:
            earliest = sync.guard_at if earliest is None else min(earliest, sync.guard_at)
        if self.resync is not None:
            due = self.resync.deadline()
            if due is not None:
                earliest = due if earliest is None else min(earliest, due)
        return earliest

    def record(self, local_address: str, local_port: int, local_host_name: str) -> TunnelRecord:
        """This tunnel as it must survive. Sequence numbers are the channel's at this moment."""
        return TunnelRecord(
            local_id=self.local_id,
            peer_id=self.peer_id,
            local_address=local_address,
            local_port=local_port,
            peer_address=self.peer_address[0],
            peer_port=self.peer_address[1],
            initiator=self.initiator,
            side=self.side,
            local_host_name=local_host_name,
            peer_host_name=self.peer_host_name,
            peer_name=self.peer.name,
            secret=self.secret.decode("utf-8", "surrogateescape"),
            local_failover=self.local_failover,
            peer_failover=self.peer_failover,
            peer_window=self.channel.peer_window,
            peer_framing=self.peer_framing,
            peer_bearer=self.peer_bearer,
            established_utc_us=self.established_utc_us,
            acked=self.channel.acked,
            nr=self.channel.nr,
        )
