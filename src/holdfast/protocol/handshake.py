"""Setting up control connections (RFC 2661 5.1, 6.1–6.3): SCCRQ, SCCRP, SCCCN, authentication, tie breaker.

Invariants: nothing is kept for an SCCRQ before the cheap checks; a peer is established only after its response to
our challenge verified; the record is written before the SCCCN is sent or acknowledged.
"""

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.protocol.calls import request_waiting
from holdfast.protocol.closing import vanish
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Address, Cause, Persist, TunnelUp
from holdfast.protocol.settings import PeerSettings
from holdfast.protocol.tunnel import Tunnel, TunnelInput, TunnelState
from holdfast.records import FailoverCapability, Side
from holdfast.records.writes import Save
from holdfast.wire.auth import challenge_response, verify
from holdfast.wire.avp import EncodedAvp
from holdfast.wire.codes import General, Msg, PeerError, StopCcn
from holdfast.wire.dictionary import (
    ASSIGNED_TUNNEL_ID,
    BEARER_CAPABILITIES,
    CHALLENGE,
    CHALLENGE_RESPONSE,
    FAILOVER_CAPABILITY,
    FIRMWARE_REVISION,
    FRAMING_CAPABILITIES,
    HOST_NAME,
    PROTOCOL_VERSION,
    RECEIVE_WINDOW_SIZE,
    TIE_BREAKER,
    VENDOR_NAME,
    FailoverCap,
)
from holdfast.wire.messages import Message, encode

VERSION_1_0 = 0x0100
FRAMING_BOTH = 3
BEARER_NONE = 0
CHALLENGE_LENGTH = 16


def base_avps(ctx: Context, tunnel: Tunnel) -> list[EncodedAvp]:
    """What an SCCRQ and an SCCRP have in common; a challenge whenever a secret is shared."""
    settings = ctx.settings
    avps = [
        PROTOCOL_VERSION(VERSION_1_0),
        FRAMING_CAPABILITIES(FRAMING_BOTH),
        BEARER_CAPABILITIES(BEARER_NONE),
        HOST_NAME(settings.host_name),
        VENDOR_NAME(settings.vendor_name),
        ASSIGNED_TUNNEL_ID(tunnel.local_id),
        RECEIVE_WINDOW_SIZE(settings.channel.receive_window),
    ]
    if tunnel.secret:
        ctx.challenge(tunnel, ctx.random(CHALLENGE_LENGTH))
        avps.append(CHALLENGE(tunnel.challenge))
    return avps


def _capability(ctx: Context, tunnel: Tunnel) -> FailoverCapability | None:
    """What we advertise in AVP 76: C=1, D=0 until data sequencing exists; nothing to a peer without a secret."""
    failover = ctx.settings.failover
    if not failover.advertise or (failover.require_secret and not tunnel.secret):
        return None
    return FailoverCapability(control=True, data=False, recovery_time_ms=failover.recovery_time_ms)


def _encoded(capability: FailoverCapability) -> EncodedAvp:
    return FAILOVER_CAPABILITY(FailoverCap(capability.control, capability.data, capability.recovery_time_ms))


def open_tunnel(ctx: Context, peer: PeerSettings, address: Address, now: Instant) -> Tunnel:
    """Send an SCCRQ as LAC. Raises IdsExhausted."""
    tunnel = ctx.new_tunnel(peer, address, initiator=True, side=Side.LAC, now=now)
    avps = base_avps(ctx, tunnel)
    tunnel.local_failover = _capability(ctx, tunnel)
    if tunnel.local_failover is not None:
        avps.append(_encoded(tunnel.local_failover))
    tunnel.channel.send(0, encode(Msg.SCCRQ, *avps), now)
    return tunnel


def accept(
    ctx: Context, tunnel: Tunnel, msg: Message, now: Instant, *extra: EncodedAvp, mutual: bool = True
) -> None:
    """Answer an SCCRQ with an SCCRP. Raises PeerError if the peer challenges us and no secret is shared."""
    avps = base_avps(ctx, tunnel)
    challenge = msg.get(CHALLENGE)
    if challenge is not None:
        if not tunnel.secret:
            raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "no secret is shared with this peer")
        avps.append(CHALLENGE_RESPONSE(challenge_response(Msg.SCCRP, tunnel.secret, challenge)))
    if mutual and tunnel.peer_failover is not None:
        tunnel.local_failover = _capability(ctx, tunnel)
        if tunnel.local_failover is not None:
            avps.append(_encoded(tunnel.local_failover))
    learn(tunnel, msg)
    tunnel.channel.send(0, encode(Msg.SCCRP, *avps, *extra), now)


def learn(tunnel: Tunnel, msg: Message) -> None:
    """Take over what an SCCRQ or SCCRP says of the peer. Raises PeerError for impossible values."""
    window = msg.get(RECEIVE_WINDOW_SIZE)
    if window == 0:
        raise PeerError(StopCcn.GENERAL_ERROR, General.BAD_VALUE, "Receive Window Size is 0")
    tunnel.peer_id = tunnel.channel.peer_tunnel_id = msg.need(ASSIGNED_TUNNEL_ID)
    tunnel.peer_host_name = msg.need(HOST_NAME)
    tunnel.peer_vendor = msg.get(VENDOR_NAME) or ""
    tunnel.peer_firmware = msg.get(FIRMWARE_REVISION)
    tunnel.peer_framing = msg.get(FRAMING_CAPABILITIES) or 0
    tunnel.peer_bearer = msg.get(BEARER_CAPABILITIES) or 0
    if window is not None:
        tunnel.channel.set_peer_window(window)


def peer_capability(msg: Message) -> FailoverCapability | None:
    """The peer's AVP 76; a Recovery Time without C=1 means nothing (F-9), C=0 D=0 is as good as none."""
    cap = msg.get(FAILOVER_CAPABILITY)
    if cap is None or not (cap.control or cap.data):
        return None
    return FailoverCapability(cap.control, cap.data, cap.recovery_time_ms if cap.control else 0)


def check_version(msg: Message) -> None:
    """V2-96: only L2TP 1.0 is spoken. Raises PeerError."""
    if msg.need(PROTOCOL_VERSION) >> 8 != VERSION_1_0 >> 8:
        raise PeerError(StopCcn.UNSUPPORTED_VERSION, General.NO_CONTROL_CONNECTION, "L2TP 1.0 only")


def check_reflection(ctx: Context, msg: Message) -> None:
    """V2-93: a challenge that we ourselves have outstanding comes back. Raises PeerError."""
    challenge = msg.get(CHALLENGE)
    if challenge is not None and challenge in ctx.challenges:
        raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "reflected challenge")


def answers(tunnel: Tunnel, msg: Message, kind: Msg) -> bool:
    """Whether the message proves that its sender knows the secret (or none is needed)."""
    if not tunnel.challenge:
        return True
    response = msg.get(CHALLENGE_RESPONSE)
    return response is not None and verify(kind, tunnel.secret, tunnel.challenge, response)


def own_response(tunnel: Tunnel, msg: Message) -> list[EncodedAvp]:
    """What the SCCCN carries: our answer to the challenge of an SCCRP. Raises PeerError."""
    challenge = msg.get(CHALLENGE)
    if challenge is None:
        return []
    if not tunnel.secret:
        raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "no secret is shared with this peer")
    if challenge == tunnel.challenge:
        raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "reflected challenge")
    return [CHALLENGE_RESPONSE(challenge_response(Msg.SCCCN, tunnel.secret, challenge))]


def on_sccrp(ctx: Context, tunnel: Tunnel, msg: Message, now: Instant) -> None:
    """The peer accepts our tunnel: verify, record, then say SCCCN. Raises PeerError."""
    if tunnel.state is not TunnelState.WAIT_REPLY:
        tunnel.step(TunnelInput.SCCRP)
    learn(tunnel, msg)
    check_version(msg)
    expected = tunnel.peer.host_name
    if expected and tunnel.peer_host_name != expected:
        raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "unexpected Host Name")
    if not answers(tunnel, msg, Msg.SCCRP):
        ctx.count(Counter.AUTH_FAILED)
        raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "Challenge Response is missing or wrong")
    response = own_response(tunnel, msg)
    tunnel.step(TunnelInput.SCCRP)
    tunnel.peer_failover = peer_capability(msg)
    established(ctx, tunnel, now)
    tunnel.channel.send(0, encode(Msg.SCCCN, *response), now)
    request_waiting(ctx, tunnel, now)
    ctx.flush(tunnel)  # whoever hears of the tunnel may place calls at once: they must not overtake the SCCCN
    ctx.emit(TunnelUp(tunnel.local_id))


def on_scccn(ctx: Context, tunnel: Tunnel, msg: Message, now: Instant) -> None:
    """The peer completes its tunnel: verify and record, then acknowledge. Raises PeerError."""
    if tunnel.state is not TunnelState.WAIT_CONNECT:
        tunnel.step(TunnelInput.SCCCN)
    if not answers(tunnel, msg, Msg.SCCCN):
        ctx.count(Counter.AUTH_FAILED)
        raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "Challenge Response is missing or wrong")
    tunnel.step(TunnelInput.SCCCN)
    established(ctx, tunnel, now)
    ctx.emit(TunnelUp(tunnel.local_id))


def established(ctx: Context, tunnel: Tunnel, now: Instant) -> None:
    """The three-way handshake is complete as far as we are concerned."""
    ctx.set_up(tunnel)
    tunnel.end_at = None
    tunnel.hello_at = ctx.next_hello(now)
    tunnel.established_utc_us = ctx.utc_us()
    tunnel.recorded = True
    save(ctx, tunnel)
    ctx.count(Counter.TUNNELS_OPENED)


def save(ctx: Context, tunnel: Tunnel) -> None:
    """Write the tunnel's record; what is said in this tunnel from here on waits for the commit."""
    s = ctx.settings
    record = tunnel.record(s.local_address, s.local_port, s.host_name)
    ctx.emit(Persist(tunnel.local_id, (Save(record),)))


def lose_or_win_tie(ctx: Context, source: Address, msg: Message) -> bool:
    """V2-94, V2-95, F-26: our own unanswered SCCRQs to this peer against its SCCRQ. False: its SCCRQ is discarded.

    Only ordinary tunnels take part. Ours that lose vanish in silence.
    """
    theirs = msg.get(TIE_BREAKER)
    ours = [
        t for t in map(ctx.tunnels.__getitem__, ctx.opening) if not t.is_recovery and t.peer_address == source
    ]
    contested = [t for t in ours if t.tie or theirs is not None]
    accepted = True
    for t in contested:
        if theirs is None or (t.tie and t.tie <= theirs):
            accepted = False
        if theirs is not None and (not t.tie or theirs <= t.tie):
            vanish(ctx, t, Cause.LOST_TIE, "tie breaker")
    return accepted
