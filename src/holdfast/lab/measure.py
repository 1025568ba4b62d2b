"""What the generators' logs say about each session: who had data before and after, gaps, losses.

Times are ns of CLOCK_MONOTONIC. A packet that was due after the kill can only have been forwarded by a process started
after it, so "data is back" counts such packets alone: what the dead process had already passed on proves nothing.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec

from holdfast.lab.stream import Schedule
from holdfast.lab.traffic import ARRIVAL

_BEFORE_NS = 1_000_000_000
"""A session counts as live before the kill if data came in both directions within this time."""


_IN_THE_NODE_NS = 20_000_000
"""Packets due this shortly before the kill may still have been in the killed node's queues."""


class Moments(msgspec.Struct, frozen=True, kw_only=True):
    """The instants that divide a run: first kill, last death, last start, last packet due."""

    killed_ns: int
    dead_ns: int
    started_ns: int
    stop_ns: int


class Direction(msgspec.Struct, frozen=True, kw_only=True):
    """One direction, by session index. `first_after_ns` is 0 where nothing came back; gaps are in ns."""

    sent: int
    received: int
    lost_while_down: int
    live_before: frozenset[int]
    first_after_ns: Sequence[int]
    longest_gap_ns: Sequence[int]

    @property
    def lost(self) -> int:
        """Packets that were due and never arrived."""
        return self.sent - self.received

    def live_after(self, session: int) -> bool:
        """Whether a packet that was due after the kill arrived."""
        return self.first_after_ns[session] > 0


def measure(schedule: Schedule, log: Path, moments: Moments) -> Direction:
    """Read one direction's log. The end of sending counts as an arrival: a session that never came back has a gap.

    A logged packet number that was never due is ignored; a duplicate counts once.
    """
    n, due = schedule.sessions, schedule.due_by(moments.stop_ns)
    first_sent_after = schedule.due_by(moments.dead_ns)
    arrived = bytearray(due)
    last, gap, first_after = (array("q", bytes(8 * n)) for _ in range(3))
    before: set[int] = set()
    for at, k in ARRIVAL.iter_unpack(_whole(log.read_bytes())):
        if k >= due or arrived[k]:
            continue
        arrived[k] = 1
        session = k % n
        if last[session] and at - last[session] > gap[session]:
            gap[session] = at - last[session]
        last[session] = at
        if at <= moments.killed_ns:
            if at > moments.killed_ns - _BEFORE_NS:
                before.add(session)
        elif k >= first_sent_after and not first_after[session]:
            first_after[session] = at
    for session in range(n):
        gap[session] = max(gap[session], moments.stop_ns - (last[session] or schedule.start_ns))
    back = schedule.due_by(max(first_after, default=0) or moments.stop_ns)
    return Direction(
        sent=due,
        received=arrived.count(1),
        lost_while_down=arrived.count(0, schedule.due_by(moments.killed_ns - _IN_THE_NODE_NS), back),
        live_before=frozenset(before),
        first_after_ns=first_after,
        longest_gap_ns=gap,
    )


def _whole(log: bytes) -> memoryview:
    """The log without an entry that was cut off when its writer died."""
    return memoryview(log)[: len(log) - len(log) % ARRIVAL.size]


def sessions_before(up: Direction, down: Direction) -> frozenset[int]:
    """Sessions with data in both directions within the last second before the kill."""
    return up.live_before & down.live_before


def sessions_after(base: frozenset[int], up: Direction, down: Direction) -> frozenset[int]:
    """Those of `base` with data in both directions again."""
    return frozenset(s for s in base if up.live_after(s) and down.live_after(s))


def data_back(
    base: frozenset[int], up: Direction, down: Direction, started_ns: int
) -> tuple[int | None, int | None]:
    """Ns from start to the first packet forwarded, and until every session of `base` had data both ways.

    0 for a packet that was forwarded before the start, while the daemon was dead.
    """
    firsts = [at for direction in (up, down) for at in direction.first_after_ns if at]
    first = max(0, min(firsts) - started_ns) if firsts else None
    if not base or sessions_after(base, up, down) != base:
        return first, None
    last = max(max(up.first_after_ns[s], down.first_after_ns[s]) for s in base)
    return first, max(0, last - started_ns)


def gaps(base: frozenset[int], up: Direction, down: Direction) -> tuple[int | None, int | None]:
    """Median and maximum, over sessions and directions, of the longest time between two arrivals."""
    longest = [direction.longest_gap_ns[s] for direction in (up, down) for s in base]
    return (int(median(longest)), max(longest)) if longest else (None, None)
