"""One control connection of the load generator, as its initiator, over `holdfast.wire`.

Invariant: a tunnel is OPEN from the moment its SCCCN is sent; a CLOSED one sends acknowledgements only. The
calls of a tunnel are found by local session id; ids are handed out in a circle, so that none is used again
soon (V2-97 asks for unpredictable ones: a load generator has no one to fear).
"""

from collections.abc import Callable
from enum import Enum

from holdfast.core.clock import Instant
from holdfast.core.errors import HoldfastError
from holdfast.lab.blast.call import Call, Failure
from holdfast.lab.blast.channel import Channel
from holdfast.wire import dictionary as avps
from holdfast.wire.auth import challenge_response, verify
from holdfast.wire.codes import Cdn, StopCcn
from holdfast.wire.dictionary import ResultCode
from holdfast.wire.messages import Message, Msg, decode, encode

FRAMING = avps.ASYNC_FRAMING | avps.SYNC_FRAMING
"""Both asynchronous and synchronous: some servers insist on the bit that the call will name."""
WINDOW = 64
CHALLENGE_SIZE = 16


class TunnelState(Enum):
    """Where the control connection stands."""

    WAIT_REPLY = "SCCRQ sent"
    OPEN = "established"
    CLOSED = "over"


class TunnelRefused(HoldfastError):
    """We do not want this tunnel; the text is the reason as it is counted."""


class Tunnel:
    """A control connection with its channel and its calls."""

    __slots__ = ("_challenge", "_next_id", "_secret", "calls", "channel", "local_id", "starting", "state")

    def __init__(
        self, local_id: int, secret: bytes, challenge: bytes, send: Callable[[bytes], object]
    ) -> None:
        self.local_id = local_id
        self.state = TunnelState.WAIT_REPLY
        self.channel = Channel(send)
        self.calls: dict[int, Call] = {}
        self.starting = 0
        self._secret = secret
        self._challenge = challenge if secret else b""
        self._next_id = 0

    def open(self, host_name: str, now: Instant) -> None:
        """Send the SCCRQ."""
        optional = [avps.CHALLENGE(self._challenge)] if self._challenge else []
        body = encode(
            Msg.SCCRQ,
            avps.PROTOCOL_VERSION(avps.VERSION_1_0),
            avps.HOST_NAME(host_name),
            avps.FRAMING_CAPABILITIES(FRAMING),
            avps.ASSIGNED_TUNNEL_ID(self.local_id),
            avps.RECEIVE_WINDOW_SIZE(WINDOW),
            *optional,
        )
        self.channel.transmit(0, body, now)

    def reply(self, message: Message, now: Instant) -> None:
        """An SCCRP: check it and send the SCCCN. Raises TunnelRefused."""
        if self.state is not TunnelState.WAIT_REPLY:
            return
        self.channel.peer_id = message.need(avps.ASSIGNED_TUNNEL_ID)
        if self._challenge:
            answer = message.get(avps.CHALLENGE_RESPONSE)
            if answer is None or not verify(Msg.SCCRP, self._secret, self._challenge, answer):
                raise TunnelRefused(f"{Failure.TUNNEL_REFUSED}: its challenge response is wrong")
        self.channel.window = message.get(avps.RECEIVE_WINDOW_SIZE) or avps.DEFAULT_WINDOW
        challenge = message.get(avps.CHALLENGE)
        answered = (
            []
            if challenge is None
            else [avps.CHALLENGE_RESPONSE(challenge_response(Msg.SCCCN, self._secret, challenge))]
        )
        self.state = TunnelState.OPEN
        self.channel.transmit(0, encode(Msg.SCCCN, *answered), now)

    def stop(self, result: StopCcn, now: Instant) -> None:
        """Send a StopCCN; all calls of the tunnel are over."""
        self.state = TunnelState.CLOSED
        self.calls.clear()
        body = encode(
            Msg.STOPCCN,
            avps.ASSIGNED_TUNNEL_ID(self.local_id),
            avps.RESULT_CODE(ResultCode(result)),
        )
        self.channel.transmit(0, body, now)

    def disconnect(self, call: Call, result: Cdn, now: Instant) -> None:
        """Send a CDN for a call and forget it."""
        if self.calls.pop(call.local_id, None) is None:
            return
        body = encode(Msg.CDN, avps.RESULT_CODE(ResultCode(result)), avps.ASSIGNED_SESSION_ID(call.local_id))
        self.channel.transmit(call.peer_id, body, now)

    def allocate(self) -> int:
        """A session id that is free."""
        while True:
            self._next_id = self._next_id % 0xFFFF + 1
            if self._next_id not in self.calls:
                return self._next_id

    def decode(self, body: bytes) -> Message:
        """A control message's AVPs, hidden ones included. Raises Malformed."""
        return decode(body, self._secret)


def stopped_by(message: Message) -> str:
    """The reason that a StopCCN is counted under."""
    return _with_codes(Failure.STOPCCN, message)


def disconnected_by(message: Message) -> str:
    """The reason that a CDN is counted under."""
    return _with_codes(Failure.CDN, message)


def _with_codes(failure: Failure, message: Message) -> str:
    code = message.get(avps.RESULT_CODE)
    return f"{failure} {code.result}/{code.error or 0}" if code else str(failure)
