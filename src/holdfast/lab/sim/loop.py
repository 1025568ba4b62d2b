"""The event loop of one simulated process, in virtual time. What it was to do later ends with the process."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from holdfast.core.clock import SECOND, Instant


class Timer:
    """Something to do later, unless it is taken back."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Take it back."""
        self._callback = None

    @property
    def live(self) -> bool:
        """Whether it is still to be done."""
        return self._callback is not None

    def run(self) -> None:
        """Do it, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class VirtualLoop:
    """Timers in order of time, those of one instant in the order in which they were asked for."""

    def __init__(self, clock: Callable[[], Instant]) -> None:
        self._clock = clock
        self._order = count()
        self._heap: list[tuple[Instant, int, Timer]] = []

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Do it in `delay` seconds."""
        timer = Timer(callback)
        heappush(self._heap, (self._clock() + round(delay * SECOND), next(self._order), timer))
        return timer

    def next(self) -> Instant | None:
        """When something is to be done."""
        heap = self._heap
        while heap and not heap[0][2].live:
            heappop(heap)
        return heap[0][0] if heap else None

    def run_next(self) -> None:
        """Do what comes first."""
        heappop(self._heap)[2].run()
