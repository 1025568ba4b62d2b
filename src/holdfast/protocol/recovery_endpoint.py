"""The recovery endpoint (RFC 4951 3.2.1): after a failure of our own, one recovery tunnel per old tunnel.

Invariants: until its own reset an old tunnel is silent and deaf (F-34); after the reset it stays silent until the
peer has acknowledged the SCCCN or spoken with the new numbers (T-8). A forged answer delays a recovery and does not
end it: it takes two refusals on two recovery tunnels, or the end of the time allowed (F-33). Giving up is silent.
"""

from holdfast.core.clock import MILLISECOND, Instant
from holdfast.core.counters import Counter
from holdfast.protocol import closing, handshake, recovery, silent
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Address, Cause, Recovery, RecoveryPhase
from holdfast.protocol.recovery import Why
from holdfast.protocol.settings import Method, PeerSettings
from holdfast.protocol.tunnel import OwnRecovery, RePhase, Tunnel, TunnelInput, TunnelState
from holdfast.records import Side
from holdfast.wire.codes import General, Msg, PeerError, StopCcn
from holdfast.wire.dictionary import (
    SUGGESTED_CONTROL_SEQUENCE,
    TIE_BREAKER,
    TUNNEL_RECOVERY,
    ResultCode,
    TunnelRecovery,
)
from holdfast.wire.messages import Message, encode

L2TP_PORT = 1701
TIE_LENGTH = 8
MAX_REFUSALS = 2

ENOUGH = 3
"""After so many tunnels in a row that RFC 4951 did not recover, the rest of a peer's do not wait for it: at three
seconds for 64 of them, 1,000 would wait for longer than the peer does.
"""

UNRECOVERABLE = {
    Why.CONFIGURED: "recovery is off",
    Why.WE_DO_NOT_OFFER: "we did not offer RFC 4951",
    Why.PEER_DOES_NOT_OFFER: "the peer lacks RFC 4951",
}
"""Why nothing can be tried."""


def begin(ctx: Context, old: Tunnel, now: Instant) -> None:
    """A tunnel has just been loaded from its record: queue its recovery, or clear it if the peer cannot (F-10)."""
    failover = ctx.settings.failover
    choice = recovery.decide(ctx, old)
    if choice.method is Method.OFF:
        ctx.emit(
            Recovery(
                old.local_id,
                old.peer.name,
                recovery.RECOVERY_ENDPOINT,
                RecoveryPhase.FAILED,
                UNRECOVERABLE[choice.why],
            )
        )
        closing.vanish(ctx, old, Cause.NOT_RECOVERABLE, UNRECOVERABLE[choice.why])
        return
    assert old.local_failover is not None
    asked = old.local_failover.recovery_time_ms * MILLISECOND
    limit = min(asked, failover.give_up) if asked else failover.give_up
    old.own_recovery = OwnRecovery(give_up_at=now + limit)
    old.channel.held = True
    ctx.recovery_queue.append(old.local_id)


def start_queued(ctx: Context, now: Instant) -> None:
    """Begin as many queued recoveries as may run at once. What the first of a peer have taught counts for the rest."""
    queue = ctx.recovery_queue
    while queue and len(ctx.recovering) < ctx.settings.failover.parallel:
        old = ctx.tunnels.get(queue.pop(0))
        if old is not None and old.own_recovery is not None and old.own_recovery.phase is RePhase.QUEUED:
            if ctx.fell_back[old.peer_address] >= ENOUGH and _may_fall_back(ctx, old, old.own_recovery):
                _fall_back(ctx, old, old.own_recovery, "it has failed for other tunnels of this peer", now)
                continue
            ctx.recovering.add(old.local_id)
            ctx.count(Counter.RECOVERIES_STARTED)
            ctx.emit(Recovery(old.local_id, old.peer.name, recovery.RECOVERY_ENDPOINT, RecoveryPhase.STARTED))
            _open(ctx, old, old.own_recovery, now)
            ctx.flush(old)
    if not ctx.recovering:
        ctx.fell_back.clear()


def _open(ctx: Context, old: Tunnel, own: OwnRecovery, now: Instant) -> None:
    """Send an SCCRQ that names the old tunnel, with a new id and a new tie breaker (F-17, F-20, F-22).

    Every other try goes to port 1701: the old one may be a translator's that is gone (T-20).
    """
    address: Address = old.peer_address if own.tries % 2 == 0 else (old.peer_address[0], L2TP_PORT)
    rt = ctx.new_tunnel(_peer_with_secret(old), address, initiator=True, side=Side.LAC, now=now)
    rt.recovers = old.local_id
    ctx.recovery_tunnels += 1
    failover = ctx.settings.failover
    rt.end_at = now + (failover.fall_back if _may_fall_back(ctx, old, own) else failover.setup_timeout)
    own.tries += 1
    own.phase = RePhase.WAIT_REPLY
    own.recovery_tunnel_id = rt.local_id
    own.tie = rt.tie = ctx.random(TIE_LENGTH)
    own.retry_at = None
    own.yielded = False
    avps = handshake.base_avps(ctx, rt)
    avps += (TIE_BREAKER(own.tie), TUNNEL_RECOVERY(TunnelRecovery(old.local_id, old.peer_id)))
    rt.channel.send(0, encode(Msg.SCCRQ, *avps), now)
    ctx.flush(rt)


def _peer_with_secret(old: Tunnel) -> PeerSettings:
    """The peer with the secret that authenticated the old tunnel, whatever the configuration says by now (F-36)."""
    return PeerSettings(name=old.peer.name, secret=old.secret, host_name=old.peer_host_name)


def accepts(ctx: Context, rt: Tunnel, msg: Message) -> bool:
    """Whether an SCCRP on a recovery tunnel may be believed at all: looked at before it touches the channel (F-33)."""
    genuine = handshake.answers(rt, msg, Msg.SCCRP) and not msg.fault
    if not genuine:
        ctx.count(Counter.RECOVERY_BAD_ANSWER)
        ctx.trace("recovery.bad_answer", "warning", tunnel=rt.recovers, peer=rt.peer.name)
    return genuine


def on_sccrp(ctx: Context, rt: Tunnel, msg: Message, now: Instant) -> None:
    """A valid SCCRP: reset the old tunnel now (F-41, F-43, F-45), then send the SCCCN. Raises PeerError."""
    old = ctx.tunnels.get(rt.recovers)
    if rt.state is not TunnelState.WAIT_REPLY or old is None or old.own_recovery is None:
        rt.step(TunnelInput.SCCRP)
        raise PeerError(StopCcn.CLEAR_REQUEST, General.NONE, "the tunnel to recover is gone")
    handshake.learn(rt, msg)
    handshake.check_version(msg)
    if SUGGESTED_CONTROL_SEQUENCE.key in msg.bad:
        raise PeerError(StopCcn.GENERAL_ERROR, General.WRONG_LENGTH, "Suggested Control Sequence")
    if rt.peer_host_name != old.peer_host_name:
        raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "another Host Name than the old tunnel's")
    response = handshake.own_response(rt, msg)
    rt.step(TunnelInput.SCCRP)
    ctx.set_up(rt)
    rt.end_at = now + ctx.settings.failover.setup_timeout
    scs = msg.get(SUGGESTED_CONTROL_SEQUENCE)
    ns, nr = (scs.ns, scs.nr) if scs is not None else (0, 0)
    recovery.reset(ctx, old, ns, nr, now)
    old.channel.held = True
    old.own_recovery.phase = RePhase.RESET
    old.own_recovery.reset_ns = ns
    ctx.emit(Recovery(old.local_id, old.peer.name, recovery.RECOVERY_ENDPOINT, RecoveryPhase.RESET))
    rt.channel.send(0, encode(Msg.SCCCN, *response), now)
    ctx.flush(old)


def confirm(ctx: Context, old: Tunnel, now: Instant) -> None:
    """The peer has acknowledged the SCCCN, or speaks with the new numbers: it has reset as well (T-8)."""
    own = old.own_recovery
    if own is None or own.phase is not RePhase.RESET:
        return
    own.phase = RePhase.CONFIRMED
    ctx.fell_back.pop(old.peer_address, None)
    ctx.recovering.discard(old.local_id)
    ctx.count(Counter.RECOVERIES_DONE)
    rt = ctx.tunnels.get(own.recovery_tunnel_id)
    if rt is not None:
        closing.stop(ctx, rt, Cause.LOCAL, now, StopCcn.CLEAR_REQUEST)
        ctx.flush(rt)
    recovery.resume(ctx, old, recovery.RECOVERY_ENDPOINT, now)
    start_queued(ctx, now)


def acknowledged(ctx: Context, old: Tunnel) -> None:
    """Something arrived on a confirmed old tunnel: its first acknowledgement ends the chance of a refusal (F-S4)."""
    own = old.own_recovery
    if own is not None and own.phase is RePhase.CONFIRMED and old.channel.acked != own.reset_ns:
        old.own_recovery = None
        rt = ctx.tunnels.get(own.recovery_tunnel_id)
        if rt is not None:
            remove_finished(ctx, rt)


def remove_finished(ctx: Context, rt: Tunnel) -> None:
    """A recovery tunnel of ours whose StopCCN is acknowledged may go, once no refusal can arrive on it any more."""
    old = ctx.tunnels.get(rt.recovers)
    awaited = old is not None and old.own_recovery is not None
    if rt.state is TunnelState.CLOSING and rt.channel.idle and rt.initiator and not awaited:
        ctx.remove(rt)


def on_stopccn(ctx: Context, rt: Tunnel, result: ResultCode, now: Instant) -> None:
    """The peer ends a recovery tunnel of ours. With any result but 1 that is a refusal, however late (F-S4)."""
    old = ctx.tunnels.get(rt.recovers)
    own = old.own_recovery if old is not None else None
    if old is None or own is None or own.recovery_tunnel_id != rt.local_id:
        return
    if own.phase is RePhase.CONFIRMED and (
        result.result == StopCcn.CLEAR_REQUEST or old.channel.acked != own.reset_ns
    ):
        return
    if own.phase is RePhase.RESET and result.result == StopCcn.CLEAR_REQUEST:
        confirm(ctx, old, now)
        return
    own.refusals += 1
    ctx.emit(
        Recovery(
            old.local_id,
            old.peer.name,
            recovery.RECOVERY_ENDPOINT,
            RecoveryPhase.REFUSED,
            f"StopCCN result {result.result} error {result.error} {result.text}".rstrip(),
        )
    )
    if own.phase is RePhase.WAIT_REPLY and _may_fall_back(ctx, old, own):
        ctx.fell_back[old.peer_address] += 1
        _fall_back(ctx, old, own, "refused", now)
    elif own.refusals >= MAX_REFUSALS:
        give_up(ctx, old, "refused twice")
    else:
        retry(ctx, old, own, now)


def retry(ctx: Context, old: Tunnel, own: OwnRecovery, at: Instant) -> None:
    """Try again on a new recovery tunnel at `at`."""
    own.phase = RePhase.QUEUED
    own.recovery_tunnel_id = 0
    own.retry_at = at
    old.channel.held = True
    old.sync = None
    ctx.recovering.add(old.local_id)
    ctx.deadlines.set(old.local_id, old.deadline())


def on_timeout(ctx: Context, rt: Tunnel, now: Instant) -> None:
    """A recovery tunnel of ours was not answered in time."""
    old = ctx.tunnels.get(rt.recovers)
    own = old.own_recovery if old is not None else None
    if old is None or own is None or own.recovery_tunnel_id != rt.local_id:
        closing.vanish(ctx, rt, Cause.TIMEOUT, "no answer")
    elif own.phase is RePhase.WAIT_REPLY and _may_fall_back(ctx, old, own):
        ctx.fell_back[old.peer_address] += 1
        _call_off(ctx, rt, now)
        _fall_back(ctx, old, own, "no answer to the SCCRQ", now)
    else:
        closing.vanish(ctx, rt, Cause.TIMEOUT, "no answer")
        ctx.emit(
            Recovery(
                old.local_id,
                old.peer.name,
                recovery.RECOVERY_ENDPOINT,
                RecoveryPhase.RETRIED,
                "no answer in time",
            )
        )
        retry(ctx, old, own, now)


def _call_off(ctx: Context, rt: Tunnel, now: Instant) -> None:
    """StopCCN for a recovery tunnel whose SCCRQ was not answered: a peer that has heard it all the same would be deaf on
    the old tunnel for as long as it waits for our SCCCN (3.2.1). The header has 0 for the id that we do not know (RFC
    2661 4.4.3).
    """
    rt.channel.silence()
    closing.stop(ctx, rt, Cause.TIMEOUT, now, StopCcn.CLEAR_REQUEST, text="recovered otherwise")


def _may_fall_back(ctx: Context, old: Tunnel, own: OwnRecovery) -> bool:
    return not own.final and recovery.may_fall_back(ctx, old)


def again(ctx: Context, old: Tunnel, now: Instant) -> None:
    """Silent resynchronisation found no answer either: RFC 4951 once more, and to the end."""
    old.resync = None
    ctx.emit(
        Recovery(old.local_id, old.peer.name, silent.ROLE, RecoveryPhase.FELL_BACK, "no answer to any probe")
    )
    begin(ctx, old, now)
    if old.own_recovery is not None:
        old.own_recovery.final = True
        start_queued(ctx, now)


def _fall_back(ctx: Context, old: Tunnel, own: OwnRecovery, why: str, now: Instant) -> None:
    """Resynchronise silently: the recovery tunnel is over, and the old one has not been reset, its numbers still hold.

    RFC 4951 3.2.1 would have the old tunnel cleared; `failover.method = "rfc4951"` does so.
    """
    old.own_recovery = None
    ctx.recovering.discard(old.local_id)
    ctx.emit(Recovery(old.local_id, old.peer.name, recovery.RECOVERY_ENDPOINT, RecoveryPhase.FELL_BACK, why))
    silent.begin(ctx, old, now, ctx.settings.failover.silent_patience)
    ctx.flush(old)


def on_timer(ctx: Context, old: Tunnel, now: Instant) -> None:
    """The old tunnel's own deadlines: the end of the time allowed, or the next try."""
    own = old.own_recovery
    if own is None or own.phase is RePhase.CONFIRMED:
        return
    if now >= own.give_up_at:
        if old.pending_recovery_id and not old.postponed:  # the peer is back and recovers it, too (T-42)
            old.postponed = True
            own.give_up_at = now + ctx.settings.failover.setup_timeout
        else:
            give_up(ctx, old, "out of time")
    elif own.retry_at is not None and now >= own.retry_at:
        _open(ctx, old, own, now)


def give_up(ctx: Context, old: Tunnel, text: str) -> None:
    """F-33: the recovery has failed. Clear the old tunnel and its sessions without a word on it."""
    own = old.own_recovery
    rt = ctx.tunnels.get(own.recovery_tunnel_id) if own is not None else None
    if rt is not None:
        closing.vanish(ctx, rt, Cause.RECOVERY_FAILED, text)
    ctx.count(Counter.RECOVERIES_FAILED)
    ctx.emit(Recovery(old.local_id, old.peer.name, recovery.RECOVERY_ENDPOINT, RecoveryPhase.FAILED, text))
    closing.vanish(ctx, old, Cause.RECOVERY_FAILED, text)


def contest(ctx: Context, old: Tunnel, theirs: bytes | None, now: Instant) -> bool:
    """Both ends recover the same tunnel (F-23…F-25, App. B). True: their recovery tunnel is to be answered.

    Lower wins; a side that sent a tie breaker beats one that did not (T-14); equal values are drawn again.
    """
    own = old.own_recovery
    rt = ctx.tunnels.get(own.recovery_tunnel_id) if own is not None else None
    if own is None or own.phase is not RePhase.WAIT_REPLY or rt is None:
        return True
    if theirs is not None and theirs == own.tie:
        closing.vanish(ctx, rt, Cause.LOST_TIE, "equal tie breakers")
        jitter = int.from_bytes(ctx.random(1), "big") * MILLISECOND
        retry(ctx, old, own, now + 50 * MILLISECOND + jitter)
        return False
    if theirs is None or own.tie < theirs:
        rt.channel.retransmit()
        ctx.flush(rt)
        return False
    if own.trust_tie:
        closing.vanish(ctx, rt, Cause.LOST_TIE, "tie breaker")
        own.recovery_tunnel_id = 0
        own.phase = RePhase.QUEUED
        own.yielded = True
    return True


def winner_failed(ctx: Context, old: Tunnel, now: Instant) -> None:
    """The recovery tunnel that had won the tie never authenticated: go on with our own, and mistrust ties."""
    own = old.own_recovery
    if own is not None and own.yielded:
        own.trust_tie = False
        retry(ctx, old, own, now)


def superseded(ctx: Context, old: Tunnel) -> None:
    """The peer's recovery tunnel authenticated and reset the old tunnel: ours is pointless now (F-25, T-17)."""
    own = old.own_recovery
    if own is None:
        return
    old.own_recovery = None
    ctx.recovering.discard(old.local_id)
    rt = ctx.tunnels.get(own.recovery_tunnel_id)
    if rt is not None:
        closing.vanish(ctx, rt, Cause.LOST_TIE, "the peer's recovery tunnel was first")
