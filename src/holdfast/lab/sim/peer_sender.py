"""How somebody else's daemon gets its messages through: numbers, repeats, acknowledgements, and giving up.

Invariant: `sent` of a tunnel holds what the daemon believes unacknowledged, in order.
"""

from collections.abc import Callable
from random import Random
from typing import ClassVar, Final, TypeAlias

from holdfast.core.clock import SECOND, Instant
from holdfast.lab.sim.peer_tunnel import NUMBERS, Call, Sent, Tunnel
from holdfast.lab.sim.peer_wire import Kind, header, message

SECONDS: TypeAlias = tuple[int, ...]

OUR_WINDOW: Final = 16
"""The Receive Window Size that we advertise."""


class Sender:
    """The sending half of a daemon."""

    intervals: ClassVar[SECONDS]
    """Seconds between the sends of a message; after the last it is given up."""

    says_goodbye: ClassVar[bool] = False
    """Whether a tunnel that is given up ends with StopCCN."""

    retransmits: ClassVar[str] = "oldest"
    """What goes out again when an acknowledgement is missing: "each" by its own timer, the "oldest", or "all"."""

    current_nr: ClassVar[bool] = True
    """Whether a retransmission carries the Nr of now, or that of its first send."""

    def __init__(self, random: Random, transmit: Callable[[bytes], None]) -> None:
        self.tunnels: dict[int, Tunnel] = {}
        self.on_acknowledged: Callable[[Tunnel, Sent], None] = lambda tunnel, sent: None
        self.on_given_up: Callable[[Tunnel, Sent], None] = lambda tunnel, sent: None
        self._random, self._transmit = random, transmit

    def stop(self, tunnel: Tunnel, now: Instant, result: bytes = b"\0\1", why: str = "as told") -> None:
        """End a tunnel with StopCCN."""
        raise NotImplementedError

    def _retransmit(self, tunnel: Tunnel, sent: Sent, now: Instant) -> None:
        if sent.sends >= len(self.intervals):
            self._give_up(tunnel, sent, now)
            return
        self._put(tunnel, sent)
        sent.due = now + self.intervals[sent.sends - 1] * SECOND
        if self.retransmits == "all":
            for other in tunnel.sent[1:]:
                self._put(tunnel, other)

    def _give_up(self, tunnel: Tunnel, sent: Sent, now: Instant) -> None:
        if tunnel.closing or not tunnel.up:
            self._remove(tunnel, "nobody answered")
            return
        self.on_given_up(tunnel, sent)
        why = f"{sent.kind.name} was not acknowledged"
        if self.says_goodbye:
            self.stop(tunnel, now, b"\0\1\0\0Timeout", why)
        else:
            self._remove(tunnel, why)

    def _remove(self, tunnel: Tunnel, why: str) -> None:
        tunnel.ended = tunnel.ended or why
        tunnel.up = False
        tunnel.calls.clear()
        self.tunnels.pop(tunnel.local, None)

    def acknowledged(self, tunnel: Tunnel, nr: int, now: Instant) -> None:
        """Everything before `nr` has arrived."""
        progress = False
        while tunnel.sent and 0 < (nr - tunnel.sent[0].ns) % NUMBERS < NUMBERS // 2:
            sent = tunnel.sent.pop(0)
            progress = True
            self.on_acknowledged(tunnel, sent)
            if sent.kind is Kind.STOPCCN:
                self._remove(tunnel, tunnel.ended)
                return
        if progress and tunnel.sent and self.retransmits != "each":
            oldest = tunnel.sent[0]
            oldest.sends, oldest.due = 1, now + self.intervals[0] * SECOND
        self._admit(tunnel, now)

    def _send(
        self,
        tunnel: Tunnel,
        kind: Kind,
        now: Instant,
        *avps: bytes,
        session: int = 0,
        call: Call | None = None,
    ) -> None:
        sent = Sent(session, kind, message(kind, *avps), call)
        if call is not None and kind is not Kind.CDN:
            call.asked = sent
        tunnel.waiting.append(sent)
        self._admit(tunnel, now)

    def _admit(self, tunnel: Tunnel, now: Instant) -> None:
        """Send what our window has room for."""
        while tunnel.waiting and len(tunnel.sent) < OUR_WINDOW:
            sent = tunnel.waiting.pop(0)
            sent.ns, sent.nr = tunnel.ns, tunnel.nr
            tunnel.ns = (tunnel.ns + 1) % NUMBERS
            tunnel.sent.append(sent)
            self._put(tunnel, sent)
            sent.first, sent.due = now, now + self.intervals[0] * SECOND

    def _put(self, tunnel: Tunnel, sent: Sent) -> None:
        if sent is tunnel.sent[0] or self.retransmits == "each" or not sent.sends:
            sent.sends += 1
        if self.current_nr:
            sent.nr = tunnel.nr
        if sent.nr == tunnel.nr:
            tunnel.owes = False
            tunnel.ack_at = None
        self._transmit(header(tunnel.remote, sent.session, sent.ns, sent.nr, sent.body))

    def _zlb(self, tunnel: Tunnel) -> None:
        tunnel.owes = False
        tunnel.ack_at = None
        self._transmit(header(tunnel.remote, 0, tunnel.ns, tunnel.nr, b""))
