"""Reliable delivery of control messages (RFC 2661 5.8 and appendix A).

Invariants: `ns` is the next number to send, `nr` the next one expected; a ZLB takes no number (V2-74). At most
min(cwnd, peer's window, `MOST_IN_FLIGHT`) messages are unacknowledged; after a time-out what was sent before it is sent
again as the window opens. A retransmission carries the same Ns and the current Nr (V2-75). What is received in order is
delivered once. While `held`, messages queue and nothing new is sent (T-8); the next `careful` numbers go to nobody's
message.

The channel appends finished datagrams to `out`; its owner sends them after writing what must be written first.
"""

from collections import deque

from holdfast.core import seq
from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.protocol.settings import ChannelSettings
from holdfast.wire.header import control_header

DEFAULT_PEER_WINDOW = 4
"""Receive window of a peer that sent no AVP 10 (RFC 2661 4.4.3)."""

NO_QUEUE_AFTER_ZERO_RESET: Duration = 30 * SECOND
"""After a reset to 0/0 stale packets look new: out-of-order ones are not queued for this long (T-11)."""

STALE_ACK_INTERVAL: Duration = 100 * MILLISECOND
"""Duplicates from further back than the window are acknowledged no more often than this (T-12)."""

MOST_IN_FLIGHT = 64
"""However wide a peer's window is. So many numbers at most are used up one at a time before the first message of a tunnel
that was resynchronised silently (`try_out`): with the 1,024 that routers have, 20 s at a round trip of 20 ms.
"""

MAX_STALE = 4_096
"""An Nr that lies further back than this is no late datagram's but never was true (V2-82)."""


class Outcome:
    """What `receive` made of a datagram (constants, not an enum: this is the receive path)."""

    DELIVER = 0
    ACKNOWLEDGEMENT = 1
    DUPLICATE = 2
    EARLY = 3
    BAD_NR = 4


class ControlChannel:
    """One tunnel's ordered, reliable message stream; the tunnel gives it the peer's tunnel id once known."""

    __slots__ = (
        "_ack_due",
        "_avoidance",
        "_early",
        "_filler",
        "_in_flight",
        "_interval",
        "_mute",
        "_no_queue_until",
        "_settings",
        "_stale_ack_at",
        "_unacked",
        "_waiting",
        "_window",
        "acked",
        "attempts",
        "careful",
        "cwnd",
        "held",
        "keeps",
        "nr",
        "ns",
        "out",
        "peer_tunnel_id",
        "peer_window",
        "queued",
        "retransmissions",
        "retransmit_at",
        "sent",
        "ssthresh",
        "unacked_since",
    )

    def __init__(self, settings: ChannelSettings, peer_tunnel_id: int = 0) -> None:
        self._settings = settings
        self.peer_tunnel_id = peer_tunnel_id
        self.peer_window = self._window = DEFAULT_PEER_WINDOW
        self.held = False
        self.out: list[bytes] = []
        self.retransmissions = 0
        self.queued = self.sent = 0
        self._no_queue_until: Instant = 0
        self.reset(0, 0, 0)
        self._no_queue_until = 0

    def reset(self, ns: int, nr: int, now: Instant) -> None:
        """Empty both windows and start again at `ns` and `nr` (RFC 4951 3.2.2; F-40): nothing queued is carried over."""
        self.ns = self.acked = ns
        self.nr = nr
        self.queued = self.sent
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._unacked: deque[tuple[int, int, bytes]] = deque()
        self._in_flight = 0
        self._filler = b""
        self._mute = False
        self._early: dict[int, tuple[int, bytes]] = {}
        self.keeps = self._settings.receive_window
        self._ack_due = False
        self._stale_ack_at: Instant = 0
        self.retransmit_at: Instant | None = None
        self.unacked_since: Instant | None = None
        self.attempts = 0
        self.careful = 0
        self._interval = self._settings.initial
        self.cwnd = 1
        self.ssthresh = self._window
        self._avoidance = 0
        if ns == 0 and nr == 0:
            self._no_queue_until = now + NO_QUEUE_AFTER_ZERO_RESET

    def set_peer_window(self, window: int) -> None:
        """The peer's Receive Window Size."""
        self.peer_window = window
        self._window = self.ssthresh = min(window, MOST_IN_FLIGHT)

    @property
    def idle(self) -> bool:
        """Whether everything sent has been acknowledged and nothing waits."""
        return not self._unacked and not self._waiting

    @property
    def exhausted(self) -> bool:
        """Whether the configured number of time-outs passed without an acknowledgement (V2-77)."""
        return self.attempts >= self._settings.attempts

    def send(self, session_id: int, body: bytes, now: Instant) -> None:
        """Send a message, or queue it behind the window: it has left once `sent` reaches what `queued` is now."""
        self.queued += 1
        self._waiting.append((session_id, body))
        self._pump(now)

    def _pump(self, now: Instant) -> None:
        """Send what the window admits: first, after a time-out, what was sent before it, since it may be lost as well.

        A peer that drops what comes before its turn has lost all of it, and would get one message per time-out.
        """
        waiting, unacked = self._waiting, self._unacked
        limit = min(self.cwnd, self._window) if not self.careful else 1
        while self._in_flight < limit and not self.held:
            if self._in_flight < len(unacked):
                self.retransmissions += 1
                self._emit(*unacked[self._in_flight])
            elif waiting and self.careful:
                self._fill()
            elif waiting:
                session_id, body = waiting.popleft()
                ns = self.ns
                unacked.append((ns, session_id, body))
                self.ns = seq.succ(ns)
                self.sent += 1
                self._emit(ns, session_id, body)
            else:
                return
            self._in_flight += 1
            if self.retransmit_at is None:
                self.unacked_since = now
                self.retransmit_at = now + self._interval

    def _fill(self) -> None:
        """Give the next number to a message that means nothing."""
        ns = self.ns
        self._unacked.append((ns, 0, self._filler))
        self.ns = seq.succ(ns)
        self._emit(ns, 0, self._filler)

    def _emit(self, ns: int, session_id: int, body: bytes) -> None:
        self.out.append(control_header(self.peer_tunnel_id, session_id, ns, self.nr, len(body)) + body)
        self._ack_due = False

    def release(self, now: Instant) -> None:
        """Let a held channel speak."""
        self.held = False
        self._pump(now)

    def receive(self, session_id: int, ns: int, nr: int, body: bytes, now: Instant) -> int:
        """Take in one message; `Outcome.DELIVER` means that it is the next one and is the caller's to process.

        After DELIVER the caller also drains `next_early`. Every outcome but BAD_NR has used `nr`.
        """
        if not seq.in_window(nr, self.acked, self.ns):
            if not self._may_be_late(ns, nr) and not self._skips(nr, now):
                return Outcome.BAD_NR
        elif nr != self.acked:
            self._acknowledged(nr, now)
        if not body:
            return Outcome.ACKNOWLEDGEMENT
        if ns == self.nr:
            self.nr = seq.succ(ns)
            self._ack_due = True
            return Outcome.DELIVER
        ahead = seq.distance(self.nr, ns)
        if ahead >= seq.HALF:
            self._acknowledge_duplicate(seq.MODULUS - ahead, now)
            return Outcome.DUPLICATE
        if ahead < self.keeps and now >= self._no_queue_until:
            self._early[ns] = (session_id, body)
        self._ack_due = True
        return Outcome.EARLY

    def _may_be_late(self, ns: int, nr: int) -> bool:
        """Whether an Nr that acknowledges nothing is an old one; a duplicate's may be older still (T-12)."""
        if seq.distance(nr, self.acked) <= MAX_STALE:
            return True
        return seq.before(nr, self.acked) and seq.before(ns, self.nr)

    def _skips(self, nr: int, now: Instant) -> bool:
        """Whether the peer has had messages of our former life, which it had kept until their turn came."""
        skipped = seq.distance(self.ns, nr)
        if not 0 < skipped <= self.careful:
            return False
        self.careful -= skipped
        if self.acked != self.ns:
            self._acknowledged(self.ns, now)
        self.resume(nr)
        return True

    def next_early(self) -> tuple[int, bytes] | None:
        """The next message (session id, body) that had come too early and whose turn it is now."""
        if not self._early:
            return None
        found = self._early.pop(self.nr, None)
        if found is not None:
            self.nr = seq.succ(self.nr)
            self._ack_due = True
        return found

    def lowest_early(self) -> int | None:
        """The first of the messages that are kept until their turn comes."""
        return min(self._early, key=lambda ns: seq.distance(self.nr, ns), default=None)

    def _acknowledge_duplicate(self, behind: int, now: Instant) -> None:
        if behind > self._settings.receive_window:
            if now < self._stale_ack_at:
                return
            self._stale_ack_at = now + STALE_ACK_INTERVAL
        self._ack_due = True

    def _acknowledged(self, nr: int, now: Instant) -> None:
        unacked = self._unacked
        count = seq.distance(self.acked, nr)
        for _ in range(count):
            unacked.popleft()
            self._grow()
        self._in_flight = max(0, self._in_flight - count)
        if self.careful:
            self.careful = max(0, self.careful - count)
        self.acked = nr
        self.attempts = 0
        self._mute = False
        self._interval = self._settings.initial
        if unacked:
            self.unacked_since = now
            self.retransmit_at = now + self._interval
        else:
            self.unacked_since = self.retransmit_at = None

    def _grow(self) -> None:
        """Slow start up to ssthresh, then one message more per window acknowledged (RFC 2661 appendix A)."""
        if self.cwnd < self.ssthresh:
            self.cwnd += 1
        elif self.cwnd < self._window:
            self._avoidance += 1
            if self._avoidance >= self.cwnd:
                self._avoidance = 0
                self.cwnd += 1

    def finish(self, now: Instant) -> None:
        """After a datagram has been processed: send what the window now admits, else a ZLB if one is due."""
        if self._waiting or self._in_flight < len(self._unacked):
            self._pump(now)
        if self._ack_due:
            self._ack_due = False
            self.out.append(control_header(self.peer_tunnel_id, 0, self.ns, self.nr, 0))

    def acknowledge_end(self, session_id: int) -> None:
        """Acknowledge a CDN at once, by a ZLB that names the peer's session; 0 for a StopCCN.

        RFC 2661 leaves open which session a ZLB names. xl2tpd keeps a call that it has ended until a ZLB names it, and
        a tunnel that it has ended until there is a ZLB that names none: the Nr of no other message will do.
        """
        self._ack_due = False
        self.out.append(control_header(self.peer_tunnel_id, session_id, self.ns, self.nr, 0))

    def drop_waiting(self) -> None:
        """Forget what has not been sent yet (before a StopCCN, which makes it pointless)."""
        self._waiting.clear()
        self.queued = self.sent

    def silence(self) -> None:
        """Send nothing more but acknowledgements: the peer has said StopCCN."""
        self.drop_waiting()
        self._unacked.clear()
        self._in_flight = 0
        self.acked = self.ns
        self.unacked_since = self.retransmit_at = None

    def resume(self, ns: int) -> None:
        """Go on sending at `ns`: the peer has told that it has had everything before."""
        self.ns = self.acked = ns

    def try_out(self, ns: int, filler: bytes, now: Instant) -> None:
        """Send a message that means nothing with the number that the peer seems to expect. Nothing else is under way.

        The numbers after it, as many as may be under way at once, may have been used before by messages which the peer
        has kept and would take for the ones that we send now. So they are used up by such messages, too, one at a time,
        before anything that waits is sent.
        """
        self.resume(ns)
        self._unacked.clear()
        self._filler = filler
        self._fill()
        self._in_flight = 1
        self.careful = self._window
        self.attempts = 0
        self._interval = self._settings.initial
        self.unacked_since = now
        self.retransmit_at = now + self._interval

    def settle(self, nr: int, now: Instant) -> None:
        """Our Nr turned out to be `nr`: what lies before it will not come again, and is acknowledged by `finish`.

        A peer that had messages outstanding may have withheld its own acknowledgements (l2tpns): ask again at once. It
        looks at the Nr of none but the message that it expects, which may be any of those that we await an
        acknowledgement for, so all of them are sent until it speaks.
        """
        self.nr = nr
        self._ack_due = True
        self._mute = True
        self.attempts = 0
        self._interval = self._settings.initial
        if self._unacked:
            self.retransmit_at = now

    def timed_out(self, now: Instant) -> None:
        """The retransmission time has come: send the oldest unacknowledged message again, with back-off (V2-76).

        After the last attempt (`exhausted`) nothing is sent: the owner gives up, or calls `retransmit` because the
        peer may still return within its Recovery Time (F-51, F-53).
        """
        if not self._unacked:
            self.retransmit_at = None
            return
        self.attempts += 1
        self.ssthresh = max(self.cwnd // 2, 1)
        self.cwnd = 1
        self._in_flight = 1
        self._avoidance = 0
        self._interval = min(self._interval * 2, self._settings.cap)
        self.retransmit_at = now + self._interval
        if not self.exhausted:
            self.retransmit()
            for message in list(self._unacked)[1:] if self._mute else ():
                self.retransmissions += 1
                self._emit(*message)

    def retransmit(self) -> None:
        """Send the oldest unacknowledged message again, now."""
        if self._unacked:
            self.retransmissions += 1
            self._emit(*self._unacked[0])

    def give_up_at(self) -> Instant | None:
        """When the current silence will have exhausted every attempt (the base RFC's control-channel time-out)."""
        if self.unacked_since is None:
            return None
        total, interval = 0, self._settings.initial
        for _ in range(self._settings.attempts):
            total += interval
            interval = min(interval * 2, self._settings.cap)
        return self.unacked_since + total
