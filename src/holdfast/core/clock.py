"""Time as integer microseconds of the monotonic clock.

An `Instant` reaches a machine as the argument `now`; no machine reads a clock. Instants are never written to a
record: they mean nothing to the next process. Records hold durations and UTC (`*_utc_us`).
"""

from typing import TypeAlias

Instant: TypeAlias = int
"""Microseconds of the monotonic clock; only differences mean anything."""

Duration: TypeAlias = int
"""Microseconds."""

MILLISECOND: Duration = 1_000
SECOND: Duration = 1_000_000
