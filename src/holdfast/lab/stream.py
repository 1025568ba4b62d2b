"""One direction of numbered packets on its way out: when which packet is due, and the sending of what is.

Invariant: what was due counts as sent, whatever became of it; a sender that falls behind says by how much, and sends all
of it nevertheless. Receiving ends only once both sides have sent everything. So a busy machine is seen as such, and not
as a loss.
"""

import errno
import struct
import time
from collections.abc import Callable

import msgspec

LINGER_NS = 2_000_000_000
"""How long receiving goes on after both sides have sent their last packet."""

PATIENCE_NS = 20_000_000_000
"""How long a side that has fallen behind goes on when it should be done."""

NEVER_NS = 1 << 62

TICK_S = 0.001

BURST = 64
"""Packets sent between two looks at the socket, when more are due."""

PACKET = struct.Struct("!IIQQ")
"""Token, reserved, packet number k, time of sending in ns."""

_NO_ROOM = (errno.EAGAIN, errno.ENOBUFS)


class Schedule(msgspec.Struct, frozen=True):
    """When which packet is due; the same for both directions. Times in ns of CLOCK_MONOTONIC."""

    start_ns: int
    pps: int
    sessions: int

    def due_by(self, at_ns: int) -> int:
        """How many packets of a direction were due before `at_ns`."""
        return max(0, -(-(at_ns - self.start_ns) * self.pps // 1_000_000_000))

    def due_at(self, k: int) -> int:
        """When packet `k` is due."""
        return self.start_ns + k * 1_000_000_000 // self.pps


class Shortfall(msgspec.Struct, frozen=True):
    """What an end of the traffic fell short of: datagrams that its own socket had no room for, packets that it never
    sent, and how long after its time the latest of the others left.
    """

    no_room: int
    unsent: int
    late_ns: int


class Commands:
    """When sending begins and ends, and when receiving ends, in ns, by the commands so far."""

    def __init__(self) -> None:
        self.start_ns = NEVER_NS
        self.stop_ns = NEVER_NS
        self.end_ns = NEVER_NS
        self._pending = b""

    def feed(self, data: bytes) -> None:
        """Obey what has come, a line at a time."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            match line.split():
                case [b"start", at]:
                    self.start_ns = int(at)
                case [b"stop", at]:
                    self.stop_ns = int(at)
                case [b"end", at]:
                    self.end_ns = int(at)


Sender = Callable[[int, bytes], object]
"""Sends one payload for a session index. Raises OSError."""


class Stream:
    """What has been sent of one direction. `late_ns` is the most that a packet has left after its time."""

    def __init__(self, token: int, pps: int, sessions: int, send: Sender) -> None:
        self._token, self._pps, self._sessions, self._send = token, pps, sessions, send
        self._next = 0
        self.late_ns = 0

    def turn(self, commands: Commands) -> bool:
        """Send what is due, a burst at most; whether more is.

        What the kernel has no room for is sent later, as nothing is lost for a sender's haste; with any other error (no
        route) a packet was due all the same, so it counts as sent and as lost.
        """
        now = time.monotonic_ns()
        schedule = self._schedule(commands)
        due = schedule.due_by(min(now, commands.stop_ns))
        if self._next >= due or self.done(commands):
            return False
        self.late_ns = max(self.late_ns, now - schedule.due_at(self._next))
        for number in range(self._next, min(due, self._next + BURST)):
            payload = PACKET.pack(self._token, 0, number, time.monotonic_ns())
            try:
                self._send(number % self._sessions, payload)
            except OSError as e:
                if e.errno in _NO_ROOM:
                    return False
            self._next = number + 1
        return self._next < due

    def done(self, commands: Commands) -> bool:
        """Whether everything is sent that will be: all, unless it takes too long."""
        late_ns = time.monotonic_ns() - commands.stop_ns
        return late_ns >= PATIENCE_NS or (late_ns >= 0 and not self.unsent(commands))

    def unsent(self, commands: Commands) -> int:
        """Packets that are due in all, and not sent."""
        return max(0, self._schedule(commands).due_by(commands.stop_ns) - self._next)

    def _schedule(self, commands: Commands) -> Schedule:
        return Schedule(commands.start_ns, self._pps, self._sessions)
