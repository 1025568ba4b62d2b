"""A host of the simulation: a disk that outlives crashes, and a process that carries out effects in lanes.

Invariants: a `Persist` holds back the later effects of its lane until it is committed, and no others; writes commit
in the order in which they were submitted; a crash loses what is not committed and everything in memory, between any
two effects.
"""

from collections import deque
from collections.abc import Callable

from holdfast.core.clock import Instant
from holdfast.lab.sim.machine import Machine, Pairing, pairing
from holdfast.protocol.effects import Address, Effect, Persist, Send
from holdfast.records import SessionRecord, Side, TunnelRecord, session_key, split_key
from holdfast.records.writes import ForgetSession, ForgetTunnel, Save, Write

Commit = Callable[[], None]


class Disk:
    """The records of one host."""

    def __init__(self) -> None:
        self.tunnels: dict[int, TunnelRecord] = {}
        self.sessions: dict[int, SessionRecord] = {}

    def apply(self, writes: tuple[Write, ...]) -> None:
        """Make writes durable."""
        for write in writes:
            match write:
                case Save(TunnelRecord() as record):
                    self.tunnels[record.local_id] = record
                case Save(SessionRecord() as record):
                    self.sessions[session_key(record.tunnel_id, record.local_id)] = record
                case ForgetTunnel(tunnel_id):
                    self.tunnels.pop(tunnel_id, None)
                    for key in [k for k in self.sessions if split_key(k)[0] == tunnel_id]:
                        del self.sessions[key]
                case ForgetSession(key):
                    self.sessions.pop(key, None)

    def pairings(self, side: Side) -> set[Pairing]:
        """The sessions whose record would be restored."""
        return {
            pairing(side, s.tunnel_id, s.local_id, self.tunnels[s.tunnel_id].peer_id, s.peer_id)
            for s in self.sessions.values()
            if s.tunnel_id in self.tunnels
        }


class Host:
    """One node with its disk. `send` gives a datagram to the network, `commit_later` delays a commit."""

    def __init__(
        self,
        side: Side,
        address: Address,
        boot: Callable[[], Machine],
        send: Callable[["Host", bytes, Address], None],
        commit_later: Callable[["Host", Commit], None],
    ) -> None:
        self.side, self.address = side, address
        self.disk = Disk()
        self.machine: Machine | None = None
        self.cleared: set[Pairing] = set()
        self.effects_until_crash: int | None = None
        self.on_crash: Callable[[Host], None] = lambda host: None
        self.news: list[Effect] = []
        self._boot, self._send, self._commit_later = boot, send, commit_later
        self._lanes: dict[int, deque[Effect]] = {}
        self._submitted: deque[tuple[int, tuple[Write, ...]]] = deque()
        self._epoch = 0

    def start(self, now: Instant) -> None:
        """A new process."""
        self.machine = self._boot()
        disk = self.disk
        self.perform(self.machine.start(list(disk.tunnels.values()), list(disk.sessions.values()), now))

    def crash(self) -> None:
        """SIGKILL."""
        machine = self.machine
        if machine is None:
            return
        self.on_crash(self)
        self.cleared |= machine.cleared
        self.machine = None
        self.effects_until_crash = None
        self._epoch += 1
        self._lanes.clear()
        self._submitted.clear()

    def held(self) -> set[Pairing]:
        """The sessions that this host has now, or would restore if it is down."""
        return self.machine.sessions() if self.machine is not None else self.disk.pairings(self.side)

    def ended_on_purpose(self) -> set[Pairing]:
        """Sessions that somebody here ended, in this process or an earlier one."""
        return self.cleared | (self.machine.cleared if self.machine is not None else set())

    def perform(self, effects: list[Effect]) -> None:
        """Carry out effects in order, each in its lane."""
        for effect in effects:
            if self.machine is None:
                return
            lane = effect.lane if isinstance(effect, Send | Persist) else 0
            blocked = self._lanes.get(lane)
            if blocked is not None:
                blocked.append(effect)
            else:
                self._one(effect, lane)

    def _one(self, effect: Effect, lane: int) -> None:
        if self.effects_until_crash is not None:
            if self.effects_until_crash == 0:
                self.crash()
                return
            self.effects_until_crash -= 1
        if isinstance(effect, Send):
            self._send(self, effect.data, effect.to)
        elif isinstance(effect, Persist):
            self._lanes[lane] = deque()
            self._submitted.append((lane, effect.writes))
            epoch = self._epoch
            self._commit_later(self, lambda: self._commit(epoch))
        else:
            self.news.append(effect)

    def _commit(self, epoch: int) -> None:
        """The disk has everything that was submitted; its lanes go on."""
        if epoch != self._epoch:
            return
        ready = []
        while self._submitted:
            lane, writes = self._submitted.popleft()
            self.disk.apply(writes)
            ready.append(lane)
        for lane in ready:
            waiting = self._lanes.pop(lane, None)
            if waiting is not None:
                self.perform(list(waiting))
