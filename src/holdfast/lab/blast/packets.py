"""Numbered IPv4/UDP packets, and what arrived of them. Shared by both ends of a traffic measurement.

The UDP payload is a mark, the session's index, and a number that counts within the session; the rest is
zeros. The UDP checksum is 0 (none), so that a packet is a fixed head, its number and padding.
"""

from collections.abc import Callable
from struct import Struct

from holdfast.core.clock import SECOND, Instant

MARK = 0x686F6C64
NUMBER = Struct(">IIQ")
"""Mark, index of the session, number."""
NUMBER_AT = 28
_IP = Struct(">BBHHHBBH4s4s")
_UDP = Struct(">HHHH")
_WORDS = Struct(">10H")
_DONT_FRAGMENT = 0x4000
_UDP_PROTOCOL = 17


def head(source: bytes, destination: bytes, port: int, size: int) -> bytes:
    """IPv4 and UDP headers of a packet of `size` octets, checksum included; addresses are 4 octets."""
    first = _IP.pack(0x45, 0, size, 0, _DONT_FRAGMENT, 64, _UDP_PROTOCOL, 0, source, destination)
    total = sum(_WORDS.unpack(first))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    checked: bytes = first[:10] + total.to_bytes(2, "big") + first[12:]
    return checked + _UDP.pack(port, port, size - 20, 0)


class Pacer:
    """Packets that are due on a fixed schedule from `start`, whatever has really been sent."""

    __slots__ = ("_end", "_rate", "_start", "sent")

    def __init__(self, rate: int, start: Instant, end: Instant) -> None:
        self._rate, self._start, self._end = rate, start, end
        self.sent = 0

    def due(self, now: Instant) -> int:
        """How many packets should have been sent by now and have not."""
        return self.due_by(now) - self.sent

    def due_by(self, now: Instant) -> int:
        """How many packets are due until `now`."""
        elapsed = min(now, self._end) - self._start
        return max(0, elapsed * self._rate // SECOND)

    def next_at(self, now: Instant) -> Instant | None:
        """When the next packet is due; None after the end."""
        if not self._rate or now >= self._end:
            return None
        return self._start + (self.sent + 1) * SECOND // self._rate


class Arrivals:
    """What arrived, per session: how many, and the longest time without any."""

    __slots__ = ("_clock", "_last", "_last_any", "gap", "received", "session_gap")

    def __init__(self, clock: Callable[[], Instant]) -> None:
        self._clock = clock
        self._last: dict[int, Instant] = {}
        self._last_any: Instant = 0
        self.received = 0
        self.gap = 0
        self.session_gap = 0

    def note(self, payload: bytes, offset: int) -> None:
        """Count the packet whose numbering is at `offset`; anything else is not ours and is left out."""
        if len(payload) < offset + NUMBER.size:
            return
        mark, index, _ = NUMBER.unpack_from(payload, offset)
        if mark != MARK:
            return
        now = self._clock()
        self.received += 1
        gap = now - self._last_any
        if gap > self.gap and self._last_any:
            self.gap = gap
        self._last_any = now
        last = self._last.get(index)
        self._last[index] = now
        if last is not None and now - last > self.session_gap:
            self.session_gap = now - last

    @property
    def sessions(self) -> int:
        """How many sessions something arrived for."""
        return len(self._last)
