"""A control message on a tunnel that exists: whether it is heard, and what its tunnel does next."""

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.core.errors import Malformed
from holdfast.protocol import calls, dispatch, recovery_endpoint, silent
from holdfast.protocol.channel import Outcome
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Address
from holdfast.protocol.tunnel import RePhase, Tunnel, TunnelState
from holdfast.wire.codes import Msg
from holdfast.wire.messages import decode


def receive(
    ctx: Context,
    tunnel: Tunnel,
    session_id: int,
    ns: int,
    nr: int,
    body: bytes,
    source: Address,
    now: Instant,
) -> None:
    """A message on a tunnel that exists, from its peer."""
    if _discards(ctx, tunnel):
        ctx.count(Counter.RX_DISCARDED_RECOVERING)
        return
    if tunnel.state is TunnelState.WAIT_REPLY and body:
        if tunnel.recovers and not _credible(ctx, tunnel, body):
            return
        tunnel.peer_address = source
    if tunnel.resync is not None and not silent.hear(ctx, tunnel, ns, nr, body, now):
        return
    channel = tunnel.channel
    outcome = channel.receive(session_id, ns, nr, body, now)
    if outcome == Outcome.BAD_NR:
        ctx.count(Counter.RX_BAD_NR)
        return
    if tunnel.hello_at is not None:
        tunnel.hello_at = ctx.next_hello(now)
    if outcome == Outcome.DELIVER:
        dispatch.process(ctx, tunnel, session_id, body, now)
        dispatch.process_early(ctx, tunnel, now)
    elif outcome == Outcome.DUPLICATE:
        ctx.count(Counter.RX_DUPLICATE)
        if now < tunnel.heeds_until and silent.still_ends(tunnel, session_id, ns, body):
            dispatch.process(ctx, tunnel, session_id, body, now)
    elif outcome == Outcome.EARLY:
        ctx.count(Counter.RX_OUT_OF_ORDER)
    if tunnel.own_recovery is not None:
        if outcome == Outcome.DELIVER:
            recovery_endpoint.confirm(ctx, tunnel, now)
        recovery_endpoint.acknowledged(ctx, tunnel)
    elif tunnel.recovers and tunnel.initiator and tunnel.established and channel.idle:
        old = ctx.tunnels.get(tunnel.recovers)
        if old is not None:
            recovery_endpoint.confirm(ctx, old, now)
    if tunnel.clear_at is not None and channel.attempts == 0:
        tunnel.clear_at = None
        tunnel.postponed = False
    resent = channel.retransmissions
    channel.finish(now)
    if channel.retransmissions != resent:
        ctx.count(Counter.TX_RETRANSMIT, channel.retransmissions - resent)
    if tunnel.leaving:
        calls.iccn_left(ctx, tunnel)
    ctx.flush(tunnel)
    if tunnel.recovers:
        recovery_endpoint.remove_finished(ctx, tunnel)


def _discards(ctx: Context, tunnel: Tunnel) -> bool:
    """F-34: before its own reset an old tunnel hears nothing; at the remote endpoint only if so configured (T-4)."""
    own = tunnel.own_recovery
    if own is not None and own.phase < RePhase.RESET:
        return True
    return tunnel.pending_recovery_id != 0 and ctx.settings.failover.strict_discard


def _credible(ctx: Context, rt: Tunnel, body: bytes) -> bool:
    """Whether the first answer on a recovery tunnel of ours may touch its state: forgeries only count (F-33)."""
    try:
        msg = decode(body, rt.secret)
    except Malformed:
        ctx.count(Counter.RX_MALFORMED)
        return False
    return msg.type != Msg.SCCRP or recovery_endpoint.accepts(ctx, rt, msg)
