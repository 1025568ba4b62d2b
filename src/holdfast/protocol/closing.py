"""How tunnels and sessions end: with a message (CDN, StopCCN), on the peer's word, or silently.

Invariants: a session's end is told once (`SessionDown`); a tunnel's after its sessions' (`TunnelDown`). A record is
given up in the same input. A closed tunnel keeps its id until every retransmission of either side is over (V2-84,
V2-85).
"""

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Cause, Persist, SessionDown, TunnelDown
from holdfast.protocol.session import Session, SessionInput
from holdfast.protocol.tunnel import Tunnel, TunnelInput, TunnelState
from holdfast.records.writes import ForgetTunnel
from holdfast.wire.codes import Cdn, General, StopCcn
from holdfast.wire.dictionary import ASSIGNED_SESSION_ID, ASSIGNED_TUNNEL_ID, RESULT_CODE, ResultCode
from holdfast.wire.messages import Msg, encode


def drop_session(
    ctx: Context,
    tunnel: Tunnel,
    session: Session,
    cause: Cause,
    result: Cdn | int = 0,
    error: General | int = 0,
    text: str = "",
) -> None:
    """Clear a session silently: no message, but every local duty follows from the SessionDown (T-43)."""
    if tunnel.sessions.get(session.local_id) is not session:
        return
    established = session.established
    session.step(SessionInput.CLOSE)
    del tunnel.sessions[session.local_id]
    if tunnel.by_peer.get(session.peer_id) == session.local_id:
        del tunnel.by_peer[session.peer_id]
    tunnel.ids.free(session.local_id)
    if tunnel.sync is not None:
        tunnel.sync.outstanding.discard(session.local_id)
    ctx.count(Counter.SESSIONS_CLOSED if established else Counter.SESSIONS_REFUSED)
    ctx.emit(SessionDown(tunnel.local_id, session.local_id, cause, result, error, text, established))


def disconnect(
    ctx: Context,
    tunnel: Tunnel,
    session: Session,
    cause: Cause,
    now: Instant,
    result: Cdn = Cdn.ADMINISTRATIVE,
    error: General = General.NONE,
    text: str = "",
) -> None:
    """End a session and tell the peer with a CDN.

    A call that we give up before its ICRP has come is ended when that comes, and names the peer's id: a CDN with 0 in
    its header (RFC 2661 4.4.4) finds no call at l2tpns, and xl2tpd ends its whole tunnel by it.
    """
    if tunnel.established and (session.peer_id or cause is not Cause.LOCAL):
        send_cdn(tunnel, session.peer_id, session.local_id, now, result, error, text)
    drop_session(ctx, tunnel, session, cause, result, error, text)


def send_cdn(
    tunnel: Tunnel,
    peer_session_id: int,
    local_session_id: int,
    now: Instant,
    result: Cdn,
    error: General,
    text: str,
) -> None:
    """Send a CDN. The header names the peer's session id, 0 while it is not known (the AVP then tells: V2-141)."""
    code = RESULT_CODE(ResultCode(int(result), int(error), text))
    body = encode(Msg.CDN, code, ASSIGNED_SESSION_ID(local_session_id))
    tunnel.channel.send(peer_session_id, body, now)


def end_sessions(ctx: Context, tunnel: Tunnel, cause: Cause, text: str) -> None:
    """Clear every session of a tunnel that is over."""
    for session in list(tunnel.sessions.values()):
        drop_session(ctx, tunnel, session, cause, text=text)
    tunnel.pending.clear()


def _over(
    ctx: Context, tunnel: Tunnel, cause: Cause, result: int, error: int, text: str, *, was_established: bool
) -> None:
    """What every end of a tunnel has in common, except what becomes of its id."""
    ctx.abandon(tunnel)
    ctx.recovering.discard(tunnel.local_id)
    tunnel.own_recovery = None
    tunnel.sync = None
    tunnel.resync = None
    tunnel.hello_at = tunnel.clear_at = None
    if tunnel.recorded:
        tunnel.recorded = False
        ctx.emit(Persist(tunnel.local_id, (ForgetTunnel(tunnel.local_id),)))
    end_sessions(ctx, tunnel, Cause.TUNNEL if cause is not Cause.FAULT else cause, text)
    if tunnel.is_recovery:
        return
    ctx.count(Counter.TUNNELS_CLOSED if was_established else Counter.TUNNELS_REFUSED)
    ctx.emit(
        TunnelDown(tunnel.local_id, tunnel.peer.name, cause, result, error, text, established=was_established)
    )


def stop(
    ctx: Context,
    tunnel: Tunnel,
    cause: Cause,
    now: Instant,
    result: StopCcn = StopCcn.CLEAR_REQUEST,
    error: General = General.NONE,
    text: str = "",
) -> None:
    """End a tunnel with a StopCCN, and keep delivering that until it is acknowledged or given up (V2-84)."""
    if tunnel.state in (TunnelState.CLOSING, TunnelState.CLOSED):
        return
    was_established = tunnel.established
    tunnel.step(TunnelInput.CLOSE)
    tunnel.close_result = int(result)
    channel = tunnel.channel
    channel.drop_waiting()
    channel.held = False
    code = RESULT_CODE(ResultCode(int(result), int(error), text))
    channel.send(0, encode(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(tunnel.local_id), code), now)
    tunnel.end_at = now + ctx.settings.linger
    _over(ctx, tunnel, cause, result, error, text, was_established=was_established)


def stopped_by_peer(ctx: Context, tunnel: Tunnel, result: ResultCode, now: Instant) -> None:
    """The peer said StopCCN: acknowledge, clear, and stay to re-acknowledge duplicates (V2-85).

    A StopCCN of our own that crosses it is still delivered: its result may matter to the peer (F-S4).
    """
    was_established = tunnel.established
    was_open = tunnel.state not in (TunnelState.CLOSING, TunnelState.CLOSED)
    tunnel.step(TunnelInput.STOPCCN)
    tunnel.end_at = now + ctx.settings.linger
    if was_open:
        tunnel.channel.silence()
        cause = Cause.PEER if was_established else Cause.REFUSED
        _over(
            ctx, tunnel, cause, result.result, result.error or 0, result.text, was_established=was_established
        )


def vanish(ctx: Context, tunnel: Tunnel, cause: Cause, text: str) -> None:
    """End a tunnel without a word (F-33, F-54) and free its id."""
    was_open = tunnel.state not in (TunnelState.CLOSING, TunnelState.CLOSED)
    if was_open:
        was_established = tunnel.established
        tunnel.step(TunnelInput.CLOSE)
        _over(ctx, tunnel, cause, 0, 0, text, was_established=was_established)
    ctx.remove(tunnel)
