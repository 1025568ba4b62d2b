"""The LAC's half of a node: opens the tunnels and places the calls that the dialler decides on.

Invariant: dialling never nests; what its own actions cause is dialled in the same turn.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from holdfast.core.clock import Instant
from holdfast.core.errors import LocalError
from holdfast.core.ids import IdsExhausted, RandomBytes
from holdfast.daemon.config_keys import Config
from holdfast.daemon.dialler import Call, Dialler, OpenTunnel
from holdfast.daemon.effects import WARNING, Effect, Log
from holdfast.daemon.settings import client_config, peer_settings
from holdfast.ppp.config import LinkConfig
from holdfast.protocol import effects as l2tp
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.session import Call as LacCall
from holdfast.records import session_key

Absorb: TypeAlias = Callable[[Iterable[l2tp.Effect], Instant, list[Effect]], None]
"""How the node takes in what its endpoint answers."""

HangUp: TypeAlias = Callable[[int, Instant, list[Effect]], Iterable[l2tp.Effect]]
"""How the session of a key is ended; what the endpoint answers."""


class Lac:
    """The dialler with its hands. An LNS has one that does nothing."""

    def __init__(self, config: Config, endpoint: Endpoint, random: RandomBytes) -> None:
        self.dialler = Dialler(config, random)
        self._config = config
        self._endpoint = endpoint
        self._clients = {s.name: client_config(config, s) for s in config.subscriber}
        self._dialling = False

    def client(self, name: str) -> LinkConfig | None:
        """How the PPP link of a subscriber behaves; None: it is not configured (any more)."""
        return self._clients.get(name)

    def dial(self, now: Instant, out: list[Effect], absorb: Absorb, hang_up: HangUp) -> None:
        """Do what the dialler wants, until it wants nothing more."""
        if self._dialling:
            return
        self._dialling = True
        try:
            while actions := self.dialler.take(now):
                for action in actions:
                    if isinstance(action, OpenTunnel):
                        absorb(self._open_tunnel(action.peer_name, now, out), now, out)
                    elif isinstance(action, Call):
                        absorb(self._place_call(action.name, now), now, out)
                    elif action.key:
                        absorb(hang_up(action.key, now, out), now, out)
        finally:
            self._dialling = False

    def _open_tunnel(self, peer_name: str, now: Instant, out: list[Effect]) -> list[l2tp.Effect]:
        peer = self._config.peer_named(peer_name)
        assert peer is not None
        try:
            tunnel_id, effects = self._endpoint.open_tunnel(
                peer_settings(peer), (peer.address, peer.port), now
            )
        except IdsExhausted as e:
            out.append(Log("tunnel.refused", {"peer": peer_name, "text": str(e)}, WARNING))
            return []
        self.dialler.opening(peer_name, tunnel_id)
        return effects

    def _place_call(self, name: str, now: Instant) -> list[l2tp.Effect]:
        tunnel_id = self.dialler.pick(name)
        try:
            session_id, effects = self._endpoint.place_call(tunnel_id, LacCall(calling_number=name), now)
        except LocalError as e:
            self.dialler.not_placed(name, str(e), now)
            return []
        self.dialler.placed(name, session_key(tunnel_id, session_id), tunnel_id)
        return effects
