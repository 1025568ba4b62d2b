"""What a tunnel does when its time has come: send again, wait, recover, give up.

A peer that does not answer is given up when every attempt is spent; one that has asked for time to recover (RFC 4951)
has that time too.
"""

from holdfast.core.clock import MILLISECOND, Instant
from holdfast.core.counters import Counter
from holdfast.protocol import (
    calls,
    closing,
    dispatch,
    recovery,
    recovery_endpoint,
    remote_endpoint,
    silent,
    sync,
)
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Cause
from holdfast.protocol.tunnel import Tunnel, TunnelState
from holdfast.wire.codes import Msg
from holdfast.wire.messages import encode


def run(ctx: Context, tunnel: Tunnel, now: Instant) -> None:
    """Everything of this tunnel that is due."""
    channel = tunnel.channel
    if tunnel.end_at is not None and now >= tunnel.end_at:
        _ended(ctx, tunnel, now)
    if channel.retransmit_at is not None and now >= channel.retransmit_at:
        before = channel.retransmissions
        channel.timed_out(now)
        if channel.exhausted:
            _unanswered(ctx, tunnel, now)
        ctx.count(Counter.TX_RETRANSMIT, channel.retransmissions - before)
    if tunnel.clear_at is not None and now >= tunnel.clear_at:
        _clear_or_postpone(ctx, tunnel, now)
    if tunnel.hello_at is not None and now >= tunnel.hello_at:
        tunnel.hello_at = ctx.next_hello(now)
        hello(tunnel, now)
    recovery_endpoint.on_timer(ctx, tunnel, now)
    if silent.hopeless(tunnel, now) and tunnel.stop_wanted is None and recovery.may_ask(ctx, tunnel):
        recovery_endpoint.again(ctx, tunnel, now)
    if silent.on_timer(ctx, tunnel, now):
        dispatch.process_early(ctx, tunnel, now)
        channel.finish(now)
    unanswered = calls.expire(ctx, tunnel, now)
    sync.guard(ctx, tunnel, now)
    silent.end_if_empty(ctx, tunnel, now, unanswered=unanswered)


def _ended(ctx: Context, tunnel: Tunnel, now: Instant) -> None:
    """A set-up took too long, a closed tunnel has lingered long enough, or a finished recovery tunnel too."""
    if tunnel.state >= TunnelState.CLOSING:
        ctx.remove(tunnel)
    elif tunnel.recovers and tunnel.initiator:
        recovery_endpoint.on_timeout(ctx, tunnel, now)
    elif tunnel.is_recovery and tunnel.established:
        closing.stop(ctx, tunnel, Cause.LOCAL, now)
    else:
        if tunnel.is_recovery:
            remote_endpoint.failed(ctx, tunnel, now)
        closing.vanish(ctx, tunnel, Cause.TIMEOUT, "set-up not completed in time")


def _unanswered(ctx: Context, tunnel: Tunnel, now: Instant) -> None:
    """Every attempt is spent: clear, unless the peer asked for time to recover (F-50, F-51, T-5)."""
    if tunnel.clear_at is not None:
        tunnel.channel.retransmit()
        return
    limit = _wait_for_recovery(ctx, tunnel)
    if limit is not None and limit > now:
        tunnel.clear_at = limit
        tunnel.channel.retransmit()
        ctx.trace("tunnel.waiting_for_recovery", "warning", tunnel=tunnel.local_id, peer=tunnel.peer.name)
    elif tunnel.clear_at is None:
        _clear_or_postpone(ctx, tunnel, now)


def _wait_for_recovery(ctx: Context, tunnel: Tunnel) -> Instant | None:
    """Until when the peer's Recovery Time keeps a silent tunnel alive, or None."""
    peer = tunnel.peer_failover
    since, spent = tunnel.channel.unacked_since, tunnel.channel.give_up_at()
    if peer is None or not peer.control or not tunnel.established or since is None or spent is None:
        return None
    asked = min(peer.recovery_time_ms * MILLISECOND, ctx.settings.failover.peer_recovery_cap)
    return (spent if ctx.settings.failover.additive else since) + asked


def _clear_or_postpone(ctx: Context, tunnel: Tunnel, now: Instant) -> None:
    """Clear a tunnel whose peer is gone; a pending recovery may put that off once, by its set-up time (T-42)."""
    if not tunnel.channel.exhausted:
        tunnel.clear_at = None
        return
    if tunnel.pending_recovery_id and not tunnel.postponed:
        tunnel.postponed = True
        tunnel.clear_at = now + ctx.settings.failover.setup_timeout
        return
    closing.vanish(ctx, tunnel, Cause.TIMEOUT, "the peer does not answer")


def hello(tunnel: Tunnel, now: Instant) -> None:
    """Ask the peer for a sign of life unless an answer is owed already (V2-87)."""
    if tunnel.established and tunnel.channel.idle and not tunnel.channel.held:
        tunnel.channel.send(0, encode(Msg.HELLO), now)
