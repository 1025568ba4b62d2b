"""Silent resynchronisation of a tunnel: `resync` joined to the tunnel, its channel and its timers.

Invariant: until its send side is proved a tunnel is silent but for the probes and one HELLO; sessions are neither
purged nor asked about, since the peer knows of no failure. What it sent while we were away comes by its
retransmission and is obeyed.
"""

from holdfast.core import seq
from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.core.counters import Counter
from holdfast.core.errors import Malformed
from holdfast.protocol import calls, closing, orphans, pace, resync
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Cause, Recovery, RecoveryPhase
from holdfast.protocol.tunnel import Tunnel
from holdfast.wire.codes import Msg
from holdfast.wire.dictionary import ASSIGNED_SESSION_ID, ASSIGNED_TUNNEL_ID
from holdfast.wire.messages import decode, encode

ROLE = "silent"

SCCCN = 1
"""The number that an SCCCN has."""

KEPT = 64
"""Messages that are kept until their turn comes while our Nr lags behind: a window begins where the peer's does."""

LAST_REPEAT: Duration = 64 * SECOND
"""No peer that was measured repeats a message for longer (l2tpns keeps it for 63 s)."""

NOTHING_LEFT = "the peer may have ended it while we were away, and no session has shown the contrary"

PACE = 0
"""Whose deadline the next turn is: no tunnel has this id."""


def begin(ctx: Context, old: Tunnel, now: Instant, patience: Duration = resync.PATIENCE) -> None:
    """A tunnel has just been loaded from its record, or RFC 4951 did not work out: probe when its turn comes.

    `patience` counts from there. If the peer speaks earlier, that will do.
    """
    channel = old.channel
    old.resync = resync.begin(channel.acked, channel.nr, now, patience, ctx.gone_at)
    old.hello_at = None
    old.heeds_until = now + patience + LAST_REPEAT
    channel.held = True
    channel.keeps = KEPT
    _enqueue(ctx, old, patience)
    ctx.count(Counter.RECOVERIES_STARTED)
    ctx.emit(Recovery(old.local_id, old.peer.name, ROLE, RecoveryPhase.STARTED))


def _enqueue(ctx: Context, old: Tunnel, patience: Duration) -> None:
    """A probe shall be sent; 0 leaves the patience as it is."""
    ctx.silent_queue.append((old.local_id, patience))
    ctx.deadlines.set(PACE, ctx.silent_turn_at)


def probe_queued(ctx: Context, now: Instant) -> None:
    """Send as many probes, first ones and repeated ones, as one tick allows."""
    if not ctx.silent_queue or now < ctx.silent_turn_at:
        return
    sent = 0
    while ctx.silent_queue and sent < pace.PROBES_PER_TICK:
        local_id, patience = ctx.silent_queue.popleft()
        old = ctx.tunnels.get(local_id)
        state = old.resync if old is not None else None
        if old is None or state is None or state.phase is not resync.Phase.PROBING:
            continue
        if patience:
            resync.be_patient(state, now, patience)
        sent += 1
        old.channel.out.append(resync.probe(state, old.peer_id, now))
        ctx.flush(old)
    ctx.silent_turn_at = now + pace.TICK
    if ctx.silent_queue:
        ctx.deadlines.set(PACE, ctx.silent_turn_at)


def unproved(tunnel: Tunnel) -> bool:
    """Whether the peer's next expected number is not known yet."""
    return tunnel.resync is not None and tunnel.resync.phase is not resync.Phase.SETTLING


def hopeless(old: Tunnel, now: Instant) -> bool:
    """Whether no probe has been answered in the time that the peer may be given."""
    state = old.resync
    return state is not None and state.phase is resync.Phase.PROBING and now >= state.give_up_at


def on_timer(ctx: Context, old: Tunnel, now: Instant) -> bool:
    """Probe again, give up, or settle: True when the channel has taken its proved Nr and may hold early messages."""
    state = old.resync
    if state is None:
        return False
    if state.phase is resync.Phase.PROBING:
        if hopeless(old, now):
            ctx.count(Counter.RECOVERIES_FAILED)
            ctx.emit(
                Recovery(old.local_id, old.peer.name, ROLE, RecoveryPhase.FAILED, "no answer to any probe")
            )
            closing.vanish(ctx, old, Cause.RECOVERY_FAILED, "the peer does not answer")
        elif state.probe_at is not None and now >= state.probe_at:
            state.probe_at = None
            _enqueue(ctx, old, 0)
        return False
    if state.in_step or state.settle_at is None or now < state.settle_at:
        return False
    channel = old.channel
    early = channel.lowest_early()
    window = ctx.settings.channel.receive_window
    proved = resync.settle(state, channel.nr, early, window, now)
    old.unseen = old.unseen or proved != channel.nr
    channel.settle(proved, now)
    if state.in_step and early is None and state.lowest is None:  # the last that is missing may be a StopCCN
        channel.acknowledge_end(0)
        channel.send(0, encode(Msg.HELLO), now)
    _finish(ctx, old)
    return True


def end_if_empty(ctx: Context, tunnel: Tunnel, now: Instant, *, unanswered: bool = False) -> None:
    """End a tunnel that the peer may have ended long ago, once no session has shown that it has not.

    Such a peer may go on acknowledging whatever it is sent (xl2tpd), so that no HELLO finds out. `unanswered`: a call has
    just been given up that the peer never spoke of, so that those which still wait for it count for nothing.
    """
    if tunnel.unseen and (not tunnel.sessions or (unanswered and not _has_calls(tunnel))):
        tunnel.unseen = False
        closing.stop(ctx, tunnel, Cause.RECOVERY_FAILED, now, text=NOTHING_LEFT)


def hear(ctx: Context, old: Tunnel, ns: int, nr: int, body: bytes, now: Instant) -> bool:
    """A message on a tunnel that is being resynchronised, before its channel sees it. False: it is to be dropped.

    Once something credible was heard, a message whose Nr proves nothing is the channel's to judge: it may be a peer's
    own probe.
    """
    state = old.resync
    assert state is not None
    verdict = resync.hear(state, ns, nr, old.channel.nr, is_zlb=not body, now=now)
    if verdict is resync.Verdict.TRY and _half_open(old, nr):
        old.channel.resume(nr)
        ctx.count(Counter.RECOVERIES_FAILED)
        text = "our SCCCN never left"
        ctx.emit(Recovery(old.local_id, old.peer.name, ROLE, RecoveryPhase.FAILED, text))
        closing.stop(ctx, old, Cause.NOT_RECOVERABLE, now, text=text)
    elif verdict is resync.Verdict.TRY:
        if old.orphans is None:
            orphans.look_out(old)
        old.channel.try_out(nr, encode(Msg.HELLO), now)
    elif verdict is resync.Verdict.PROVED:
        old.channel.held = False
        old.hello_at = ctx.next_hello(now)
        ctx.count(Counter.RECOVERIES_DONE)
        ctx.emit(Recovery(old.local_id, old.peer.name, ROLE, RecoveryPhase.CONFIRMED))
        if old.stop_wanted is not None:
            closing.stop(ctx, old, now=now, **old.stop_wanted._asdict())
        else:
            calls.request_waiting(ctx, old, now)
    elif state.phase is resync.Phase.PROBING:
        ctx.count(Counter.RX_BAD_NR)
        return False
    if _finish(ctx, old) and not body and not _has_calls(old):
        old.channel.acknowledge_end(
            0
        )  # a StopCCN may have been noted before the restart and not acknowledged
    return True


def still_ends(old: Tunnel, session_id: int, ns: int, body: bytes) -> bool:
    """Whether a message whose number has been acknowledged ends something that is here: a CDN or StopCCN which came
    for the first time after it had to be acknowledged unseen. It has to name what it ends by both ids.
    """
    if seq.distance(ns, old.channel.nr) > KEPT:
        return False
    try:
        msg = decode(body, old.secret)
    except Malformed:
        return False
    if msg.type == Msg.STOPCCN:
        return msg.get(ASSIGNED_TUNNEL_ID) == old.peer_id
    session = old.sessions.get(session_id) if msg.type == Msg.CDN else None
    return session is not None and msg.get(ASSIGNED_SESSION_ID) == session.peer_id


def _half_open(old: Tunnel, nr: int) -> bool:
    """Whether the peer still waits for our SCCCN: that is sent after the tunnel is recorded, and cannot be made anew."""
    return old.initiator and nr == SCCCN and not old.by_peer


def _has_calls(tunnel: Tunnel) -> bool:
    return any(session.established for session in tunnel.sessions.values())


def _finish(ctx: Context, old: Tunnel) -> bool:
    """Whether both sides are proved: ours by the HELLO, our Nr by the peer's ZLB, by its next message, or by time."""
    state = old.resync
    if state is None or not state.in_step or state.phase is not resync.Phase.SETTLING:
        return False
    old.resync = None
    old.channel.keeps = ctx.settings.channel.receive_window
    ctx.emit(Recovery(old.local_id, old.peer.name, ROLE, RecoveryPhase.SYNCHRONISED))
    return True
