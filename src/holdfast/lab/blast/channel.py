"""The control channel of one tunnel, as lean as RFC 2661 5.8 allows: window, in-order delivery,
retransmission, ZLB.

Invariants: every message that is not a ZLB takes one Ns; at most `window` are unacknowledged; a message
sent again keeps its Ns and carries the current Nr (V2-75); a ZLB is sent only when nothing else carried the
acknowledgement (`flush`, once per batch of received datagrams). Messages that arrive early are dropped: the
peer sends them again. There is no slow start: a load generator means to load.
"""

from collections import deque
from collections.abc import Callable

from holdfast.core.clock import SECOND, Instant
from holdfast.core.seq import is_duplicate
from holdfast.lab.blast.frames import CONTROL, CONTROL_FLAGS, CONTROL_SIZE
from holdfast.wire.dictionary import DEFAULT_WINDOW

FIRST_INTERVAL = 1 * SECOND
LONGEST_INTERVAL = 8 * SECOND
INTERVALS = 5
"""Time-outs without any acknowledgement after which the tunnel is given up (V2-77)."""


class Channel:
    """Numbers and queues of one control connection. `send` puts a datagram on the wire."""

    __slots__ = (
        "_interval",
        "_intervals",
        "_send",
        "_waiting",
        "ack_due",
        "acked",
        "nr",
        "ns",
        "peer_id",
        "resend_at",
        "retransmitted",
        "unacked",
        "window",
    )

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self.peer_id = 0
        self.window = DEFAULT_WINDOW
        self.ns = 0
        self.nr = 0
        self.acked = 0
        self.unacked: deque[tuple[int, bytes]] = deque()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self.ack_due = False
        self.resend_at: Instant = 0
        self._interval = FIRST_INTERVAL
        self._intervals = 0
        self.retransmitted = 0

    @property
    def has_room(self) -> bool:
        """Whether a message would go out at once."""
        return len(self.unacked) < self.window

    def transmit(self, session_id: int, body: bytes, now: Instant) -> bool:
        """Send a message, or queue it while the window is full; returns whether it was sent.

        `session_id` is the peer's, or 0.
        """
        unacked = self.unacked
        if len(unacked) >= self.window or self._waiting:
            self._waiting.append((session_id, body))
            return False
        if not unacked:
            self.resend_at = now + self._interval
        self._put(session_id, body)
        return True

    def _put(self, session_id: int, body: bytes) -> None:
        ns = self.ns
        self.unacked.append((session_id, body))
        self.ns = (ns + 1) & 0xFFFF
        self.ack_due = False
        size = CONTROL_SIZE + len(body)
        self._send(CONTROL.pack(CONTROL_FLAGS, size, self.peer_id, session_id, ns, self.nr) + body)

    def acknowledge(self, nr: int, now: Instant) -> None:
        """Use a received Nr. One that acknowledges what was never sent is ignored (V2-82)."""
        unacked = self.unacked
        n = (nr - self.acked) & 0xFFFF
        if not 0 < n <= len(unacked):
            return
        self.acked = nr
        for _ in range(n):
            unacked.popleft()
        self._interval = FIRST_INTERVAL
        self._intervals = 0
        self.resend_at = now + FIRST_INTERVAL
        while self._waiting and len(unacked) < self.window:
            self._put(*self._waiting.popleft())

    def accept(self, ns: int) -> bool:
        """Whether this Ns is the next in order; an older one is only acknowledged again (V2-73)."""
        if ns == self.nr:
            self.nr = (ns + 1) & 0xFFFF
            self.ack_due = True
            return True
        if is_duplicate(ns, self.nr - 1):
            self.ack_due = True
        return False

    def flush(self) -> None:
        """Send a ZLB if an acknowledgement is still owed."""
        if self.ack_due:
            self.ack_due = False
            self._send(CONTROL.pack(CONTROL_FLAGS, CONTROL_SIZE, self.peer_id, 0, self.ns, self.nr))

    def timer(self, now: Instant) -> bool:
        """Send again what is overdue. False when the peer has been silent for too long."""
        if not self.unacked or now < self.resend_at:
            return True
        self._intervals += 1
        if self._intervals >= INTERVALS:
            return False
        self._interval = min(2 * self._interval, LONGEST_INTERVAL)
        self.resend_at = now + self._interval
        ns = self.acked
        for session_id, body in self.unacked:
            size = CONTROL_SIZE + len(body)
            self._send(CONTROL.pack(CONTROL_FLAGS, size, self.peer_id, session_id, ns, self.nr) + body)
            ns = (ns + 1) & 0xFFFF
            self.retransmitted += 1
        self.ack_due = False
        return True
