"""A control message in its turn goes to its handler, and every error that it raises ends here.

Invariants: everything that a peer can do wrong becomes a counter or the answer that its error carries (`PeerError`);
an error of ours in a session's machine ends that session (CDN 2/6), in a tunnel's machine that tunnel (StopCCN 2/6).
"""

import traceback
from collections.abc import Callable, Mapping
from typing import Final

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.core.errors import Malformed
from holdfast.protocol import calls, closing, handshake, orphans, recovery_endpoint, remote_endpoint, sync
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Cause
from holdfast.protocol.tunnel import Tunnel, TunnelState
from holdfast.wire.codes import Cdn, General, Msg, PeerError, StopCcn
from holdfast.wire.dictionary import RESULT_CODE, ResultCode
from holdfast.wire.messages import Message, decode

SessionHandler = Callable[[Context, Tunnel, int, Message, Instant], None]
TunnelHandler = Callable[[Context, Tunnel, Message, Instant], None]

SESSION_MESSAGES: Final[Mapping[int, SessionHandler]] = {
    Msg.ICRQ: calls.on_icrq,
    Msg.ICRP: calls.on_icrp,
    Msg.ICCN: calls.on_iccn,
    Msg.CDN: calls.on_cdn,
}
"""Messages whose faults end a session (V2-22), and what handles them."""

TUNNEL_MESSAGES: Final[Mapping[int, TunnelHandler]] = {
    Msg.SCCRP: handshake.on_sccrp,
    Msg.SCCCN: handshake.on_scccn,
    Msg.FSQ: sync.on_fsq,
    Msg.FSR: sync.on_fsr,
    Msg.HELLO: lambda ctx, tunnel, msg, now: None,
}

RECOVERY_TUNNEL_MESSAGES: Final[Mapping[int, TunnelHandler]] = {
    Msg.SCCRP: recovery_endpoint.on_sccrp,
    Msg.SCCCN: remote_endpoint.on_scccn,
    Msg.HELLO: lambda ctx, tunnel, msg, now: None,
}
"""All that a recovery tunnel is for, besides StopCCN (F-19)."""

UNSERVED_CALLS: Final = frozenset((Msg.OCRQ, Msg.OCRP, Msg.OCCN))
IGNORED: Final = frozenset((Msg.WEN, Msg.SLI, Msg.CSUN, Msg.CSURQ))
"""Known messages that need no action here yet."""


def process(ctx: Context, tunnel: Tunnel, session_id: int, body: bytes, now: Instant) -> None:
    """One message in its turn. Every error of the peer is answered here; errors of ours end what they hit."""
    if tunnel.state is TunnelState.CLOSED or tunnel.local_id not in ctx.tunnels:
        return
    msg: Message | None = None
    try:
        msg = decode(body, tunnel.secret)
        if msg.ignored:
            ctx.count(Counter.RX_IGNORED_AVP, msg.ignored)
        handler = SESSION_MESSAGES.get(msg.type)
        if handler is not None and not tunnel.is_recovery:
            if not tunnel.established:
                ctx.count(Counter.RX_UNKNOWN_SESSION)
                return
            if msg.fault is not None:
                raise PeerError(Cdn.GENERAL_ERROR, msg.fault.error, msg.fault.text)
            tunnel.unseen = False
            handler(ctx, tunnel, session_id, msg, now)
        else:
            _tunnel_message(ctx, tunnel, msg, now)
            if msg.type in IGNORED:
                orphans.named(ctx, tunnel, session_id, now)
    except Malformed as e:
        ctx.count(Counter.RX_MALFORMED)
        closing.stop(ctx, tunnel, Cause.PEER_FAULT, now, StopCcn.GENERAL_ERROR, General.WRONG_LENGTH, str(e))
    except PeerError as e:
        if isinstance(e.code, Cdn) and msg is not None:
            calls.refuse(ctx, tunnel, session_id, msg, e, now)
        else:
            _stop_for(ctx, tunnel, e, now)
    except Exception as e:  # noqa: BLE001 - a fault of ours must cost no more than what it hit
        fault(ctx, tunnel, session_id if msg is not None and msg.type in SESSION_MESSAGES else 0, e, now)


def _tunnel_message(ctx: Context, tunnel: Tunnel, msg: Message, now: Instant) -> None:
    if msg.type == Msg.STOPCCN:
        code = msg.get(RESULT_CODE) or ResultCode(int(StopCcn.CLEAR_REQUEST), 0, "")
        if tunnel.recovers and tunnel.initiator:
            recovery_endpoint.on_stopccn(ctx, tunnel, code, now)
        elif tunnel.is_recovery:
            remote_endpoint.failed(ctx, tunnel, now)
        closing.stopped_by_peer(ctx, tunnel, code, now)
        return
    handlers = RECOVERY_TUNNEL_MESSAGES if tunnel.is_recovery else TUNNEL_MESSAGES
    handler = handlers.get(msg.type)
    if tunnel.state is TunnelState.CLOSING:
        return
    if handler is not None:
        if msg.fault is not None:
            raise PeerError(StopCcn.GENERAL_ERROR, msg.fault.error, msg.fault.text)
        handler(ctx, tunnel, msg, now)
    elif tunnel.is_recovery:
        ctx.count(Counter.RX_ON_RECOVERY_TUNNEL)
    elif msg.type == Msg.SCCRQ:
        raise PeerError(StopCcn.FSM_ERROR, General.NONE, f"SCCRQ in {tunnel.state.name}")
    elif msg.type in UNSERVED_CALLS or msg.type in IGNORED:
        ctx.count(Counter.RX_UNKNOWN_MESSAGE)
        ctx.trace("peer.unserved_message", "warning", tunnel=tunnel.local_id, message=Msg(msg.type).name)
    elif msg.mandatory:
        text = f"unknown message type {msg.type}"
        raise PeerError(StopCcn.GENERAL_ERROR, General.UNKNOWN_MANDATORY, text)
    else:
        ctx.count(Counter.RX_UNKNOWN_MESSAGE)


def _stop_for(ctx: Context, tunnel: Tunnel, e: PeerError, now: Instant) -> None:
    """End a tunnel for its peer's fault. A recovery tunnel's end is also news for the tunnel it was to recover."""
    code = e.code if isinstance(e.code, StopCcn) else StopCcn.GENERAL_ERROR
    closing.stop(ctx, tunnel, Cause.PEER_FAULT, now, code, e.error, e.text)
    if tunnel.is_recovery and not tunnel.initiator:
        remote_endpoint.failed(ctx, tunnel, now)
    elif tunnel.recovers:
        recovery_endpoint.on_stopccn(ctx, tunnel, ResultCode(int(code), int(e.error), e.text), now)


def fault(ctx: Context, tunnel: Tunnel, session_id: int, e: Exception, now: Instant) -> None:
    """An exception that is no peer's fault: end the session or the tunnel whose machine raised it."""
    ctx.count(Counter.MACHINE_FAULT)
    text = "internal error"
    details = "".join(traceback.format_exception(e))
    ctx.trace("machine.fault", "error", tunnel=tunnel.local_id, session=session_id, traceback=details)
    session = tunnel.sessions.get(session_id) if session_id else None
    if session is not None:
        closing.disconnect(
            ctx, tunnel, session, Cause.FAULT, now, Cdn.GENERAL_ERROR, General.VENDOR_ERROR, text
        )
    else:
        closing.stop(ctx, tunnel, Cause.FAULT, now, StopCcn.GENERAL_ERROR, General.VENDOR_ERROR, text)


def process_early(ctx: Context, tunnel: Tunnel, now: Instant) -> None:
    """Messages that had come too early and whose turn it is now."""
    while (early := tunnel.channel.next_early()) is not None:
        process(ctx, tunnel, early[0], early[1], now)
