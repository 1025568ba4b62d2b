"""One protocol's negotiation under way: the automaton, its counters, its Restart timer (RFC 1661 section 4).

LCP and IPCP differ only in their options, which are an `Options`. A negotiation is short-lived: when its layer has
opened the link keeps the result and drops it, and makes another (`resume`) when a peer renegotiates.

Invariants: `state` is changed in `event` only; `deadline` is set exactly in the states where the Restart timer runs;
`request` is our Configure-Request that has no valid answer yet, so that no answer counts twice (L2TP data messages
may arrive in duplicate, and a second Ack in Opened would take the layer down).
"""

from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

from holdfast.core.clock import Instant
from holdfast.core.errors import LocalError
from holdfast.ppp.automaton import TABLE, TIMED, Action, Event, State
from holdfast.ppp.config import LinkConfig
from holdfast.ppp.effects import Effect, Transmit
from holdfast.ppp.packet import HEAD_SIZE, Code, packet, split_options

MAX_NAKS_RECEIVED: Final = 10
"""Naks and Rejects taken before the negotiation is given up: two stubborn ends would go on for ever."""

_SCR, _SCA, _SCN, _STR, _STA = Action.SCR, Action.SCA, Action.SCN, Action.STR, Action.STA
_IRC, _ZRC, _SCJ, _SER = Action.IRC, Action.ZRC, Action.SCJ, Action.SER
_TLU, _TLD, _TLF = Action.TLU, Action.TLD, Action.TLF

_REQUEST, _ACK, _NAK, _REJECT = (
    int(Code.CONFIGURE_REQUEST),
    int(Code.CONFIGURE_ACK),
    int(Code.CONFIGURE_NAK),
    int(Code.CONFIGURE_REJECT),
)


class Outcome(Enum):
    """What became of the layer."""

    NONE = 0
    UP = 1
    DOWN = 2
    OVER = 3


class Options(Protocol):
    """What one protocol negotiates. Malformed may be raised before anything has changed."""

    def request(self) -> bytes:
        """The options of our next Configure-Request."""

    def judge(self, options: bytes, final: bool) -> tuple[Code, bytes]:
        """The answer to the peer's options, and its options. `final`: no more Naks, reject instead (P-5)."""

    def naked(self, options: list[bytes]) -> bool:
        """Take the peer's hints. False: we cannot go on."""

    def rejected(self, options: list[bytes]) -> bool:
        """Do without these. False: we cannot go on."""


O_co = TypeVar("O_co", bound=Options, covariant=True)


class Negotiation(Generic[O_co]):
    """The automaton for one protocol of one link."""

    __slots__ = (
        "_config",
        "_naks_received",
        "_naks_sent",
        "_peer_mru",
        "_protocol",
        "_restarts",
        "deadline",
        "identifier",
        "options",
        "request",
        "state",
    )

    def __init__(
        self, protocol: int, options: O_co, config: LinkConfig, identifier: int, peer_mru: int
    ) -> None:
        """A closed layer that may be opened. `identifier` is the last one used; `peer_mru` bounds a Code-Reject."""
        self._protocol = protocol
        self._config = config
        self._restarts = 0
        self._naks_sent = 0
        self._naks_received = 0
        self.options = options
        self.state = State.CLOSED
        self.identifier = identifier
        self.request: bytes | None = None
        self.deadline: Instant | None = None
        self._peer_mru = peer_mru

    def resume(self) -> None:
        """Go on from a layer that was opened before."""
        self.state = State.OPENED
        self._restarts = self._config.max_configure

    def receive(self, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]) -> Outcome:
        """Take a packet. Raises Malformed, having changed nothing."""
        if code == _REQUEST:
            return self.answer(*self.judge(body), identifier, now, out)
        if _ACK <= code <= _REJECT:
            return self._answered(code, identifier, body, now, out)
        if code == Code.TERMINATE_REQUEST:
            return self.event(Event.TERMINATE_REQUEST, now, out, identifier=identifier)
        if code == Code.TERMINATE_ACK:
            return self.event(Event.TERMINATE_ACK, now, out)
        if code == Code.CODE_REJECT:
            needed = len(body) > 0 and Code.CONFIGURE_REQUEST <= body[0] <= Code.CODE_REJECT
            return self.event(Event.REJECT_BAD if needed else Event.REJECT_GOOD, now, out)
        return self.event(Event.UNKNOWN_CODE, now, out, self._code_reject(code, identifier, body))

    def judge(self, body: bytes) -> tuple[Code, bytes]:
        """What the peer's Configure-Request gets for an answer. Raises Malformed."""
        return self.options.judge(body, self._naks_sent >= self._config.max_failure)

    def answer(self, code: Code, options: bytes, identifier: int, now: Instant, out: list[Effect]) -> Outcome:
        """Give the judged Configure-Request its answer."""
        reply = packet(self._protocol, code, identifier, options)
        if code is Code.CONFIGURE_ACK:
            self._naks_sent = 0
            return self.event(Event.REQUEST_GOOD, now, out, reply, identifier)
        if code is Code.CONFIGURE_NAK:
            self._naks_sent += 1
        return self.event(Event.REQUEST_BAD, now, out, reply, identifier)

    def timer(self, now: Instant, out: list[Effect]) -> Outcome:
        """The Restart timer has run out."""
        return self.event(Event.TIMEOUT if self._restarts > 0 else Event.TIMEOUT_LAST, now, out)

    def event(
        self, event: Event, now: Instant, out: list[Effect], reply: bytes = b"", identifier: int = 0
    ) -> Outcome:
        """Make one step of the automaton. `reply` is the packet that answers what was received."""
        step = TABLE[event][self.state]
        if step is None:
            raise LocalError(f"{event.name} in {self.state.name} (RFC 1661 4.1)")
        outcome = Outcome.NONE
        state = step.state
        for action in step.actions:
            if action is _SCR:
                if event is not Event.TIMEOUT or self.request is None:
                    self._new_request()
                self._send_restartable(self.request or b"", now, out)
            elif action is _SCA or action is _SCN or action is _SCJ or action is _SER:
                out.append(Transmit(reply))
            elif action is _IRC:
                closing = state is State.CLOSING or state is State.STOPPING
                self._restarts = self._config.max_terminate if closing else self._config.max_configure
            elif action is _TLU:
                outcome = Outcome.UP
            elif action is _TLD:
                outcome = Outcome.DOWN
                self._naks_sent = self._naks_received = 0
            elif action is _TLF:
                outcome = Outcome.OVER
            elif action is _STA:
                out.append(Transmit(packet(self._protocol, Code.TERMINATE_ACK, identifier)))
            elif action is _STR:
                self.request = None
                terminate = packet(self._protocol, Code.TERMINATE_REQUEST, self.next_identifier())
                self._send_restartable(terminate, now, out)
            elif action is _ZRC:
                self._restarts = 0
                self.deadline = now + self._config.restart
        self.state = state
        if state not in TIMED:
            self.deadline = None
        return outcome

    def next_identifier(self) -> int:
        """A fresh identifier for a packet of our own."""
        self.identifier = (self.identifier + 1) & 0xFF
        return self.identifier

    def _new_request(self) -> None:
        options = self.options.request()
        self.request = packet(self._protocol, Code.CONFIGURE_REQUEST, self.next_identifier(), options)

    def _send_restartable(self, frame: bytes, now: Instant, out: list[Effect]) -> None:
        out.append(Transmit(frame))
        self._restarts -= 1
        self.deadline = now + self._config.restart

    def _answered(self, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]) -> Outcome:
        """An Ack, Nak or Reject: only the first valid answer to the last request counts (P-4)."""
        request = self.request
        if request is None or request[5] != identifier:
            return Outcome.NONE
        if code == _ACK:
            if request[HEAD_SIZE:] != body:
                return Outcome.NONE
            self.request = None
            return self.event(Event.ACK, now, out)
        options = split_options(body)
        if code == _NAK:
            possible = self.options.naked(options)
        else:
            asked = split_options(request[HEAD_SIZE:])
            if not options or not all(o in asked for o in options):
                return Outcome.NONE
            possible = self.options.rejected(options)
        self._naks_received += 1
        if not possible or self._naks_received > MAX_NAKS_RECEIVED:
            return self.event(Event.TIMEOUT_LAST, now, out)
        return self.event(Event.NAK, now, out)

    def _code_reject(self, code: int, identifier: int, body: bytes) -> bytes:
        rejected = bytes((code, identifier)) + (len(body) + 4).to_bytes(2, "big") + body
        return packet(
            self._protocol, Code.CODE_REJECT, self.next_identifier(), rejected[: self._peer_mru - 4]
        )
