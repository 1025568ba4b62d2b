"""A host of the simulation: a disk that outlives crashes, and a process that carries out effects in lanes.

Invariants: a `Persist` holds back the later effects of its lane until it is committed, and no others; writes commit
in the order in which they were submitted; a crash loses what is not committed and everything in memory, between any
two effects.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Protocol

import msgspec

from holdfast.core.clock import Instant
from holdfast.lab.sim.machine import Machine, Pairing, pairing
from holdfast.protocol.effects import Address, Called, Effect, Persist, Recovery, RecoveryPhase, Send
from holdfast.records import EndpointRecord, SessionRecord, Side, TunnelRecord, session_key, split_key
from holdfast.records.calls import CallsBefore
from holdfast.records.ledger import PeerKey, PeerRecord
from holdfast.records.writes import Alive, ForgetPeer, ForgetSession, ForgetTunnel, Hint, Save, Write
from holdfast.state.saved import Saved
from holdfast.state.told import Told, caught_up, in_message, read_place

Commit = Callable[[], None]
Transmit = Callable[[bytes, Address], None]


class Host(Protocol):
    """A machine in the world: it runs a node, can be killed, and starts again from its disk.

    `effects_until_crash` counts down; None: no crash is near. `on_crash` is called with the node still there.
    """

    side: Side
    address: Address
    effects_until_crash: int | None
    on_crash: Callable[[], None]

    @property
    def running(self) -> bool:
        """Whether there is a process."""

    def start(self, now: Instant) -> None:
        """A new process."""

    def crash(self) -> None:
        """SIGKILL."""

    def receive(self, data: bytes, source: Address, now: Instant) -> None:
        """A datagram arrives; nobody hears it if there is no process."""

    def timer(self, now: Instant) -> None:
        """The deadline has come."""

    def deadline(self) -> Instant | None:
        """When `timer` wants to be called."""

    def stir(self, random: Random, now: Instant) -> None:
        """Do one thing that a subscriber or an operator might do."""

    def held(self) -> set[Pairing]:
        """The sessions that this host has now, or would restore if it is down."""

    def recorded(self) -> set[Pairing]:
        """The sessions that a restart would restore."""

    def ended_on_purpose(self) -> set[Pairing]:
        """Sessions that somebody here ended, in this process or an earlier one."""

    def problems(self) -> list[str]:
        """What is wrong or not at rest."""

    def failed_recoveries(self) -> int:
        """How many recoveries have been given up."""


class Disk:
    """The records of one host."""

    def __init__(self) -> None:
        self.tunnels: dict[int, TunnelRecord] = {}
        self.sessions: dict[int, SessionRecord] = {}
        self.endpoint: EndpointRecord | None = None
        self.peers: dict[PeerKey, PeerRecord] = {}
        self.alive_utc_us = 0
        self.told: dict[int, Told] = {}
        self.calls: dict[tuple[int, int, int], int] = {}
        self.ever: set[tuple[int, ...]] = set()
        """The ids of every record there has been: of a tunnel both its own, of a session its tunnel's and both."""

    def saved(self) -> Saved:
        """What a journal would load. A session without its tunnel has no place in it."""
        sessions = [s for s in self.sessions.values() if s.tunnel_id in self.tunnels]
        return Saved(
            tunnels=caught_up(self.tunnels.values(), lambda i: self.told.get(i, (0, 0))),
            sessions=sessions,
            endpoint=self.endpoint,
            peers=list(self.peers.values()),
            alive_utc_us=self.alive_utc_us,
            calls=self.left_calls(),
        )

    def left_calls(self) -> CallsBefore:
        """As `state.calls` reads it."""
        left = dict(self.calls)
        return lambda *ids: left.get(ids, 0)

    def note(self, said: Mapping[int, bytes]) -> None:
        """As `state.told` does."""
        for tunnel_id, data in said.items():
            self.told[tunnel_id] = read_place(in_message(data))

    def note_call(self, tunnel_id: int, session_id: int, peer_tunnel: int, peer_session: int) -> None:
        """As `state.calls` does."""
        self.calls[tunnel_id, session_id, peer_tunnel] = peer_session

    def apply(self, writes: Iterable[Write]) -> None:
        """Make writes durable."""
        for write in writes:
            match write:
                case Save(TunnelRecord() as record):
                    self.tunnels[record.local_id] = record
                    self.ever.add((record.local_id, record.peer_id))
                case Save(SessionRecord() as record):
                    self.sessions[session_key(record.tunnel_id, record.local_id)] = record
                    self.ever.add((record.tunnel_id, record.local_id, record.peer_id))
                case Save(EndpointRecord() as record):
                    self.endpoint = record
                case Save(PeerRecord() as record):
                    self.peers[record.key] = record
                case ForgetPeer(name, host_name):
                    self.peers.pop((name, host_name), None)
                case Alive(utc_us):
                    self.alive_utc_us = utc_us
                case ForgetTunnel(tunnel_id):
                    self.tunnels.pop(tunnel_id, None)
                    for key in [k for k in self.sessions if split_key(k)[0] == tunnel_id]:
                        del self.sessions[key]
                case ForgetSession(key):
                    self.sessions.pop(key, None)
                case Hint(tunnel_id, acked, nr) if tunnel_id in self.tunnels:
                    record = self.tunnels[tunnel_id]
                    self.tunnels[tunnel_id] = msgspec.structs.replace(record, acked=acked, nr=nr)

    def pairings(self, side: Side) -> set[Pairing]:
        """The sessions whose record would be restored."""
        return {
            pairing(side, s.tunnel_id, s.local_id, self.tunnels[s.tunnel_id].peer_id, s.peer_id)
            for s in self.sessions.values()
            if s.tunnel_id in self.tunnels
        }


class MachineHost:
    """A host whose node is a `Machine`. `send` gives a datagram to the network, `commit_later` delays a commit."""

    def __init__(
        self,
        side: Side,
        address: Address,
        boot: Callable[[], Machine],
        send: Transmit,
        commit_later: Callable[[Commit], None],
    ) -> None:
        self.side, self.address = side, address
        self.disk = Disk()
        self.effects_until_crash: int | None = None
        self.effects = 0
        """Effects that have been carried out."""
        self.on_crash: Callable[[], None] = lambda: None
        self._machine: Machine | None = None
        self._cleared: set[Pairing] = set()
        self._failed_recoveries = 0
        self._boot, self._send, self._commit_later = boot, send, commit_later
        self._lanes: dict[int, deque[Effect]] = {}
        self._submitted: deque[tuple[int, tuple[Write, ...]]] = deque()
        self._epoch = 0

    @property
    def running(self) -> bool:
        """See `Host`."""
        return self._machine is not None

    def start(self, now: Instant) -> None:
        """See `Host`."""
        self._machine = self._boot()
        saved = self.disk.saved()
        self.perform(self._machine.start(saved.tunnels, saved.sessions, saved.calls, now))

    def crash(self) -> None:
        """See `Host`."""
        machine = self._machine
        if machine is None:
            return
        self.on_crash()
        self._cleared |= machine.cleared
        self._machine = None
        self.effects_until_crash = None
        self._epoch += 1
        self._lanes.clear()
        self._submitted.clear()

    def receive(self, data: bytes, source: Address, now: Instant) -> None:
        """See `Host`."""
        if self._machine is not None:
            self.perform(self._machine.datagram(data, source, now))

    def timer(self, now: Instant) -> None:
        """See `Host`."""
        if self._machine is not None:
            self.perform(self._machine.timer(now))

    def deadline(self) -> Instant | None:
        """See `Host`."""
        return self._machine.deadline() if self._machine is not None else None

    def stir(self, random: Random, now: Instant) -> None:
        """See `Host`."""
        if self._machine is not None:
            self.perform(self._machine.stir(random, now))

    def held(self) -> set[Pairing]:
        """See `Host`."""
        return self._machine.sessions() if self._machine is not None else self.recorded()

    def recorded(self) -> set[Pairing]:
        """See `Host`."""
        return self.disk.pairings(self.side)

    def ended_on_purpose(self) -> set[Pairing]:
        """See `Host`."""
        return self._cleared | (self._machine.cleared if self._machine is not None else set())

    def problems(self) -> list[str]:
        """See `Host`."""
        if self._machine is None:
            return ["did not come back"]
        found = self._machine.unsettled()
        if self.recorded() != self.held() or len(self.disk.sessions) != len(self.held()):
            found.append("the records are not the sessions")
        return found

    def failed_recoveries(self) -> int:
        """See `Host`."""
        return self._failed_recoveries

    def perform(self, effects: list[Effect]) -> None:
        """Carry out effects in order, each in its lane."""
        for effect in effects:
            if self._machine is None:
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
        self.effects += 1
        if isinstance(effect, Send):
            self.disk.note({lane: effect.data})
            self._send(effect.data, effect.to)
        elif isinstance(effect, Called):
            self.disk.note_call(effect.tunnel_id, effect.session_id, effect.peer_tunnel, effect.peer_session)
        elif isinstance(effect, Persist):
            self._lanes[lane] = deque()
            self._submitted.append((lane, effect.writes))
            epoch = self._epoch
            self._commit_later(lambda: self._commit(epoch))
        elif isinstance(effect, Recovery) and effect.phase is RecoveryPhase.FAILED:
            self._failed_recoveries += 1

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
