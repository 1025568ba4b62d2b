"""What the load generator and its helper on the core side tell each other."""

import msgspec

from holdfast.core.clock import SECOND

LINGER = 2 * SECOND
"""Receiving goes on for this long after the last send."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. `subscribers`: address and session index; `down`: packets per second over all of them."""

    address: str
    port: int
    down: int
    size: int
    seconds: float
    subscribers: list[tuple[str, int]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Gaps in microseconds; `up_session_gap` is the longest within any one session."""

    up_received: int
    up_sessions: int
    up_gap: int
    up_session_gap: int
    down_due: int
    down_sent: int
    cpu_share: float
