"""What the simulator runs: one node without I/O, behind the few verbs that the simulator needs.

A new kind of node fits in by another `Machine`; the network, the journal, the crashes and the checks stay as they are.
"""

from collections.abc import Collection
from random import Random
from typing import NamedTuple, Protocol

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.protocol.effects import Address, Effect, Persist, SessionDown, SessionUp
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.session import Call
from holdfast.protocol.settings import EndpointSettings, PeerSettings
from holdfast.records import SessionRecord, Side, TunnelRecord, session_key
from holdfast.records.calls import CallsBefore
from holdfast.records.writes import ForgetSession, Save

MOST_TUNNELS = 3


class Pairing(NamedTuple):
    """A session as both ends name it: tunnel and session id at the LAC, then at the LNS; then what PPP agreed on.

    The control protocol alone leaves address and magic numbers out.
    """

    lac_tunnel: int
    lac_session: int
    lns_tunnel: int
    lns_session: int
    address: str = ""
    lac_magic: int = 0
    lns_magic: int = 0


class Machine(Protocol):
    """A node of the simulation. Every input returns effects; a `Persist` holds back what follows in its lane."""

    def start(
        self,
        tunnels: Collection[TunnelRecord],
        sessions: Collection[SessionRecord],
        calls: CallsBefore,
        now: Instant,
    ) -> list[Effect]:
        """The first input of a process: what the journal holds."""

    def datagram(self, data: bytes, source: Address, now: Instant) -> list[Effect]:
        """A datagram arrived."""

    def timer(self, now: Instant) -> list[Effect]:
        """The deadline has come."""

    def deadline(self) -> Instant | None:
        """When `timer` wants to be called."""

    def stir(self, random: Random, now: Instant) -> list[Effect]:
        """Do one thing that a subscriber or an operator might do."""

    def sessions(self) -> set[Pairing]:
        """The established sessions."""

    def unsettled(self) -> list[str]:
        """What is not at rest: transient states, questions without answer, ids that leak."""

    @property
    def cleared(self) -> set[Pairing]:
        """Sessions that `stir` ended on purpose."""


class EndpointMachine:
    """The control protocol alone. Each session is recorded as soon as it is established."""

    def __init__(self, side: Side, address: Address, peer: Address, secret: bytes, random: Random) -> None:
        self.side = side
        self.peer = PeerSettings(name="peer", secret=secret)
        self.peer_address = peer
        settings = EndpointSettings(
            host_name=side.name.lower(), local_address=address[0], accept_tunnels=side is Side.LNS
        )
        self.endpoint = Endpoint(settings, lambda address, name: self.peer, random.randbytes, lambda: 0)
        self.cleared: set[Pairing] = set()

    def start(
        self,
        tunnels: Collection[TunnelRecord],
        sessions: Collection[SessionRecord],
        calls: CallsBefore,
        now: Instant,
    ) -> list[Effect]:
        """Restore and begin to recover."""
        effects = self.endpoint.restore(tunnels, sessions, now, calls)
        return self.recorded(effects + self.endpoint.recover(now))

    def datagram(self, data: bytes, source: Address, now: Instant) -> list[Effect]:
        """Pass it on."""
        return self.recorded(self.endpoint.datagram(data, source, now))

    def timer(self, now: Instant) -> list[Effect]:
        """Pass it on."""
        return self.recorded(self.endpoint.timer(now))

    def deadline(self) -> Instant | None:
        """The endpoint's."""
        return self.endpoint.deadline()

    def stir(self, random: Random, now: Instant) -> list[Effect]:
        """The LAC opens tunnels and places calls; both sides end sessions, rarely a whole tunnel."""
        endpoint = self.endpoint
        tunnels = [
            t for t in endpoint.tunnels.values() if not t.is_recovery and t.state <= t.state.ESTABLISHED
        ]
        what = random.random()
        if self.side is Side.LAC and (not tunnels or (what < 0.1 and len(tunnels) < MOST_TUNNELS)):
            return self.recorded(endpoint.open_tunnel(self.peer, self.peer_address, now)[1])
        if not tunnels:
            return []
        tunnel = random.choice(tunnels)
        if self.side is Side.LAC and what < 0.85:
            return self.recorded(endpoint.place_call(tunnel.local_id, Call(), now)[1])
        if what < 0.6:
            return []
        if what > 0.995:
            self.cleared |= {p for p in self.sessions() if self._of(p)[0] == tunnel.local_id}
            return self.recorded(endpoint.close_tunnel(tunnel.local_id, now))
        if not tunnel.sessions:
            return []
        session = random.choice(list(tunnel.sessions.values()))
        self.cleared |= {p for p in self.sessions() if self._of(p) == (tunnel.local_id, session.local_id)}
        return self.recorded(endpoint.close_session(tunnel.local_id, session.local_id, now))

    def _of(self, p: Pairing) -> tuple[int, int]:
        return p[:2] if self.side is Side.LAC else p[2:4]

    def recorded(self, effects: list[Effect]) -> list[Effect]:
        """Add what the owner of the sessions writes: a record when one is up, its removal when one is down."""
        out: list[Effect] = []
        for effect in effects:
            out.append(effect)
            if isinstance(effect, SessionUp):
                record = self._record(effect.tunnel_id, effect.session_id)
                if record is not None:
                    out.append(Persist(session_key(effect.tunnel_id, effect.session_id), (Save(record),)))
            elif isinstance(effect, SessionDown):
                key = session_key(effect.tunnel_id, effect.session_id)
                out.append(Persist(self.lane_of_end(effect.tunnel_id, key), (ForgetSession(key),)))
        return out

    def lane_of_end(self, tunnel_id: int, key: int) -> int:
        """Who waits until a session's record is gone: its own lane, which is nobody, or its tunnel."""
        return key

    def _record(self, tunnel_id: int, session_id: int) -> SessionRecord | None:
        tunnel = self.endpoint.tunnels.get(tunnel_id)
        session = tunnel.sessions.get(session_id) if tunnel is not None else None
        if session is None:
            return None
        return SessionRecord(
            tunnel_id=tunnel_id,
            local_id=session_id,
            peer_id=session.peer_id,
            side=session.side,
            call_serial=session.call_serial,
            established_utc_us=0,
        )

    def sessions(self) -> set[Pairing]:
        """Every established session of the tunnels that are up."""
        return {
            pairing(self.side, t.local_id, s.local_id, t.peer_id, s.peer_id)
            for t in self.endpoint.ctx.established()
            for s in t.sessions.values()
            if s.established
        }

    def unsettled(self) -> list[str]:
        """What the endpoint has not finished."""
        return unsettled(self.endpoint)


def pairing(
    side: Side, local_tunnel: int, local_session: int, peer_tunnel: int, peer_session: int
) -> Pairing:
    """A session, seen from `side`."""
    local, peer = (local_tunnel, local_session), (peer_tunnel, peer_session)
    return Pairing(*local, *peer) if side is Side.LAC else Pairing(*peer, *local)


def unsettled(endpoint: Endpoint) -> list[str]:
    """What is not at rest in any tunnel and any registry of an endpoint."""
    ctx = endpoint.ctx
    found: list[str] = []
    if faults := ctx.counters[Counter.MACHINE_FAULT]:
        found.append(f"{faults} internal errors")
    for t in ctx.tunnels.values():
        if not t.established or t.is_recovery:
            found.append(f"tunnel {t.local_id} is {t.state.name}, recovers {t.recovers}")
        if t.own_recovery is not None or t.pending_recovery_id or t.sync is not None:
            found.append(f"tunnel {t.local_id} is still being recovered")
        if not t.channel.idle or t.channel.held or t.clear_at is not None:
            found.append(f"tunnel {t.local_id} still waits for its peer")
        if len(t.ids) != len(t.sessions):
            found.append(f"tunnel {t.local_id} leaks session ids")
        if t.by_peer != {s.peer_id: s.local_id for s in t.sessions.values()}:
            found.append(f"tunnel {t.local_id} knows its sessions by the wrong names")
        found += [
            f"session {t.local_id}/{s.local_id} is {s.state.name}, {s.queries} queries"
            for s in t.sessions.values()
            if not s.established or s.queries
        ]
    if len(ctx.tunnel_ids) != len(ctx.tunnels):
        found.append("tunnel ids leak")
    if ctx.half_open or ctx.opening or ctx.challenges or ctx.recovering or ctx.recovery_tunnels or ctx.decoys:
        found.append("a set-up is still under way")
    if set(ctx.by_sccrq.values()) - set(ctx.tunnels):
        found.append("a registry holds tunnels that are gone")
    return found
