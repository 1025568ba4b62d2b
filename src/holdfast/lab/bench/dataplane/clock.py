"""Time as on a machine of our own: what other processes took on this thread's processor does not count.

What the kernel's own thread for receiving (ksoftirqd) took there does: it forwards our packets.
"""

import os
import time
from functools import cache
from pathlib import Path


class Stopwatch:
    """Runs from its making. The thread must stay on one processor."""

    def __init__(self) -> None:
        self._wall, self._waited, self._helped = self._now()

    def seconds(self) -> float:
        """So far."""
        wall, waited, helped = (
            now - then
            for now, then in zip(self._now(), (self._wall, self._waited, self._helped), strict=True)
        )
        return wall - max(0.0, waited - helped)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        softirqs = _ksoftirqd(max(os.sched_getaffinity(0)))
        _, waited = _schedstat("thread-self")
        return time.perf_counter(), waited, _schedstat(softirqs)[0] if softirqs else 0.0


@cache
def _ksoftirqd(processor: int) -> str:
    """The kernel's thread, "" where it cannot be seen."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().strip() == f"ksoftirqd/{processor}":
                return comm.parent.name
        except OSError:  # the process has ended
            continue
    return ""


def _schedstat(task: str) -> tuple[float, float]:
    """Seconds that a thread ran, and that it waited for a processor."""
    ran, waited, _ = Path(f"/proc/{task}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9
