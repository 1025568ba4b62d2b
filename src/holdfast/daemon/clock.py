"""What the machines of a running node are given of the world: its clocks and its chance."""

import os
import time

from holdfast.core.clock import Instant


def monotonic_us() -> Instant:
    """The node's clock."""
    return time.monotonic_ns() // 1000


def utc_us() -> int:
    """Wall-clock time, for records and people."""
    return time.time_ns() // 1000


class Chance:
    """The kernel's random octets, drawn a page at a time: a set-up takes them in five small portions."""

    def __init__(self) -> None:
        self._page = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """`count` octets that nobody has had before."""
        end = self._at + count
        if end > len(self._page):
            self._page, self._at, end = os.urandom(max(count, 4096)), 0, count
        start, self._at = self._at, end
        return self._page[start:end]
