"""The remote endpoint (RFC 4951 3.2): a peer that failed recovers a tunnel of ours.

Invariants: an SCCRQ changes nothing on the old tunnel and does not stop its timers (T-29, F-52); everything happens
at the SCCCN that verifies (F-42). A peer that has a secret cannot tell an id that exists from one that does not
(F-S4): both get an SCCRP, and the refusal comes after the SCCCN. Deliberate readings: T-4, T-42, F-S4.
"""

from holdfast.core import seq
from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.core.counters import Counter
from holdfast.protocol import closing, handshake, recovery, recovery_endpoint
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Address, Cause, PeerMoved, Recovery, RecoveryPhase
from holdfast.protocol.settings import PeerSettings
from holdfast.protocol.tunnel import Tunnel, TunnelInput, TunnelState
from holdfast.records import Side
from holdfast.wire.avp import EncodedAvp
from holdfast.wire.codes import Msg, PeerError, StopCcn
from holdfast.wire.dictionary import (
    HOST_NAME,
    SUGGESTED_CONTROL_SEQUENCE,
    TIE_BREAKER,
    TUNNEL_RECOVERY,
    SuggestedSequence,
)
from holdfast.wire.messages import Message

LINGER: Duration = 30 * SECOND
"""How long a finished recovery tunnel may stay before we end it ourselves (T-9)."""

REPLACE_AFTER: Duration = 1 * SECOND
"""A pending recovery tunnel younger than this is not displaced by another SCCRQ for the same old tunnel (F-S6)."""

MAX_JUMP = 28_672
"""With a jump of the receive window up to this, 4,096 stale messages count as duplicates (T-11, 5.1)."""


def on_sccrq(ctx: Context, source: Address, peer: PeerSettings, msg: Message, now: Instant) -> Tunnel | None:
    """A recovery SCCRQ that passed the cheap checks. None: dropped. Raises PeerError: refused at once."""
    ids = msg.need(TUNNEL_RECOVERY)
    old = claimed(ctx, source, msg)
    secret = old.secret if old is not None else peer.secret
    if not secret and (old is None or ctx.settings.failover.require_secret):
        ctx.count(Counter.RECOVERY_REFUSED)
        raise PeerError(StopCcn.NOT_AUTHORISED)
    claim = (source[0], ids.recover_tunnel_id, ids.recover_remote_tunnel_id)
    pending = ctx.tunnels.get(old.pending_recovery_id if old is not None else ctx.decoys.get(claim, 0))
    if not _may_replace(ctx, pending, now):
        return None
    if old is not None and not recovery_endpoint.contest(ctx, old, msg.get(TIE_BREAKER), now):
        return None
    if pending is not None:
        closing.vanish(ctx, pending, Cause.LOST_TIE, "a newer attempt")
    rt = ctx.new_tunnel(
        PeerSettings(name=peer.name, secret=secret), source, initiator=False, side=Side.LNS, now=now
    )
    rt.end_at = now + ctx.settings.failover.setup_timeout
    rt.channel.nr = 1
    ctx.recovery_tunnels += 1
    if old is None:
        rt.decoy = claim
        ctx.decoys[claim] = rt.local_id
    else:
        rt.recovers = old.local_id
        old.pending_recovery_id = rt.local_id
    try:
        handshake.accept(ctx, rt, msg, now, *_suggest(ctx, rt, old), mutual=False)
    except PeerError:
        failed(ctx, rt, now)
        ctx.remove(rt)
        raise
    return rt


def claimed(ctx: Context, source: Address, msg: Message) -> Tunnel | None:
    """The established tunnel that may be recovered by this SCCRQ, or None (F-28…F-30, T-19, T-21, T-24, T-28)."""
    ids = msg.get(TUNNEL_RECOVERY)
    old = ctx.tunnels.get(ids.recover_remote_tunnel_id) if ids is not None else None
    if ids is None or old is None or not old.established or old.is_recovery:
        return None
    if old.peer_id != ids.recover_tunnel_id or not recovery.capable(old.local_failover, old.peer_failover):
        return None
    if source[0] != old.peer_address[0] and source[0] not in old.peer.recovery_addresses:
        return None
    if msg.get(HOST_NAME) != old.peer_host_name:
        return None
    return old


def _may_replace(ctx: Context, pending: Tunnel | None, now: Instant) -> bool:
    """One attempt at a time for one old tunnel, and a decoy behaves alike: a young one keeps its place (F-S4, F-S6)."""
    if pending is None or pending.state is not TunnelState.WAIT_CONNECT or pending.end_at is None:
        return True
    if now < pending.end_at - ctx.settings.failover.setup_timeout + REPLACE_AFTER:
        ctx.count(Counter.SCCRQ_RATE_LIMITED)
        return False
    return True


def _suggest(ctx: Context, rt: Tunnel, old: Tunnel | None) -> list[EncodedAvp]:
    """The Suggested Control Sequence: both windows jump by a random distance that makes stale messages old (T-11)."""
    if not ctx.settings.failover.suggest_sequence:
        return []
    if old is None:
        drawn = ctx.random(4)
        ns, nr = int.from_bytes(drawn[:2], "big"), int.from_bytes(drawn[2:], "big")
    else:
        ns = seq.add(old.channel.nr, _jump(ctx, ctx.settings.channel.receive_window))
        nr = seq.add(old.channel.ns, _jump(ctx, old.channel.peer_window))
    rt.scs = (ns, nr)
    return [SUGGESTED_CONTROL_SEQUENCE(SuggestedSequence(ns, nr))]


def _jump(ctx: Context, window: int) -> int:
    low = min(window, MAX_JUMP)
    return low + int.from_bytes(ctx.random(4), "big") % (MAX_JUMP - low + 1)


def on_scccn(ctx: Context, rt: Tunnel, msg: Message, now: Instant) -> None:
    """The SCCCN of a recovery tunnel: if it verifies, the old tunnel starts again (F-42, F-44, F-46).

    Raises PeerError, which ends the recovery tunnel and nothing else (F-37).
    """
    if rt.state is not TunnelState.WAIT_CONNECT:
        rt.step(TunnelInput.SCCCN)
    if not handshake.answers(rt, msg, Msg.SCCCN):
        ctx.count(Counter.AUTH_FAILED)
        raise PeerError(StopCcn.NOT_AUTHORISED)
    old = ctx.tunnels.get(rt.recovers)
    if old is None or not old.established:
        ctx.count(Counter.RECOVERY_REFUSED)
        raise PeerError(StopCcn.NOT_AUTHORISED)
    rt.step(TunnelInput.SCCCN)
    ctx.set_up(rt)
    rt.end_at = now + LINGER
    old.pending_recovery_id = 0
    recovery_endpoint.superseded(ctx, old)
    suggested_ns, suggested_nr = rt.scs if rt.scs is not None else (0, 0)
    moved = old.peer_address != rt.peer_address
    if moved:
        ctx.move(old, rt.peer_address)
        handshake.save(ctx, old)
        ctx.emit(PeerMoved(old.local_id))
    recovery.reset(ctx, old, suggested_nr, suggested_ns, now)
    old.channel.held = False
    ctx.emit(Recovery(old.local_id, old.peer.name, recovery.REMOTE_ENDPOINT, RecoveryPhase.RESET))
    recovery.resume(ctx, old, recovery.REMOTE_ENDPOINT, now)


def failed(ctx: Context, rt: Tunnel, now: Instant) -> None:
    """A peer's recovery tunnel ended before its SCCCN verified: the old tunnel is as it was (T-7)."""
    old = ctx.tunnels.get(rt.recovers)
    if old is not None and old.pending_recovery_id == rt.local_id:
        old.pending_recovery_id = 0
        recovery_endpoint.winner_failed(ctx, old, now)
        ctx.deadlines.set(old.local_id, old.deadline())
