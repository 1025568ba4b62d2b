"""Messages with tunnel id 0: who may have a tunnel, and what the others get.

Invariant: nothing is kept for a peer that is refused, and what it costs is bounded (limits per peer, half-open tunnels).
"""

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.core.errors import Malformed
from holdfast.core.ids import IdsExhausted
from holdfast.protocol import handshake, reception, remote_endpoint
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Address, Send
from holdfast.protocol.settings import PeerSettings
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import Side
from holdfast.wire.codes import General, Msg, PeerError, StopCcn
from holdfast.wire.dictionary import ASSIGNED_TUNNEL_ID, HOST_NAME, RESULT_CODE, TUNNEL_RECOVERY, ResultCode
from holdfast.wire.header import control_header
from holdfast.wire.messages import Message, decode, encode


def receive(
    ctx: Context, session_id: int, ns: int, nr: int, body: bytes, source: Address, now: Instant
) -> None:
    """A message with tunnel id 0: an SCCRQ, or a StopCCN from a peer that does not know our id yet (V2-86)."""
    try:
        msg = decode(body)
    except Malformed:
        ctx.count(Counter.RX_MALFORMED)
        return
    peer_id = msg.get(ASSIGNED_TUNNEL_ID)
    if not peer_id:
        ctx.count(Counter.RX_MALFORMED)
        return
    known = ctx.tunnels.get(ctx.by_sccrq.get((source, peer_id), 0))
    if known is not None:
        reception.receive(ctx, known, session_id, ns, nr, body, source, now)
    elif msg.type != Msg.SCCRQ or ns != 0:
        ctx.count(Counter.RX_UNKNOWN_TUNNEL)
    else:
        try:
            _on_sccrq(ctx, msg, peer_id, source, now)
        except PeerError as e:
            ctx.count(Counter.TUNNELS_REFUSED)
            _refuse(ctx, peer_id, e, source)


def _on_sccrq(ctx: Context, msg: Message, peer_id: int, source: Address, now: Instant) -> None:
    """Cheap checks first, then a half-open tunnel. Raises PeerError.

    The limits are per peer, and do not hold back who names a tunnel that is up with both its ids: a flood must
    not cost that tunnel its recovery, and there is one attempt at a time for each (F-S6).
    """
    settings = ctx.settings
    peer = ctx.find_peer(source[0], msg.get(HOST_NAME) or "")
    recovers = remote_endpoint.claimed(ctx, source, msg) is not None
    if not recovers and not ctx.admits_sccrq(peer.name if peer is not None else "", now):
        ctx.count(Counter.SCCRQ_RATE_LIMITED)
        return
    if peer is None:
        ctx.count(Counter.AUTH_FAILED)
        raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "no such peer is configured")
    if msg.fault is not None:
        raise PeerError(StopCcn.GENERAL_ERROR, msg.fault.error, msg.fault.text)
    handshake.check_version(msg)
    if not recovers and len(ctx.half_open) >= settings.max_half_open:
        ctx.count(Counter.SCCRQ_RATE_LIMITED)
        return
    handshake.check_reflection(ctx, msg)
    try:
        if msg.get(TUNNEL_RECOVERY) is not None:
            tunnel = remote_endpoint.on_sccrq(ctx, source, peer, msg, now)
        else:
            tunnel = _accept_tunnel(ctx, peer, msg, source, now)
    except IdsExhausted:
        raise PeerError(StopCcn.GENERAL_ERROR, General.NO_RESOURCES, "no tunnel ids left") from None
    if tunnel is not None:
        ctx.by_sccrq[(source, peer_id)] = tunnel.local_id
        ctx.flush(tunnel)


def _accept_tunnel(
    ctx: Context, peer: PeerSettings, msg: Message, source: Address, now: Instant
) -> Tunnel | None:
    """An ordinary SCCRQ: answer it, unless we are full, cannot record it, or win the tie."""
    settings = ctx.settings
    if not settings.accept_tunnels:
        raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "tunnels are not accepted here")
    if not ctx.admitting:
        ctx.count(Counter.JOURNAL_REFUSED)
        raise PeerError(StopCcn.GENERAL_ERROR, General.NO_RESOURCES, "state cannot be recorded")
    if len(ctx.tunnels) - ctx.recovery_tunnels >= settings.max_tunnels:
        raise PeerError(StopCcn.GENERAL_ERROR, General.NO_RESOURCES, "too many tunnels")
    if not handshake.lose_or_win_tie(ctx, source, msg):
        return None
    tunnel = ctx.new_tunnel(peer, source, initiator=False, side=Side.LNS, now=now)
    tunnel.channel.nr = 1
    tunnel.peer_failover = handshake.peer_capability(msg)
    try:
        handshake.accept(ctx, tunnel, msg, now)
    except PeerError:
        ctx.remove(tunnel)
        raise
    return tunnel


def _refuse(ctx: Context, peer_id: int, e: PeerError, source: Address) -> None:
    """Answer an SCCRQ with a StopCCN that keeps no state: a repeated SCCRQ draws another (V2-186)."""
    code = RESULT_CODE(ResultCode(int(e.code), int(e.error), e.text))
    body = encode(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(ctx.tunnel_ids.peek()), code)
    ctx.count(Counter.TX_CONTROL)
    ctx.emit(Send(0, control_header(peer_id, 0, 0, 1, len(body)) + body, source))
