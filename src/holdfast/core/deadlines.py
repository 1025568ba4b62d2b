"""One earliest deadline for many machines: a heap whose outdated entries are dropped when they surface.

Invariant: a key has at most one deadline; `due` returns a key once and forgets it (one-shot, the owner sets it
again). Moving a deadline later costs one dictionary write: the heap entry is corrected when it surfaces.
"""

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

from holdfast.core.clock import Instant

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """Deadlines by key, with the earliest at hand. Keys must be orderable among themselves."""

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[K, Instant] = {}
        self._heap: list[tuple[Instant, K]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: K, at: Instant | None) -> None:
        """Give `key` the deadline `at`; None takes its deadline away."""
        if at is None:
            self._at.pop(key, None)
            return
        old = self._at.get(key)
        self._at[key] = at
        if old is None or at < old:
            heappush(self._heap, (at, key))

    def next(self) -> Instant | None:
        """The earliest deadline, or None if there is none."""
        heap, at_of = self._heap, self._at
        while heap:
            at, key = heap[0]
            current = at_of.get(key)
            if current == at:
                return at
            heappop(heap)
            if current is not None and current > at:
                heappush(heap, (current, key))
        return None

    def due(self, now: Instant) -> list[K]:
        """The keys whose deadline has come, earliest first; their deadlines are gone."""
        ready: list[K] = []
        while (at := self.next()) is not None and at <= now:
            key = heappop(self._heap)[1]
            del self._at[key]
            ready.append(key)
        return ready
