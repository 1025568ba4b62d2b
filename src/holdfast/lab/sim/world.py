"""One simulated history: trouble for a while, then peace, then the verdict.

Everything is drawn from the seed: the network's loss, delay, duplicates and stragglers, what subscribers do, when
which host crashes, how long a commit takes. In peace the network is perfect and nobody does anything; long after,
both hosts must agree on every session, and nothing may be left over.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

import msgspec

from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.lab.sim.host import Commit, Host, MachineHost
from holdfast.lab.sim.machine import EndpointMachine, Machine, Pairing
from holdfast.protocol.effects import Address
from holdfast.records import Side

ADDRESSES: Final[dict[Side, Address]] = {Side.LAC: ("192.0.2.2", 1701), Side.LNS: ("192.0.2.1", 1701)}
OPPOSITE: Final = {Side.LAC: Side.LNS, Side.LNS: Side.LAC}
SECRET = b"failover-secret"

TROUBLE: Duration = 40 * SECOND
PEACE: Duration = 400 * SECOND
"""Longer than HELLO interval, Recovery Time and every linger together: whoever is alone has noticed."""

HARSH = 0.1
"""With more loss than this a recovery may fail honestly; both sides must still agree in the end."""


class Crowded(Random):
    """Chance that draws ids from a small space, so that a restarted process reuses those it has forgotten (F-69)."""

    def randbytes(self, n: int) -> bytes:
        """Two octets are an id: 1…64, mostly."""
        drawn = super().randbytes(n)
        return bytes((0, drawn[1] & 0x3F)) if n == 2 else drawn


class Weather(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How bad one history is. Probabilities per datagram, delays in microseconds, events in the time of trouble."""

    loss: float
    duplicate: float
    straggle: float
    delay: Duration
    crashes: int
    pace: Duration
    crowded: bool


def draw_weather(random: Random) -> Weather:
    """From a calm network with one crash to a terrible one with several."""
    return Weather(
        loss=random.choice((0.0, 0.0, 0.03, 0.1, 0.3)),
        duplicate=random.choice((0.0, 0.05, 0.2)),
        straggle=random.choice((0.0, 0.02, 0.1)),
        delay=random.choice((2, 20, 80)) * MILLISECOND,
        crashes=random.choice((1, 1, 2, 3, 5)),
        pace=random.choice((100, 300, 1000)) * MILLISECOND,
        crowded=random.random() < 0.4,
    )


class Verdict(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a history ended. `problems` is empty if all is well."""

    seed: int
    weather: Weather
    problems: tuple[str, ...]
    sessions: int
    survivors: int
    crashes: int
    failed_recoveries: int


Boot = Callable[[Side, Address, Address, Random], Machine]


def boot_endpoint(side: Side, address: Address, peer: Address, random: Random) -> Machine:
    """The control protocol alone."""
    return EndpointMachine(side, address, peer, SECRET, random)


class World:
    """Two hosts, the network between them, and virtual time."""

    def __init__(self, seed: int, boot: Boot = boot_endpoint) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.weather = draw_weather(self.random)
        self.now: Instant = 1_000 * SECOND
        self.peaceful = False
        self.expected: set[Pairing] = set()
        self.crashes = 0
        self._boot = boot
        self._order = count()
        self._events: list[tuple[Instant, int, Callable[[], None]]] = []
        self._prepare()
        self.lac, self.lns = (self._host(side) for side in (Side.LAC, Side.LNS))
        self.lac.on_crash = lambda: self._crashed(self.lac, self.lns)
        self.lns.on_crash = lambda: self._crashed(self.lns, self.lac)

    def _prepare(self) -> None:
        """What hosts need before they are made."""

    def _host(self, side: Side) -> Host:
        address, peer = ADDRESSES[side], ADDRESSES[OPPOSITE[side]]
        chance = self._chance()
        return MachineHost(
            side,
            address,
            lambda: self._boot(side, address, peer, chance),
            lambda data, to: self._transmit(data, address, to),
            self._commit_later,
        )

    def _chance(self) -> Random:
        """A node's own chance."""
        seed = self.random.getrandbits(64)
        return Crowded(seed) if self.weather.crowded else Random(seed)

    def at(self, when: Instant, do: Callable[[], None]) -> None:
        """Do something at an instant."""
        heappush(self._events, (when, next(self._order), do))

    def _transmit(self, data: bytes, source: Address, to: Address) -> None:
        weather, random = self.weather, self.random
        target = self.lac if to[0] == ADDRESSES[Side.LAC][0] else self.lns
        if self.peaceful:
            self.at(self.now + MILLISECOND, lambda: target.receive(data, source, self.now))
            return
        if random.random() < weather.loss:
            return
        for _ in range(2 if random.random() < weather.duplicate else 1):
            delay = MILLISECOND + random.randrange(weather.delay)
            if random.random() < weather.straggle:
                delay += random.randrange(10 * SECOND)
            self.at(self.now + delay, lambda: target.receive(data, source, self.now))

    def _commit_later(self, commit: Commit) -> None:
        self.at(self.now + MILLISECOND + self.random.randrange(40 * MILLISECOND), commit)

    def _stir(self) -> None:
        self.random.choice((self.lac, self.lac, self.lns)).stir(self.random, self.now)

    def _plan_crash(self) -> None:
        """Somebody will crash a few effects from now; sometimes both."""
        victims = [self.lac, self.lns]
        self.random.shuffle(victims)
        for host in victims[: self._victims()]:
            if host.running:
                host.effects_until_crash = self._crash_distance()

    def _victims(self) -> int:
        return self.random.choice((1, 1, 2))

    def _crash_distance(self) -> int:
        return self.random.randrange(12)

    def _crashed(self, host: Host, other: Host) -> None:
        self._firm(host, other)
        self.crashes += 1
        self.at(self.now + self._downtime(), lambda: self._restart(host))

    def _firm(self, host: Host, other: Host) -> None:
        """Work out which sessions must survive: recorded here and held over there, as far as they still can."""
        recorded = host.recorded()
        self.expected -= host.held() - recorded
        self.expected |= recorded & other.held()

    def _downtime(self) -> Duration:
        random = self.random
        return 50 * MILLISECOND + random.randrange(random.choice((200 * MILLISECOND, 6 * SECOND)))

    def _restart(self, host: Host) -> None:
        host.start(self.now)

    def _step(self, end: Instant) -> bool:
        """The next event or deadline; False when there is none before `end`."""
        deadlines = [
            (at, i, host)
            for i, host in enumerate((self.lac, self.lns))
            if (at := host.deadline()) is not None
        ]
        timer = min(deadlines, key=lambda d: d[:2], default=None)
        if self._events and (timer is None or self._events[0][0] <= timer[0]):
            if self._events[0][0] > end:
                return False
            when, _, do = heappop(self._events)
            self.now = max(self.now, when)
            do()
            return True
        if timer is None or timer[0] > end:
            return False
        self.now = max(self.now, timer[0])
        timer[2].timer(self.now)
        return True

    def until(self, end: Instant) -> None:
        """Let time pass."""
        while self._step(end):
            pass
        self.now = end

    def run(self) -> Verdict:
        """The whole history."""
        begin = self.now
        self.lac.start(begin)
        self.lns.start(begin)
        at = begin
        while (at := at + 1 + self.random.randrange(2 * self.weather.pace)) < begin + TROUBLE:
            self.at(at, self._stir)
        for _ in range(self.weather.crashes):
            self.at(begin + 5 * SECOND + self.random.randrange(TROUBLE - 5 * SECOND), self._plan_crash)
        self.until(begin + TROUBLE)
        self.peaceful = True
        for host in (self.lac, self.lns):
            host.effects_until_crash = None
        self.until(self.now + PEACE)
        end = self.now + SECOND
        while self._events and self.now < end:  # a HELLO that happens to be under way, and its answer
            self.until(self.now + MILLISECOND)
        return self.verdict()

    def _inexcusable(self, must: set[Pairing]) -> set[Pairing]:
        """Of the sessions that must have survived, those for whose loss there is no excuse."""
        return must

    def verdict(self) -> Verdict:
        """What is wrong now, when everything should be at rest."""
        lac, lns = self.lac, self.lns
        problems = [f"{host.side.name}: {text}" for host in (lac, lns) for text in host.problems()]
        if lac.held() != lns.held():
            problems.append(
                f"only at the LAC {lac.held() - lns.held()}, only at the LNS {lns.held() - lac.held()}"
            )
        must = self._inexcusable(self.expected - lac.ended_on_purpose() - lns.ended_on_purpose())
        if self.weather.loss <= HARSH and (lost := must - lac.held()):
            problems.append(f"lost {sorted(lost)}")
        return Verdict(
            seed=self.seed,
            weather=self.weather,
            problems=tuple(problems),
            sessions=len(lac.held()),
            survivors=len(must & lac.held()),
            crashes=self.crashes,
            failed_recoveries=lac.failed_recoveries() + lns.failed_recoveries(),
        )


def simulate(seed: int, boot: Boot = boot_endpoint) -> Verdict:
    """Run the history of one seed."""
    return World(seed, boot).run()
