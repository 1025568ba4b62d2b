"""How fast a node may speak because of its own restart: the one rule, for every tunnel and session together.

Time is cut into ticks; per tick at most so many probes go out and so many sessions are asked for a sign of life. A
probe and the HELLO that proves its answer are four datagrams both ways, so 1,000 silent peers cost 4,000 of them in
half a second. (RFC 4951 recoveries are bounded by how many run at once: `FailoverSettings.parallel`.)
"""

from typing import Final

from holdfast.core.clock import MILLISECOND, Duration

TICK: Final[Duration] = 10 * MILLISECOND

PROBES_PER_TICK: Final = 20
"""Probes of silent resynchronisations, first and repeated ones: 2,000 in a second, so that 1,000 tunnels have had
theirs within half a second.
"""

ECHOES_PER_TICK: Final = 10
"""Sessions asked whether they forward: 1,000 in a second, a tenth of one core at most, beside the traffic."""


ORPHANS_PER_SECOND: Final = 100
"""Calls lost in the restart that are ended at their peers; a peer names such a call again after a while."""

ORPHANS_PER_TUNNEL: Final = 10
"""The same for one tunnel, in a second."""
