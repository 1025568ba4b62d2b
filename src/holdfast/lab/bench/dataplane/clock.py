"""Time as on a machine of our own: what other processes took on this thread's processor does not count."""

import time
from pathlib import Path


class Stopwatch:
    """Runs from its making. The thread must stay on one processor."""

    def __init__(self) -> None:
        self._wall, self._waited = _now()

    def seconds(self) -> float:
        """So far."""
        wall, waited = _now()
        return wall - self._wall - (waited - self._waited)


def _now() -> tuple[float, float]:
    """The time, and how long this thread has waited for a processor so far."""
    _, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    return time.perf_counter(), int(waited) / 1e9
