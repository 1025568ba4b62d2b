"""When the garbage collector runs: never by itself, because a full pass over 50,000 sessions takes 95 ms.

What a node keeps has no cycles and is freed by reference counting. So automatic collection is off, what was loaded
is frozen (later passes do not look at it), and what is young is looked at once a second: after a burst of new
sessions a short pass, and then they are frozen too; when nothing else goes on, a full pass over the small rest.
"""

import gc

BURST = 20_000
"""Young objects after which a pass is due even under load: about 2 ms of work."""

CRUMBS = 1_000
"""Young objects that are worth a pass when idle."""


def hold() -> None:
    """At the start of the process: from now on nothing is collected by itself."""
    gc.disable()


def keep_all() -> None:
    """What is in memory now stays: later passes leave it out."""
    gc.freeze()


def tidy(*, idle: bool) -> None:
    """Once a second: collect what is young, as far as that does not hold up the node."""
    young = gc.get_count()[0]
    if young >= BURST:
        gc.collect(0)
        gc.freeze()
    elif idle and young >= CRUMBS:
        gc.collect()
