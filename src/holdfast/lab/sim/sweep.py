"""A crash at every effect boundary of one canonical set-up and one canonical recovery, for each side.

The network is calm and nobody stirs, so that a run differs from the next in the place of the crash only. Each run is
yielded with a description of that place.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Final

import msgspec

from holdfast.core.clock import MILLISECOND, SECOND, Duration
from holdfast.lab.sim.node_world import Conditions, NodeWorld
from holdfast.lab.sim.world import Verdict, Weather
from holdfast.records import Side

CALM: Final = Weather(
    loss=0.0, duplicate=0.0, straggle=0.0, delay=2 * MILLISECOND, crashes=0, pace=SECOND, crowded=False
)
CANONICAL: Final = Conditions(
    subscribers=2,
    tunnels=1,
    echo_s=20,
    slow=0.0,
    failing=0.0,
    restless=0.0,
    relapse=0.0,
    away=300 * MILLISECOND,
    keeps_socket=False,
)
SETTLED: Duration = 10 * SECOND
REST: Duration = 150 * SECOND
"""Longer than every wait for a call, a tunnel or a closed tunnel's id."""

SEED: Final = 1


class Canonical(NodeWorld):
    """One tunnel and two sessions on a calm network, between nodes with RFC 4951 or without."""

    def __init__(self, *, advertise: bool = True) -> None:
        super().__init__(SEED, msgspec.structs.replace(CANONICAL, advertise=advertise), CALM)

    def begin(self) -> None:
        """Start both; every subscriber connects."""
        self.lns.start(self.now)
        self.lac.start(self.now)

    def settle(self) -> None:
        """Let everything that is under way come to its end."""
        self.until(self.now + SETTLED)

    def judge(self) -> Verdict:
        """Wait until everything must be at rest, and say whether it is."""
        self.until(self.now + REST)
        return self.verdict()


def crashes_in_set_up(victim: Side, *, advertise: bool = True) -> Iterator[tuple[str, Verdict]]:
    """Kill `victim` before the first, the second, … effect since its start; ends when the set-up has no more."""
    whole = Canonical(advertise=advertise)
    whole.begin()
    whole.settle()
    for boundary in range(whole.nodes[victim].effects):
        world = Canonical(advertise=advertise)
        world.nodes[victim].effects_until_crash = boundary
        world.begin()
        world.settle()
        yield f"{victim.name} at {boundary}", world.judge()


def crashes_in_recovery(
    failed: Sequence[Side], victims: Sequence[Side], *, advertise: bool = True
) -> Iterator[tuple[str, Verdict]]:
    """`failed` are killed after the set-up; then each of `victims` once more, at every combination of boundaries."""
    whole = _recovery(failed, {}, advertise=advertise)
    for boundaries in product(*(range(whole.nodes[victim].effects) for victim in victims)):
        crashes = dict(zip(victims, boundaries, strict=True))
        place = ", ".join(f"{v.name} at {n}" for v, n in crashes.items())
        yield place, _recovery(failed, crashes, advertise=advertise).judge()


def _recovery(failed: Sequence[Side], boundaries: Mapping[Side, int], *, advertise: bool) -> Canonical:
    world = Canonical(advertise=advertise)
    world.begin()
    world.settle()
    for side in failed:
        world.nodes[side].crash()
    for side in Side:
        world.nodes[side].effects = 0
        world.nodes[side].effects_until_crash = boundaries.get(side)
    world.settle()
    return world
