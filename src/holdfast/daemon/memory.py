"""When the garbage collector runs: never by itself, because a full pass over 50,000 sessions takes 95 ms.

What a node keeps has no cycles and is freed by reference counting. So automatic collection is off, and what was
loaded is frozen: later passes do not look at it. Once a second, when little goes on, a pass looks at the crumbs that
exceptions and the control API leave. A burst of objects is new sessions: it is frozen without a look.
"""

import gc

BURST = 5_000
"""Young objects that no quiet second makes; a pass over more than these takes over 2 ms."""

CRUMBS = 700
"""Young objects that are worth a pass."""


def hold() -> None:
    """At the start of the process: from now on nothing is collected by itself."""
    gc.disable()


def keep_all() -> None:
    """What is in memory now stays: later passes leave it out."""
    gc.freeze()


def tidy(*, idle: bool) -> None:
    """Once a second: freeze a burst, sweep up crumbs."""
    young = gc.get_count()[0]
    if young >= BURST:
        gc.freeze()
    elif idle and young >= CRUMBS:
        gc.collect()
