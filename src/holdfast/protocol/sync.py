"""Session state synchronisation (RFC 4951 3.3 step III, 4.1, 4.2): FSQ and FSR, both ways.

Invariants: a queried session is named in exactly one FSR entry (F-62); a session is cleared only on the answer 0 to
a question that is outstanding for that very session (T-33, T-34), and silently; nothing is cleared on a mismatch
alone (F-66).
"""

from collections.abc import Iterable
from itertools import islice

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.protocol.closing import drop_session
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Cause, Recovery, RecoveryPhase
from holdfast.protocol.session import Session
from holdfast.protocol.tunnel import Sync, Tunnel
from holdfast.wire.codes import Msg
from holdfast.wire.dictionary import FAILOVER_SESSION_STATE, SessionState
from holdfast.wire.messages import MAX_FSS, Message, encode


def start(ctx: Context, tunnel: Tunnel, role: str, now: Instant) -> None:
    """After a control channel reset: ask the peer about every established session (T-22), paced by the window."""
    outstanding = {s.local_id for s in tunnel.sessions.values() if s.established}
    tunnel.sync = Sync(role=role, outstanding=outstanding)
    if outstanding:
        tunnel.sync.guard_at = now + ctx.settings.failover.query_timeout
        query(tunnel, [tunnel.sessions[i] for i in outstanding], now)
    else:
        _synchronised(ctx, tunnel)


def query(tunnel: Tunnel, sessions: Iterable[Session], now: Instant) -> None:
    """Send FSQs that name these sessions, as many per message as fit one packet (T-36)."""
    rest = iter(sessions)
    while batch := list(islice(rest, MAX_FSS)):
        for session in batch:
            session.queries += 1
        entries = [FAILOVER_SESSION_STATE(SessionState(s.local_id, s.peer_id)) for s in batch]
        tunnel.channel.send(0, encode(Msg.FSQ, *entries), now)


def on_fsq(ctx: Context, tunnel: Tunnel, msg: Message, now: Instant) -> None:
    """Answer every entry (F-62…F-67); a session that is paired differently here is asked about in turn (F-66)."""
    answers: list[SessionState] = []
    stale: list[Session] = []
    for theirs in msg.all(FAILOVER_SESSION_STATE):
        session = tunnel.sessions.get(theirs.remote_session_id)
        if session is None or not session.established:
            answers.append(SessionState(0, theirs.session_id))
        elif session.peer_id == theirs.session_id:
            answers.append(SessionState(session.local_id, theirs.session_id))
        else:
            answers.append(SessionState(0, theirs.session_id))
            stale.append(session)
    for i in range(0, len(answers), MAX_FSS):
        body = encode(Msg.FSR, *(FAILOVER_SESSION_STATE(a) for a in answers[i : i + MAX_FSS]))
        tunnel.channel.send(0, body, now)
    fresh = [s for s in stale if not s.queries]
    if fresh:
        ctx.trace("session.mismatch", "warning", tunnel=tunnel.local_id, sessions=len(fresh))
        query(tunnel, fresh, now)


def on_fsr(ctx: Context, tunnel: Tunnel, msg: Message, now: Instant) -> None:
    """Take the answers: 0 clears the session silently, anything else confirms it (F-68)."""
    doubtful: list[Session] = []
    sync = tunnel.sync
    for theirs in msg.all(FAILOVER_SESSION_STATE):
        session = tunnel.sessions.get(theirs.remote_session_id)
        if session is None or not session.queries:
            continue
        session.queries -= 1
        if theirs.session_id == 0:
            ctx.count(Counter.STALE_CLEARED)
            if sync is not None:
                sync.stale += 1
            drop_session(ctx, tunnel, session, Cause.STALE)
            continue
        if theirs.session_id != session.peer_id:
            ctx.count(Counter.FSR_CONTRADICTS)
            if not session.requeried:
                session.requeried = True
                doubtful.append(session)
                continue
        if sync is not None:
            sync.outstanding.discard(session.local_id)
    if doubtful:
        query(tunnel, doubtful, now)
    if sync is not None:
        if sync.outstanding:
            sync.guard_at = now + ctx.settings.failover.query_timeout
            sync.tries = 1
        else:
            _synchronised(ctx, tunnel)


def guard(ctx: Context, tunnel: Tunnel, now: Instant) -> None:
    """T-30: no answer for a while. Ask again a few times, then keep the sessions and raise the alarm."""
    sync = tunnel.sync
    if sync is None or sync.guard_at is None or now < sync.guard_at:
        return
    if not sync.outstanding:
        _synchronised(ctx, tunnel)
        return
    failover = ctx.settings.failover
    sync.guard_at = now + failover.query_timeout
    if not tunnel.channel.idle:
        return
    unanswered = [tunnel.sessions[i] for i in sync.outstanding if i in tunnel.sessions]
    if sync.tries >= failover.query_tries:
        ctx.trace(
            "recovery.unanswered",
            "error",
            tunnel=tunnel.local_id,
            sessions=len(unanswered),
            queries=sync.tries,
        )
        _synchronised(ctx, tunnel, f"{len(unanswered)} sessions unanswered, kept")
        return
    sync.tries += 1
    for session in unanswered:
        session.queries = (
            0  # the peer has had that question; who restarted meanwhile does not answer it any more
        )
    query(tunnel, unanswered, now)


def _synchronised(ctx: Context, tunnel: Tunnel, text: str = "") -> None:
    sync = tunnel.sync
    assert sync is not None
    tunnel.sync = None
    ctx.emit(
        Recovery(tunnel.local_id, tunnel.peer.name, sync.role, RecoveryPhase.SYNCHRONISED, text, sync.stale)
    )
