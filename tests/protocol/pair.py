"""Two endpoints and a virtual wire between them, in virtual time."""

from collections.abc import Callable
from random import Random

from msgspec import structs

from holdfast.core.clock import SECOND, Instant
from holdfast.protocol.effects import Address, Called, Effect, Persist, Send
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.settings import EndpointSettings, Evidence, FailoverSettings, PeerSettings
from holdfast.records import SessionRecord, TunnelRecord, session_key
from holdfast.records.calls import CallsBefore
from holdfast.records.writes import ForgetSession, ForgetTunnel, Save

LNS_ADDRESS: Address = ("192.0.2.1", 1701)
LAC_ADDRESS: Address = ("192.0.2.2", 1701)
SECRET = b"failover-secret"


class Side:
    """An endpoint, what it recorded, and what it did apart from sending."""

    def __init__(
        self,
        name: str,
        address: Address,
        peer: PeerSettings | None,
        seed: int,
        failover: FailoverSettings | None = None,
    ) -> None:
        self.name, self.address, self.peer = name, address, peer
        self.random = Random(seed)
        self.settings = EndpointSettings(
            host_name=name, local_address=address[0], failover=failover or FailoverSettings()
        )
        self.tunnels: dict[int, TunnelRecord] = {}
        self.sessions: dict[int, SessionRecord] = {}
        self.calls: dict[tuple[int, ...], int] = {}
        """What was noted of calls (`Called`)."""
        self.news: list[Effect] = []
        self.start()

    def start(self) -> None:
        """A fresh process: nothing but the records is left."""
        self.endpoint = Endpoint(
            self.settings, lambda address, host: self.peer, self.random.randbytes, lambda: 1_000_000
        )

    def take(self, effects: list[Effect]) -> list[tuple[bytes, Address]]:
        """Carry out effects; returns the datagrams."""
        out = []
        for effect in effects:
            if isinstance(effect, Send):
                out.append((effect.data, effect.to))
            elif isinstance(effect, Persist):
                for write in effect.writes:
                    if isinstance(write, Save) and isinstance(write.record, TunnelRecord):
                        self.tunnels[write.record.local_id] = write.record
                    elif isinstance(write, ForgetTunnel):
                        self.tunnels.pop(write.tunnel_id, None)
                        self.sessions = {
                            k: s for k, s in self.sessions.items() if s.tunnel_id != write.tunnel_id
                        }
                    elif isinstance(write, ForgetSession):
                        self.sessions.pop(write.key, None)
            elif isinstance(effect, Called):
                ids = effect.tunnel_id, effect.session_id, effect.peer_tunnel
                self.calls[ids] = effect.peer_session
            else:
                self.news.append(effect)
        return out

    def calls_before(self) -> CallsBefore:
        """What was noted of calls up to now."""
        left = dict(self.calls)
        return lambda *ids: left.get(ids, 0)

    def record_numbers(self) -> None:
        """Record every tunnel's sequence numbers, as the node does within a second."""
        for hint in self.endpoint.take_hints():
            record = self.tunnels[hint.tunnel_id]
            self.tunnels[hint.tunnel_id] = structs.replace(record, acked=hint.acked, nr=hint.nr)

    def record_sessions(self) -> None:
        """Record every established session, as the node does once PPP is up."""
        for tunnel in self.endpoint.ctx.established():
            for s in tunnel.sessions.values():
                if s.established:
                    record = SessionRecord(
                        tunnel_id=tunnel.local_id,
                        local_id=s.local_id,
                        peer_id=s.peer_id,
                        side=s.side,
                        call_serial=s.call_serial,
                        established_utc_us=0,
                    )
                    self.sessions[session_key(tunnel.local_id, s.local_id)] = record


class Pair:
    """LNS and LAC; `lose(data, to)` decides what the wire drops."""

    def __init__(
        self,
        *,
        secret: bytes = SECRET,
        lns_failover: FailoverSettings | None = None,
        lac_failover: FailoverSettings | None = None,
    ) -> None:
        self.now: Instant = 1_000 * SECOND
        self.lns = Side("lns1", LNS_ADDRESS, PeerSettings(name="lac1", secret=secret), 1, lns_failover)
        self.lac = Side("lac1", LAC_ADDRESS, PeerSettings(name="lns1", secret=secret), 2, lac_failover)
        self.down: set[str] = set()
        self.lose: Callable[[bytes, Address], bool] = lambda data, to: False
        self.log: list[tuple[str, bytes]] = []

    def side_at(self, address: Address) -> Side:
        return self.lns if address[0] == LNS_ADDRESS[0] else self.lac

    def deliver(self, side: Side, effects: list[Effect]) -> None:
        """Carry out effects and everything that follows from them at once."""
        queue = [(side, d, to) for d, to in side.take(effects)]
        while queue:
            source, data, to = queue.pop(0)
            self.log.append((source.name, data))
            target = self.side_at(to)
            if target.name in self.down or self.lose(data, to):
                continue
            produced = target.endpoint.datagram(data, source.address, self.now)
            queue += [(target, d, t) for d, t in target.take(produced)]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + int(seconds * SECOND)
        while True:
            dues = [
                (at, i, s)
                for i, s in enumerate((self.lns, self.lac))
                if s.name not in self.down and (at := s.endpoint.deadline()) is not None
            ]
            if not dues or min(dues)[0] > end:
                break
            at, _, side = min(dues, key=lambda d: d[:2])
            self.now = max(self.now, at)
            self.deliver(side, side.endpoint.timer(self.now))
        self.now = end

    def connect(self) -> int:
        """Open a tunnel from the LAC; returns its local id there."""
        assert self.lac.peer is not None
        tunnel_id, effects = self.lac.endpoint.open_tunnel(self.lac.peer, LNS_ADDRESS, self.now)
        self.deliver(self.lac, effects)
        return tunnel_id

    def call(self, tunnel_id: int, count: int = 1) -> None:
        """Place calls from the LAC and record them on both sides."""
        from holdfast.protocol.session import Call

        for _ in range(count):
            _, effects = self.lac.endpoint.place_call(tunnel_id, Call(), self.now)
            self.deliver(self.lac, effects)
        self.lns.record_sessions()
        self.lac.record_sessions()

    def crash(self, side: Side) -> None:
        """SIGKILL: only the records are left."""
        self.down.add(side.name)
        side.start()

    def restart(self, side: Side, away_s: float | None = None, evidence: Evidence | None = None) -> None:
        """Start again from the records and recover; `away_s` is what is known of the outage, `evidence` of the peer."""
        self.down.discard(side.name)
        self.deliver(
            side,
            side.endpoint.restore(
                list(side.tunnels.values()), list(side.sessions.values()), self.now, side.calls_before()
            ),
        )
        for tunnel in side.endpoint.ctx.established():
            if evidence is not None:
                side.endpoint.inform(tunnel.local_id, evidence)
        self.deliver(side, side.endpoint.recover(self.now, None if away_s is None else int(away_s * SECOND)))
