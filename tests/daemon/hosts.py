"""Whole nodes without I/O on a virtual wire in virtual time: an LNS and a LAC with subscribers."""

from collections import deque
from collections.abc import Callable
from random import Random

from msgspec import structs

from holdfast.core.clock import SECOND, Instant
from holdfast.daemon.config import parse
from holdfast.daemon.effects import Address, Called, Effect, Log, Persist, Release, Send, Unwant, Want
from holdfast.daemon.line import NO_TRAFFIC
from holdfast.daemon.node import Node
from holdfast.dataplane.contract import Entry
from holdfast.records import Counters, EndpointRecord, SessionRecord, TunnelRecord, session_key
from holdfast.records.calls import CallsBefore
from holdfast.records.ledger import PeerKey, PeerRecord
from holdfast.records.writes import (
    Alive,
    ForgetPeer,
    ForgetSession,
    ForgetTunnel,
    Hint,
    Save,
    SetAside,
    never_waited_for,
)
from holdfast.state.saved import Saved

SECRET = "failover-secret"
BEGAN_UTC_US = 1_700_000_000_000_000
LNS = "192.0.2.1"
LAC = "192.0.2.2"


def lns_config(users: int, extra: str = "") -> str:
    """An LNS that serves users u0, u1, … from a pool."""
    return f"""
[node]
name = "lns1"
role = "lns"
[listen]
address = "{LNS}"
[ppp]
local_address = "100.64.0.1"
dns = ["192.0.2.53"]
{extra}
[[peer]]
name = "lac1"
address = "{LAC}"
secret = "{SECRET}"
[[pool]]
name = "subscribers"
range = "100.64.0.0/16"
""" + "".join(f'[[user]]\nname = "u{i}"\nsecret = "secret of u{i}"\n' for i in range(users))


def lac_config(subscribers: int, tunnels: int = 2, extra: str = "") -> str:
    """A LAC whose subscribers u0, u1, … dial at start."""
    return f"""
[node]
name = "lac1"
role = "lac"
[listen]
address = "{LAC}"
{extra}
[[peer]]
name = "lns1"
address = "{LNS}"
secret = "{SECRET}"
connect = true
tunnels = {tunnels}
""" + "".join(
        f'[[subscriber]]\nname = "u{i}"\nsecret = "secret of u{i}"\ntunnel = "lns1"\n'
        for i in range(subscribers)
    )


class Host:
    """One machine: a node that can be killed, and what survives it."""

    def __init__(self, config: str, seed: int) -> None:
        self.config = parse(config, "test")
        self.address: Address = (self.config.listen.address, self.config.listen.port)
        self.random = Random(seed)
        self.tunnels: dict[int, TunnelRecord] = {}
        self.sessions: dict[int, SessionRecord] = {}
        self.endpoint_record: EndpointRecord | None = None
        self.peers: dict[PeerKey, PeerRecord] = {}
        self.alive_utc_us = 0
        self.calls: dict[tuple[int, ...], int] = {}
        self.plane: dict[int, Entry] = {}
        self.traffic: dict[int, Counters | None] = {}
        """What the data plane has counted, by session key."""
        self.set_aside: list[TunnelRecord | SessionRecord | EndpointRecord] = []
        self.logs: list[Log] = []
        self.clock: Callable[[], Instant] = lambda: 0
        self.running = False
        self.journal_works = True
        self.new_process()

    def new_process(self) -> None:
        """A process that has not yet read its records."""
        self.node = Node(
            self.config,
            self.random.randbytes,
            lambda: BEGAN_UTC_US + self.clock(),
            lambda key: self.traffic.get(key, NO_TRAFFIC),
        )
        self.plane.clear()
        self.logs.clear()

    def saved(self) -> Saved:
        """What the journal holds."""
        return Saved(
            tunnels=list(self.tunnels.values()),
            sessions=list(self.sessions.values()),
            endpoint=self.endpoint_record,
            peers=list(self.peers.values()),
            alive_utc_us=self.alive_utc_us,
            calls=self.calls_before(),
        )

    def calls_before(self) -> CallsBefore:
        """What was noted of calls up to now."""
        left = dict(self.calls)
        return lambda *ids: left.get(ids, 0)

    def perform(self, effects: list[Effect], now: Instant) -> list[tuple[bytes, Address]]:
        """Carry out effects; returns the datagrams. Commits succeed at once, or fail their lane."""
        out: list[tuple[bytes, Address]] = []
        queue = deque(effects)
        failed: set[int] = set()
        while queue:
            effect = queue.popleft()
            if isinstance(effect, Log):
                self.logs.append(effect)
                continue
            if isinstance(effect, Called):
                ids = effect.tunnel_id, effect.session_id, effect.peer_tunnel
                self.calls[ids] = effect.peer_session
                continue
            if effect.lane in failed:
                continue
            if isinstance(effect, Send):
                out.append((effect.data, effect.to))
            elif isinstance(effect, Want):
                self.plane[effect.entry.key] = effect.entry
            elif isinstance(effect, Unwant):
                self.plane.pop(effect.key, None)
            elif isinstance(effect, Release):
                self.node.release(effect.pool, effect.address)
            elif isinstance(effect, Persist) and not self.journal_works:
                if any(isinstance(w, Save) and not never_waited_for(w) for w in effect.writes):
                    failed.add(effect.lane)
                    queue.extend(self.node.commit_failed(effect.lane, now))
            elif isinstance(effect, Persist):
                self.write(effect)
                self.node.committed(effect.lane)
        return out

    def write(self, effect: Persist) -> None:
        """Commit."""
        for write in effect.writes:
            if isinstance(write, Save):
                record = write.record
                if isinstance(record, TunnelRecord):
                    self.tunnels[record.local_id] = record
                elif isinstance(record, SessionRecord):
                    self.sessions[session_key(record.tunnel_id, record.local_id)] = record
                elif isinstance(record, PeerRecord):
                    self.peers[record.key] = record
                else:
                    self.endpoint_record = record
            elif isinstance(write, Alive):
                self.alive_utc_us = write.utc_us
            elif isinstance(write, ForgetPeer):
                self.peers.pop((write.name, write.host_name), None)
            elif isinstance(write, ForgetTunnel):
                self.tunnels.pop(write.tunnel_id, None)
                self.sessions = {k: s for k, s in self.sessions.items() if s.tunnel_id != write.tunnel_id}
            elif isinstance(write, ForgetSession):
                self.sessions.pop(write.key, None)
            elif isinstance(write, Hint) and write.tunnel_id in self.tunnels:
                record = self.tunnels[write.tunnel_id]
                self.tunnels[write.tunnel_id] = structs.replace(record, acked=write.acked, nr=write.nr)
            elif isinstance(write, SetAside):
                self._set_aside(write.record)

    def _set_aside(self, record: TunnelRecord | SessionRecord | EndpointRecord) -> None:
        self.set_aside.append(record)
        if isinstance(record, TunnelRecord):
            del self.tunnels[record.local_id]
        elif isinstance(record, SessionRecord):
            del self.sessions[session_key(record.tunnel_id, record.local_id)]

    def events(self, name: str) -> list[Log]:
        """The log events of that name since the process began."""
        return [log for log in self.logs if log.event == name]


class Network:
    """The hosts, the wire between them, and the time."""

    def __init__(self, sessions: int = 4, tunnels: int = 2, lns_extra: str = "", lac_extra: str = "") -> None:
        self.now: Instant = 1_000 * SECOND
        self.lns = Host(lns_config(sessions, lns_extra), 1)
        self.lac = Host(lac_config(sessions, tunnels, lac_extra), 2)
        self.hosts = {LNS: self.lns, LAC: self.lac}
        for host in self.hosts.values():
            host.clock = lambda: self.now
        self.lose: Callable[[Host, bytes], bool] = lambda source, data: False
        self.wire: list[tuple[Host, bytes]] = []

    def carry(self, source: Host, effects: list[Effect]) -> None:
        """Carry out effects and everything that follows from them at once."""
        queue = deque((source, data, to) for data, to in source.perform(effects, self.now))
        while queue:
            sender, data, to = queue.popleft()
            self.wire.append((sender, data))
            target = self.hosts[to[0]]
            if not target.running or self.lose(sender, data):
                continue
            if data[0] & 0x80:
                produced = target.node.control(data, sender.address, self.now)
            else:
                key = session_key(int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:6], "big"))
                produced = target.node.ppp(key, data[6:], sender.address, self.now)
            queue.extend((target, d, t) for d, t in target.perform(produced, self.now))

    def start(self, *hosts: Host) -> None:
        """Start processes from their records."""
        for host in hosts:
            host.running = True
        begun = [(host, host.node.start(host.saved(), self.now)) for host in hosts]
        for host, effects in begun:
            self.carry(host, effects)

    def kill(self, *hosts: Host) -> None:
        """SIGKILL: only the records are left."""
        for host in hosts:
            host.running = False
            host.new_process()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + int(seconds * SECOND)
        while True:
            dues = [
                (at, i, host)
                for i, host in enumerate(self.hosts.values())
                if host.running and (at := host.node.deadline()) is not None
            ]
            if not dues or min(dues, key=lambda d: d[:2])[0] > end:
                break
            at, _, host = min(dues, key=lambda d: d[:2])
            self.now = max(self.now, at)
            self.carry(host, host.node.timer(self.now))
        self.now = end

    def up(self) -> None:
        """Start both and let every subscriber connect."""
        self.start(self.lns, self.lac)
        self.run(5)
