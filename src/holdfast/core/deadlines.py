"""One earliest deadline for many machines: a heap whose outdated entries are dropped when they surface.

Invariants: a key has at most one deadline; `due` returns a key once and forgets it (one-shot, the owner sets it
again). Of each key one heap entry counts, the earliest; others are dropped when they surface, so that a deadline that
moves to and fro for years costs no memory. Moving it later is a dictionary write: its entry is corrected on surfacing.
"""

from collections.abc import Hashable
from heapq import heappop, heappush, heapreplace
from typing import Generic, TypeVar

from holdfast.core.clock import Instant

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """Deadlines by key, with the earliest at hand. Keys must be orderable among themselves."""

    __slots__ = ("_at", "_heap", "_queued")

    def __init__(self) -> None:
        self._at: dict[K, Instant] = {}
        self._queued: dict[K, Instant] = {}
        self._heap: list[tuple[Instant, K]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: K, at: Instant | None) -> None:
        """Give `key` the deadline `at`; None takes its deadline away."""
        if at is None:
            self._at.pop(key, None)
            return
        self._at[key] = at
        queued = self._queued.get(key)
        if queued is None or at < queued:
            self._queued[key] = at
            heappush(self._heap, (at, key))

    def next(self) -> Instant | None:
        """The earliest deadline, or None if there is none."""
        heap, at_of, queued = self._heap, self._at, self._queued
        while heap:
            at, key = heap[0]
            if queued.get(key) != at:
                heappop(heap)
                continue
            current = at_of.get(key)
            if current == at:
                return at
            if current is None:
                heappop(heap)
                del queued[key]
            else:
                heapreplace(heap, (current, key))
                queued[key] = current
        return None

    def due(self, now: Instant) -> list[K]:
        """The keys whose deadline has come, earliest first; their deadlines are gone."""
        ready: list[K] = []
        while (at := self.next()) is not None and at <= now:
            key = heappop(self._heap)[1]
            del self._at[key], self._queued[key]
            ready.append(key)
        return ready
