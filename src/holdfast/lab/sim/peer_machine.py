"""Our side in front of a peer that is not holdfast: the control protocol, with its numbers on the disk."""

from collections.abc import Collection
from random import Random

from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.lab.sim.machine import EndpointMachine
from holdfast.protocol.effects import Address, Effect, Persist
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.session import Call
from holdfast.protocol.settings import EndpointSettings, FailoverSettings, Method
from holdfast.records import SessionRecord, Side, TunnelRecord
from holdfast.records.calls import CallsBefore

HINTS_WITHIN: Duration = SECOND
"""The numbers of a tunnel are on disk that much later, if nothing else is written."""


class SilentMachine(EndpointMachine):
    """The control protocol with `auto`, and the numbers of its tunnels written as a node does."""

    def __init__(self, side: Side, address: Address, peer: Address, secret: bytes, random: Random) -> None:
        super().__init__(side, address, peer, secret, random)
        settings = EndpointSettings(
            host_name=side.name.lower(),
            local_address=address[0],
            accept_tunnels=side is Side.LNS,
            failover=FailoverSettings(method=Method.AUTO),
        )
        self.endpoint = Endpoint(settings, lambda address, name: self.peer, random.randbytes, lambda: 0)
        self.away: Duration | None = None
        """For how long nobody was there."""
        self._hints_at: Instant | None = None

    def start(
        self,
        tunnels: Collection[TunnelRecord],
        sessions: Collection[SessionRecord],
        calls: CallsBefore,
        now: Instant,
    ) -> list[Effect]:
        """See `Machine`."""
        effects = self.endpoint.restore(tunnels, sessions, now, calls)
        return self._hinted(self.recorded(effects + self.endpoint.recover(now, self.away)), now)

    def datagram(self, data: bytes, source: Address, now: Instant) -> list[Effect]:
        """See `Machine`."""
        return self._hinted(super().datagram(data, source, now), now)

    def timer(self, now: Instant) -> list[Effect]:
        """See `Machine`."""
        return self._hinted(super().timer(now), now)

    def stir(self, random: Random, now: Instant) -> list[Effect]:
        """See `Machine`."""
        return self._hinted(super().stir(random, now), now)

    def call(self, now: Instant) -> list[Effect]:
        """As LAC: place a call, in a new tunnel if there is none."""
        endpoint, effects = self.endpoint, list[Effect]()
        tunnel = next((t for t in endpoint.tunnels.values() if t.state <= t.state.ESTABLISHED), None)
        tunnel_id = tunnel.local_id if tunnel is not None else 0
        if tunnel is None:
            tunnel_id, effects = endpoint.open_tunnel(self.peer, self.peer_address, now)
        return self._hinted(self.recorded(effects + endpoint.place_call(tunnel_id, Call(), now)[1]), now)

    def clear(self, now: Instant) -> list[Effect]:
        """End the first session that is up."""
        for tunnel in self.endpoint.ctx.established():
            for session in tunnel.sessions.values():
                if session.established and not tunnel.recovering:
                    ids = tunnel.local_id, session.local_id
                    self.cleared |= {p for p in self.sessions() if self._of(p) == ids}
                    return self._hinted(self.recorded(self.endpoint.close_session(*ids, now)), now)
        return []

    def lane_of_end(self, tunnel_id: int, key: int) -> int:
        """As a node does where nobody asks after sessions: the record goes before the CDN, or its acknowledgement."""
        return tunnel_id

    def deadline(self) -> Instant | None:
        """See `Machine`."""
        own, hints = super().deadline(), self._hints_at
        return min((at for at in (own, hints) if at is not None), default=None)

    def _hinted(self, effects: list[Effect], now: Instant) -> list[Effect]:
        """Numbers ride in every commit, and have one of their own a second after they changed."""
        endpoint = self.endpoint
        if self._hints_at is not None and self._hints_at <= now:
            self._hints_at = None
            effects.append(Persist(endpoint.ctx.lane_of_its_own(), endpoint.take_hints()))
        elif any(isinstance(effect, Persist) for effect in effects) and endpoint.ctx.hints:
            hints = endpoint.take_hints()
            effects = [Persist(e.lane, (*e.writes, *hints)) if isinstance(e, Persist) else e for e in effects]
        if endpoint.ctx.hints and self._hints_at is None:
            self._hints_at = now + HINTS_WITHIN
        return effects
