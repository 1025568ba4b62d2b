"""A whole node of ours killed at every effect boundary of one canonical life in front of somebody else's daemon.

The network is calm. Subscribers connect, both sides end a session, and new ones come; what the daemon does during the
outage, and how long that is, takes turns.
"""

from collections.abc import Iterator
from typing import Final

from holdfast.core.clock import MILLISECOND, SECOND, Duration
from holdfast.lab.sim.journal import Luck
from holdfast.lab.sim.peer_node_world import PeerNodeWorld
from holdfast.lab.sim.peer_sweep import Act, Acting, aways
from holdfast.lab.sim.peers import ROLES
from holdfast.lab.sim.world import Verdict
from holdfast.records import Side

BUSY: Duration = 9 * SECOND


class NodeLife(Acting, PeerNodeWorld):
    """The canonical life."""

    def _luck(self) -> Luck:
        return Luck(2 * MILLISECOND, succeeds=True)

    def begin(self) -> None:
        """Start, and plan the life."""
        self._restart(self.ours)
        second = SECOND
        if self.peer_side is Side.LAC:
            self.theirs.peer.open(self.now)
            for at in (1, 1, 2, 5):
                self.at(self.begun + at * second, lambda: self.theirs.dial(self.random, self.now))
        self.at(self.begun + 4 * second, self.clear)
        self.at(self.begun + 5 * second, self.hang_up)
        self.at(self.begun + 7 * second, self.hang_up)
        self.at(self.begun + 8 * second, self.clear)

    def clear(self) -> None:
        """We end a session."""
        process = self.node.process
        if process is not None and process.node.lines:
            self.node.clear_session(next(iter(process.node.lines)))

    def judge(self) -> Verdict:
        """Let it end, and say whether everything is as it must be."""
        self.until(self.begun + BUSY)
        return self.rest()


def boundaries(daemon: str, side: Side) -> int:
    """How many effects the life has."""
    life = NodeLife(daemon, side, SECOND, Act.NOTHING)
    life.begin()
    life.until(life.begun + BUSY)
    return life.ours.effects


def crash(daemon: str, side: Side, at: int, away: Duration, act: Act) -> Verdict:
    """One life with a crash."""
    life = NodeLife(daemon, side, away, act)
    life.ours.effects_until_crash = at
    life.begin()
    return life.judge()


def node_crashes(daemon: str, step: int = 1) -> Iterator[tuple[str, Verdict]]:
    """Crash at each boundary, or at one in `step`, in each role."""
    acts: Final = list(Act)
    for side in ROLES[daemon]:
        for at in range(0, boundaries(daemon, side), step):
            away, act = aways(daemon)[at % len(aways(daemon))], acts[at // 2 % len(acts)]
            place = f"peer is {side.name}, node at {at}, for {away // MILLISECOND} ms, {act.value}"
            yield place, crash(daemon, side, at, away, act)
