"""A host that runs a whole node: the real `Node` and `Runner`, with virtual socket, journal, data plane and clock.

Invariants: a crash falls before an effect that the world can see (a datagram, a change of the data plane, a
submission to the journal, a commit, its answer) and takes everything but the disk with it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from random import Random

from holdfast.core.clock import Instant
from holdfast.daemon.config import Config
from holdfast.daemon.effects import Log
from holdfast.lab.sim.host import Disk, Transmit
from holdfast.lab.sim.journal import Luck
from holdfast.lab.sim.machine import Pairing, pairing
from holdfast.lab.sim.node_checks import unsettled
from holdfast.lab.sim.process import Killed, Process
from holdfast.protocol.effects import Address
from holdfast.records import PppRecord, Side

BACKLOG = 64
"""Datagrams that a socket keeps which outlives its process (systemd's store)."""

FAULTS = frozenset(("node.fault", "machine.fault", "record.quarantined"))
"""Events that nothing which happens outside excuses."""


class NodeHost:
    """See `lab.sim.host.Host`."""

    def __init__(
        self,
        side: Side,
        config: Config,
        chance: Random,
        clock: Callable[[], Instant],
        draw: Callable[[], Luck],
        transmit: Transmit,
        keeps_socket: bool = False,
    ) -> None:
        self.side = side
        self.address: Address = (config.listen.address, config.listen.port)
        self.disk = Disk()
        self.effects_until_crash: int | None = None
        self.on_crash: Callable[[], None] = lambda: None
        self.process: Process | None = None
        self.effects = 0
        """Effects that the world has seen."""
        self.events: dict[str, int] = {}
        """How often each event was logged."""
        self.watch: Callable[[Log], None] = lambda log: None
        self.overhear: Callable[[bytes], None] = lambda data: None
        """Is told of every datagram that comes while there is a process."""
        self._config, self._chance, self._clock, self._draw = config, chance, clock, draw
        self._transmit, self._keeps_socket = transmit, keeps_socket
        self._backlog: deque[tuple[bytes, Address]] = deque(maxlen=BACKLOG)
        self._cleared: set[Pairing] = set()
        self._faults: list[str] = []
        self._commits_failed = 0

    @property
    def running(self) -> bool:
        """See `Host`."""
        return self.process is not None

    def start(self, now: Instant) -> None:
        """See `Host`."""
        self.process = process = Process(
            self._config,
            self.disk,
            self._chance,
            self._clock,
            self._draw,
            self._boundary,
            self._transmit,
            self._log,
        )
        self._turn(lambda: process.begin(self.disk, now))
        while self._backlog and self.process is process:
            self.receive(*self._backlog.popleft(), now)

    def crash(self) -> None:
        """See `Host`."""
        process = self.process
        if process is not None:
            self.on_crash()
            self._faults += process.outbursts
            self._commits_failed += process.runner.commit_failures
            self.process = None
            self.effects_until_crash = None

    def receive(self, data: bytes, source: Address, now: Instant) -> None:
        """See `Host`."""
        process = self.process
        if process is not None:
            self.overhear(data)
            self._turn(lambda: process.arrive(data, source))
        elif self._keeps_socket:
            self._backlog.append((data, source))

    def timer(self, now: Instant) -> None:
        """See `Host`."""
        if self.process is not None:
            self._turn(self.process.loop.run_next)

    def deadline(self) -> Instant | None:
        """See `Host`."""
        return self.process.loop.next() if self.process is not None else None

    def _turn(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Killed:
            self.crash()

    def _boundary(self) -> None:
        """The world is about to see an effect."""
        if self.effects_until_crash is not None:
            if self.effects_until_crash == 0:
                raise Killed
            self.effects_until_crash -= 1
        self.effects += 1

    def _log(self, log: Log) -> None:
        self.watch(log)
        self.events[log.event] = self.events.get(log.event, 0) + 1
        if log.event in FAULTS:
            self._faults.append(f"{log.event}: {log.fields}")

    # What people do.

    def stir(self, random: Random, now: Instant) -> None:
        """Subscribers come and go; operators clear sessions, rarely a whole tunnel."""
        process = self.process
        if process is None:
            return
        what = random.random()
        if self.side is Side.LAC and what > 0.4:
            name = random.choice(self._config.subscriber).name
            self.connect(name) if what > 0.55 else self.disconnect(name)
        elif what < 0.06 and process.node.lines:
            self.clear_session(random.choice(list(process.node.lines)))
        elif 0.06 <= what < 0.07 and (tunnels := process.node.endpoint.ctx.established()):
            self.clear_tunnel(random.choice(tunnels).local_id)

    def connect(self, name: str) -> None:
        """A subscriber is told to connect."""
        process = self.process
        if process is not None:
            process.hung_up.discard(name)
            self._turn(lambda: process.runner.perform(lambda now: process.node.subscriber_up(name, now)))

    def disconnect(self, name: str) -> None:
        """A subscriber is told to disconnect."""
        process = self.process
        if process is not None:
            process.hung_up.add(name)
            self._cleared |= self._named(k for k, line in process.node.lines.items() if line.user == name)
            self._turn(lambda: process.runner.perform(lambda now: process.node.subscriber_down(name, now)))

    def clear_session(self, key: int) -> None:
        """An operator ends a session."""
        process = self.process
        if process is not None:
            self._cleared |= self._named([key])
            self._turn(lambda: process.runner.perform(lambda now: process.node.clear_session(key, now)))

    def clear_tunnel(self, tunnel_id: int) -> None:
        """An operator ends a tunnel."""
        process = self.process
        if process is not None:
            lines = process.node.lines
            self._cleared |= self._named(k for k, line in lines.items() if line.tunnel_id == tunnel_id)
            self._turn(lambda: process.runner.perform(lambda now: process.node.clear_tunnel(tunnel_id, now)))

    # What is there.

    def _named(self, keys: Iterable[int]) -> set[Pairing]:
        """Sessions by the names that both ends have for them; those without a PPP record have none yet."""
        assert self.process is not None
        lines = self.process.node.lines
        return {
            named(self.side, line.tunnel_id, line.session_id, line.tunnel.peer_id, line.session.peer_id, ppp)
            for line in map(lines.__getitem__, keys)
            if (ppp := line.link.record) is not None
        }

    def held(self) -> set[Pairing]:
        """See `Host`."""
        return self._named(self.process.node.lines) if self.process is not None else self.recorded()

    def recorded(self) -> set[Pairing]:
        """See `Host`."""
        tunnels = self.disk.tunnels
        return {
            named(self.side, s.tunnel_id, s.local_id, tunnels[s.tunnel_id].peer_id, s.peer_id, s.ppp)
            for s in self.disk.sessions.values()
            if s.tunnel_id in tunnels and s.ppp is not None
        }

    @property
    def commits_failed(self) -> int:
        """Lanes that have gone on without their commit, in all lives."""
        running = self.process.runner.commit_failures if self.process is not None else 0
        return self._commits_failed + running

    def ended_on_purpose(self) -> set[Pairing]:
        """See `Host`."""
        return self._cleared

    def problems(self) -> list[str]:
        """See `Host`."""
        process = self.process
        if process is None:
            return ["did not come back", *self._faults]
        return [*self._faults, *process.outbursts, *unsettled(process, self._config, self.disk)]

    def failed_recoveries(self) -> int:
        """See `Host`."""
        return self.events.get("recovery.failed", 0)


def named(
    side: Side, local_tunnel: int, local_session: int, peer_tunnel: int, peer_session: int, ppp: PppRecord
) -> Pairing:
    """A session and what its PPP agreed on, the same from either side."""
    ids = pairing(side, local_tunnel, local_session, peer_tunnel, peer_session)
    local, peer = ppp.local_lcp.magic, ppp.peer_lcp.magic
    if side is Side.LAC:
        return ids._replace(address=ppp.local_ip, lac_magic=local, lns_magic=peer)
    return ids._replace(address=ppp.peer_ip, lac_magic=peer, lns_magic=local)
