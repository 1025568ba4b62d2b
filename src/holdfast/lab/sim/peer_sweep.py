"""A crash at every effect boundary of one canonical life, in front of somebody else's daemon.

The network is calm. The life has a set-up, calls and clears from both sides, HELLOs after a quiet time, and calls
again; it may go on at other sequence numbers. While nobody is there the peer goes on as `Act` says.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.lab.sim.host import Host
from holdfast.lab.sim.peer_world import DOWNTIMES, PeerWorld
from holdfast.lab.sim.peers import ROLES
from holdfast.lab.sim.sweep import CALM, SEED
from holdfast.lab.sim.world import Verdict
from holdfast.records import Side

QUIET: Duration = 62 * SECOND
"""Every side that ever says HELLO has said it."""

LIFE: Duration = 80 * SECOND
REST: Duration = 100 * SECOND
AFTERWARDS: Duration = 6 * SECOND


class Act(Enum):
    """What the peer does during the outage."""

    NOTHING = "nothing"
    CDN = "CDN"
    HELLO = "HELLO"
    CALL = "a call, or CDN and HELLO"
    STOPCCN = "StopCCN"


PLACES: Final = ((0, 0), (65_530, 32_765), (32_765, 65_530))
"""Where our numbers and the peer's go on after the first calls; 0: as they are."""


class Acting(PeerWorld):
    """A calm world in which the peer does something during our outage."""

    def __init__(self, daemon: str, side: Side, away: Duration, act: Act) -> None:
        super().__init__(daemon, SEED, CALM, side)
        self._away, self._act = away, act

    def _prepare(self) -> None:
        super()._prepare()
        self.secret = b"shared secret"
        self.peaceful = True  # a crash is all that is to differ from one run to the next

    def act(self) -> None:
        """What the peer does while we are away."""
        peer = self.theirs.peer
        for tunnel in peer.established():
            if self._act in (Act.HELLO, Act.CALL):
                peer.hello(tunnel, self.now)
        if self._act is Act.CDN or (self._act is Act.CALL and self.ours.side is Side.LAC):
            self.hang_up()
        elif self._act is Act.CALL:
            self.theirs.dial(self.random, self.now)
        elif self._act is Act.STOPCCN:
            self.theirs.stop(self.random, self.now)

    def hang_up(self) -> None:
        """The peer ends a session."""
        self.theirs.hang_up(self.random, self.now)

    def _crashed(self, host: Host, other: Host) -> None:
        super()._crashed(host, other)
        self.at(self.now + self._away // 2, self.act)

    def _downtime(self) -> Duration:
        return self._away


class Life(Acting):
    """The canonical life in front of a daemon."""

    def __init__(self, daemon: str, side: Side, away: Duration, act: Act, numbers: tuple[int, int]) -> None:
        super().__init__(daemon, side, away, act)
        self._numbers = numbers

    def begin(self) -> None:
        """Start, and plan the life."""
        self.ours.start(self.now)
        second = SECOND
        for at in (0, 1, 1, 1, 2, 2, 2, 9, 9):
            self.at(self.begun + at * second, self.dial)
        self.at(self.begun + 3 * second, self.clear)
        self.at(self.begun + 4 * second, self.hang_up)
        self.at(self.begun + 7 * second, lambda: self.renumber(*self._numbers))
        self.at(self.begun + 10 * second, self.clear)
        self.at(self.begun + 10 * second, self.hang_up)
        self.at(self.begun + 11 * second + QUIET, self.dial)
        self.at(self.begun + 12 * second + QUIET, self.hang_up)
        self.at(self.begun + 13 * second + QUIET, self.clear)

    def dial(self) -> None:
        """Whoever is LAC calls."""
        if self.ours.side is Side.LAC:
            if self.ours.running:
                self.machine_host.perform(self.machine.call(self.now))
            return
        peer = self.theirs.peer
        tunnel = next((t for t in peer.tunnels.values() if not t.ended), None)
        if tunnel is None:
            peer.open(self.now)
            self.at(self.now + SECOND, self.dial)
        elif tunnel.up:
            peer.dial(tunnel, self.now)

    def clear(self) -> None:
        """We end a session."""
        if self.ours.running:
            self.machine_host.perform(self.machine.clear(self.now))

    def judge(self) -> Verdict:
        """Let it end, call once more, and say whether everything is as it must be."""
        self.until(self.begun + LIFE)
        self.until(self.now + REST)
        before = self.ours.held() & self.theirs.held()
        self.dial()
        self.until(self.now + AFTERWARDS)
        if not (self.ours.held() & self.theirs.held()) - before:
            self._note("a call that is placed afterwards does not come up")
        return self.verdict()


def boundaries(daemon: str, side: Side, numbers: tuple[int, int]) -> int:
    """How many effects the life has."""
    life = Life(daemon, side, SECOND, Act.NOTHING, numbers)
    life.begin()
    life.until(life.begun + LIFE)
    return life.ours.effects


def crash(daemon: str, side: Side, at: int, away: Duration, act: Act, numbers: tuple[int, int]) -> Verdict:
    """One life with a crash."""
    life = Life(daemon, side, away, act, numbers)
    life.ours.effects_until_crash = at
    life.begin()
    return life.judge()


def aways(daemon: str) -> Sequence[Duration]:
    """Outages that a daemon has the patience for."""
    return DOWNTIMES[:3] if daemon == "go-l2tp" else DOWNTIMES


def crashes(daemon: str, every: bool = False) -> Iterator[tuple[str, Verdict]]:
    """Crash at each boundary, in each role: once with outage, act and numbers in turn, or with `every` combination."""
    outages = aways(daemon)
    acts = list(Act)
    for side in ROLES[daemon]:
        places = [n for n in PLACES if daemon != "xl2tpd" or n[1] < 65_000]
        for numbers in places:
            for at in range(boundaries(daemon, side, numbers)):
                if every:
                    combinations = [(away, act) for away in outages for act in acts]
                else:
                    combinations = [(outages[at % len(outages)], acts[at % len(acts)])]
                for away, act in combinations:
                    verdict = crash(daemon, side, at, away, act, numbers)
                    yield place(side, at, away, act, numbers), verdict


def place(side: Side, at: Instant, away: Duration, act: Act, numbers: tuple[int, int]) -> str:
    """In words."""
    return f"peer is {side.name}, at {at}, for {away // MILLISECOND} ms, {act.value}, numbers {numbers}"
