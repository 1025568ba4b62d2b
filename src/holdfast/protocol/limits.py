"""Cheap limits in front of everything that costs memory."""

from holdfast.core.clock import SECOND, Instant


class TokenBucket:
    """Admits `per_second` events a second, with bursts of as many."""

    __slots__ = ("_at", "_per_second", "_tokens")

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._tokens = float(per_second)
        self._at: Instant | None = None

    def take(self, now: Instant) -> bool:
        """Whether one more event is within the limit at `now`."""
        if self._at is not None:
            earned = (now - self._at) * self._per_second / SECOND
            self._tokens = min(float(self._per_second), self._tokens + earned)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
