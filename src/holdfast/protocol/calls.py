"""Incoming calls in both roles (RFC 2661 6.6–6.8, 6.12, 7.4): ICRQ, ICRP, ICCN, CDN.

Invariant: no session is placed or accepted on a tunnel whose recovery has not cleared the half-made ones (F-48).
"""

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.core.errors import LocalError
from holdfast.core.ids import IdsExhausted
from holdfast.protocol import orphans
from holdfast.protocol.closing import disconnect, drop_session, send_cdn
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Called, Cause, SessionUp
from holdfast.protocol.session import NO_CALL, Call, Session, SessionInput, SessionState
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import Side
from holdfast.wire.codes import Cdn, General, PeerError
from holdfast.wire.dictionary import (
    ASSIGNED_SESSION_ID,
    CALL_SERIAL_NUMBER,
    CALLED_NUMBER,
    CALLING_NUMBER,
    FRAMING_TYPE,
    RESULT_CODE,
    RX_CONNECT_SPEED,
    SEQUENCING_REQUIRED,
    TX_CONNECT_SPEED,
    ResultCode,
)
from holdfast.wire.messages import Message, Msg, encode

FRAMING_SYNC = 1


class TunnelNotOpen(LocalError):
    """A call cannot be placed: the tunnel does not exist or is ending."""


def place(ctx: Context, tunnel: Tunnel, call: Call, now: Instant) -> int:
    """Place a call as LAC: ICRQ now, or as soon as the tunnel is open or recovered. Returns the local session id.

    Raises IdsExhausted, TunnelNotOpen.
    """
    if tunnel.is_recovery or tunnel.state > tunnel.state.ESTABLISHED:
        raise TunnelNotOpen(f"tunnel {tunnel.local_id} is {tunnel.state.name.lower()}")
    ctx.call_serial = (ctx.call_serial + 1) & 0xFFFFFFFF
    session = Session(_fresh_id(ctx, tunnel), Side.LAC, SessionState.WAIT_TUNNEL, ctx.call_serial or 1, call)
    tunnel.sessions[session.local_id] = session
    if tunnel.established and not tunnel.recovering:
        request(ctx, tunnel, session, now)
    return session.local_id


def _fresh_id(ctx: Context, tunnel: Tunnel) -> int:
    """An id for a new session: none that a call had which the peer may have kept through our restart."""
    return tunnel.ids.allocate(lambda i: ctx.calls_before(tunnel.local_id, i, tunnel.peer_id) != 0)


def request_waiting(ctx: Context, tunnel: Tunnel, now: Instant) -> None:
    """The tunnel is open (or recovered): send the ICRQs that waited for it."""
    for session in list(tunnel.sessions.values()):
        if session.state is SessionState.WAIT_TUNNEL:
            request(ctx, tunnel, session, now)


def request(ctx: Context, tunnel: Tunnel, session: Session, now: Instant) -> None:
    """Send the ICRQ of a session that waited."""
    session.step(SessionInput.TUNNEL_OPEN)
    avps = [ASSIGNED_SESSION_ID(session.local_id), CALL_SERIAL_NUMBER(session.call_serial)]
    if session.call.called_number:
        avps.append(CALLED_NUMBER(session.call.called_number))
    if session.call.calling_number:
        avps.append(CALLING_NUMBER(session.call.calling_number))
    tunnel.pending.append((now + ctx.settings.setup_timeout, session))
    tunnel.channel.send(0, encode(Msg.ICRQ, *avps), now)


def on_icrq(ctx: Context, tunnel: Tunnel, session_id: int, msg: Message, now: Instant) -> None:
    """LNS: a call is offered. Raises PeerError, answered with a CDN."""
    peer_id = msg.need(ASSIGNED_SESSION_ID)
    if session_id in tunnel.sessions:
        raise PeerError(Cdn.GENERAL_ERROR, General.INVALID_SESSION, "ICRQ within a session")
    known = tunnel.by_peer.get(peer_id)
    if known is not None:
        _already_established(ctx, tunnel, tunnel.sessions[known], now)
        return
    if not ctx.settings.accept_tunnels or tunnel.side is not Side.LNS:
        raise PeerError(Cdn.NO_FACILITIES_PERMANENT, General.NONE, "incoming calls are not served here")
    if not ctx.admitting:
        ctx.count(Counter.JOURNAL_REFUSED)
        raise PeerError(Cdn.NO_FACILITIES_TEMPORARY, General.NONE, "state cannot be recorded")
    if len(tunnel.sessions) >= ctx.settings.max_sessions_per_tunnel:
        raise PeerError(Cdn.NO_FACILITIES_TEMPORARY, General.NONE, "too many sessions in this tunnel")
    calling, called = msg.get(CALLING_NUMBER), msg.get(CALLED_NUMBER)
    call = Call(calling or "", called or "") if calling or called else NO_CALL
    try:
        local_id = _fresh_id(ctx, tunnel)
    except IdsExhausted:
        raise PeerError(Cdn.NO_FACILITIES_TEMPORARY, General.NONE, "no session ids left") from None
    session = Session(local_id, Side.LNS, SessionState.WAIT_CONNECT, msg.need(CALL_SERIAL_NUMBER), call)
    session.peer_id = peer_id
    tunnel.sessions[local_id] = session
    tunnel.pending.append((now + ctx.settings.setup_timeout, session))
    ctx.emit(Called(tunnel.local_id, local_id, tunnel.peer_id, peer_id))
    tunnel.channel.send(peer_id, encode(Msg.ICRP, ASSIGNED_SESSION_ID(local_id)), now)


def _already_established(ctx: Context, tunnel: Tunnel, session: Session, now: Instant) -> None:
    """F-69, T-35: the peer reuses the id of a session that is up here. It forgot that one: both must go."""
    if tunnel.sync is None:
        ctx.trace("peer.reused_session_id", "warning", tunnel=tunnel.local_id, session=session.local_id)
    disconnect(
        ctx,
        tunnel,
        session,
        Cause.STALE,
        now,
        Cdn.GENERAL_ERROR,
        General.INVALID_SESSION,
        "session id is in use",
    )


def on_icrp(ctx: Context, tunnel: Tunnel, session_id: int, msg: Message, now: Instant) -> None:
    """LAC: the call is accepted. An LNS that gets one has it refused (V2-110)."""
    session = _need(ctx, tunnel, session_id)
    if session is None:
        if tunnel.side is Side.LNS:
            raise PeerError(Cdn.GENERAL_ERROR, General.INVALID_SESSION, "ICRP without a call")
        _no_such_call(ctx, tunnel, session_id, msg.get(ASSIGNED_SESSION_ID) or 0, now)
        return
    peer_id = msg.need(ASSIGNED_SESSION_ID)
    session.step(SessionInput.ICRP)
    session.peer_id = peer_id
    ctx.emit(Called(tunnel.local_id, session_id, tunnel.peer_id, peer_id))
    session.framing_type = FRAMING_SYNC
    body = encode(Msg.ICCN, TX_CONNECT_SPEED(session.call.tx_speed), FRAMING_TYPE(FRAMING_SYNC))
    tunnel.channel.send(peer_id, body, now)
    tunnel.leaving.append((tunnel.channel.queued, session))
    session.established_utc_us = ctx.utc_us()
    tunnel.by_peer[peer_id] = session.local_id
    iccn_left(ctx, tunnel)


def _no_such_call(ctx: Context, tunnel: Tunnel, session_id: int, peer_id: int, now: Instant) -> None:
    """An ICRP for a call that was lost in a restart, or that has ended meanwhile: the peer shall not keep it.

    A CDN of before could not name the peer's session in its header, and l2tpns goes by that alone. An ICRP comes once,
    and only for an ICRQ of ours: what `orphans` leaves for later would not come again. An id that is a live session's
    ends nothing, as the CDN would end that one.
    """
    if orphans.named(ctx, tunnel, session_id, now, peer_id) or not peer_id or peer_id in tunnel.by_peer:
        return
    ours = tunnel.orphans is not None or tunnel.ids.freed_recently(session_id)
    if tunnel.established and ours:
        send_cdn(
            tunnel,
            peer_id,
            session_id,
            now,
            Cdn.GENERAL_ERROR,
            General.INVALID_SESSION,
            "no such call",
        )


def iccn_left(ctx: Context, tunnel: Tunnel) -> None:
    """PPP of a LAC's session begins once its ICCN is on the wire: an LNS drops frames that come before it."""
    leaving = tunnel.leaving
    if leaving and leaving[0][0] <= tunnel.channel.sent:
        ctx.flush(tunnel)
        while leaving and leaving[0][0] <= tunnel.channel.sent:
            _, session = leaving.popleft()
            if tunnel.sessions.get(session.local_id) is session:
                _announce(ctx, tunnel, session)


def on_iccn(ctx: Context, tunnel: Tunnel, session_id: int, msg: Message, now: Instant) -> None:
    """LNS: the call is connected."""
    session = _need(ctx, tunnel, session_id)
    if session is None:
        orphans.named(ctx, tunnel, session_id, now)
        return
    if session.state is SessionState.WAIT_REPLY:
        drop_session(ctx, tunnel, session, Cause.PEER_FAULT, text="ICCN in answer to an ICRQ")
        return
    if msg.get(SEQUENCING_REQUIRED) is not None:
        raise PeerError(Cdn.NO_FACILITIES_PERMANENT, General.NONE, "data sequencing is not available")
    session.step(SessionInput.ICCN)
    session.framing_type = msg.need(FRAMING_TYPE)
    tx_speed, rx_speed = msg.need(TX_CONNECT_SPEED), msg.get(RX_CONNECT_SPEED) or 0
    if session.call is not NO_CALL:
        session.call.tx_speed, session.call.rx_speed = tx_speed, rx_speed
    session.established_utc_us = ctx.utc_us()
    tunnel.by_peer[session.peer_id] = session.local_id
    _announce(ctx, tunnel, session)


def _announce(ctx: Context, tunnel: Tunnel, session: Session) -> None:
    ctx.count(Counter.SESSIONS_OPENED)
    ctx.emit(SessionUp(tunnel.local_id, session.local_id))


def on_cdn(ctx: Context, tunnel: Tunnel, session_id: int, msg: Message, _: Instant) -> None:
    """The peer ends a session: clean up, answer nothing but the transport's acknowledgement (V2-141)."""
    peer_id = msg.get(ASSIGNED_SESSION_ID)
    tunnel.channel.acknowledge_end(peer_id or 0)
    session = tunnel.sessions.get(session_id)
    if session is None:
        session = None if session_id else _called(tunnel, peer_id)
    elif peer_id and session.peer_id not in (0, peer_id):
        session = None  # it means an earlier session whose id this one has inherited (T-10)
    if session is None:
        ctx.count(Counter.RX_UNKNOWN_SESSION)
        return
    code = msg.get(RESULT_CODE) or ResultCode(int(Cdn.GENERAL_ERROR), 0, "")
    drop_session(ctx, tunnel, session, Cause.PEER, code.result, code.error or 0, code.text)


def _called(tunnel: Tunnel, peer_id: int | None) -> Session | None:
    """The session that the peer calls `peer_id`: a CDN may come before it knows our id (V2-141)."""
    for _, session in tunnel.pending:
        if session.peer_id == peer_id and session.local_id in tunnel.sessions:
            return session
    known = tunnel.by_peer.get(peer_id or 0)
    return tunnel.sessions[known] if known is not None else None


def _need(ctx: Context, tunnel: Tunnel, session_id: int) -> Session | None:
    session = tunnel.sessions.get(session_id)
    if session is None:
        ctx.count(Counter.RX_UNKNOWN_SESSION)
    return session


def refuse(ctx: Context, tunnel: Tunnel, session_id: int, msg: Message, e: PeerError, now: Instant) -> None:
    """Answer a session message that cannot be accepted with a CDN; the session it names, if any, ends (V2-22)."""
    assert isinstance(e.code, Cdn)
    session = tunnel.sessions.get(session_id)
    if session is not None:
        disconnect(ctx, tunnel, session, Cause.PEER_FAULT, now, e.code, e.error, e.text)
        return
    if msg.type == Msg.CDN:
        return
    ctx.count(Counter.SESSIONS_REFUSED)
    peer_id = msg.get(ASSIGNED_SESSION_ID) or 0
    if peer_id and tunnel.by_peer.get(peer_id) is None:
        send_cdn(tunnel, peer_id, tunnel.ids.peek(), now, e.code, e.error, e.text)


def expire(ctx: Context, tunnel: Tunnel, now: Instant) -> bool:
    """End the set-ups that took too long (CDN 10, not established in time); True if there was one."""
    pending = tunnel.pending
    expired = False
    while pending and (pending[0][0] <= now or pending[0][1].state >= SessionState.ESTABLISHED):
        _, session = pending.popleft()
        if session.state < SessionState.ESTABLISHED:
            disconnect(ctx, tunnel, session, Cause.TIMEOUT, now, Cdn.NOT_IN_TIME, General.NONE, "")
            expired = True
    return expired


def purge(ctx: Context, tunnel: Tunnel) -> None:
    """RFC 4951 3.3 step I: clear silently what is not established (F-58). Calls that were never sent stay."""
    for session in list(tunnel.sessions.values()):
        if not session.established and session.state is not SessionState.WAIT_TUNNEL:
            drop_session(ctx, tunnel, session, Cause.PURGED)
    tunnel.pending.clear()
    tunnel.leaving.clear()
