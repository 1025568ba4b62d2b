"""Somebody else's daemon as a host of the simulation. It never crashes: we do."""

from collections.abc import Callable
from random import Random
from struct import unpack_from
from typing import Final

from holdfast.core.clock import Instant
from holdfast.lab.sim.machine import Pairing, pairing
from holdfast.lab.sim.peer import Peer
from holdfast.lab.sim.peer_tunnel import NUMBERS, Call, Tunnel
from holdfast.protocol.effects import Address
from holdfast.records import Side

CONTROL: Final = 0x80
"""The T bit, in the first octet."""


class PeerHost:
    """See `lab.sim.host.Host`: a daemon that never crashes."""

    effects_until_crash: int | None = None
    running = True

    def __init__(self, side: Side, address: Address, peer: Peer) -> None:
        self.side, self.address, self.peer = side, address, peer
        self.on_crash: Callable[[], None] = lambda: None
        self._cleared: set[Pairing] = set()
        self.most_calls = NUMBERS
        """In one tunnel."""

    def start(self, now: Instant) -> None:
        """See `Host`."""

    def crash(self) -> None:
        """See `Host`."""

    def receive(self, data: bytes, source: Address, now: Instant) -> None:
        """See `Host`."""
        if data[0] & CONTROL:
            self.peer.receive(data, now)
        else:
            tunnel, session = unpack_from(">HH", data, 2)
            self.peer.frame(tunnel, session, data[6:], now)

    def timer(self, now: Instant) -> None:
        """See `Host`."""
        self.peer.timer(now)

    def deadline(self) -> Instant | None:
        """See `Host`."""
        return self.peer.deadline()

    def stir(self, random: Random, now: Instant) -> None:
        """Call, clear, say HELLO; rarely end a tunnel."""
        what = random.random()
        up = self.peer.established()
        if self.side is Side.LAC and (not self.peer.tunnels or (what < 0.05 and len(up) < 3)):
            self.peer.open(now)
        elif not up:
            return
        elif self.side is Side.LAC and what < 0.7:
            tunnel = random.choice(up)
            if len(tunnel.calls) < self.most_calls:
                self.peer.dial(tunnel, now)
        elif what < 0.9:
            self.hang_up(random, now)
        elif what < 0.98:
            self.peer.hello(random.choice(up), now)
        elif what > 0.99:
            self.stop(random, now)

    def dial(self, random: Random, now: Instant) -> None:
        """As LAC: call, in some tunnel that has room."""
        room = [t for t in self.peer.established() if len(t.calls) < self.most_calls]
        if self.side is Side.LAC and room:
            self.peer.dial(random.choice(room), now)

    def hang_up(self, random: Random, now: Instant) -> None:
        """End some call that is up, in some tunnel."""
        calls = [(t, c) for t in self.peer.established() for c in t.calls.values() if c.up]
        if calls:
            tunnel, call = random.choice(calls)
            self._cleared.add(self._named(tunnel, call))
            self.peer.hang_up(tunnel, call, now)

    def stop(self, random: Random, now: Instant) -> None:
        """End some tunnel."""
        if up := self.peer.established():
            tunnel = random.choice(up)
            self._cleared |= {self._named(tunnel, call) for call in tunnel.calls.values() if call.up}
            self.peer.stop(tunnel, now)

    def _named(self, tunnel: Tunnel, call: Call) -> Pairing:
        return pairing(self.side, tunnel.local, call.local, tunnel.remote, call.remote)

    def held(self) -> set[Pairing]:
        """See `Host`."""
        return {
            self._named(t, c)
            for t in self.peer.established()
            for c in t.calls.values()
            if c.up and (c.ppp is None or c.ppp.up)
        }

    def recorded(self) -> set[Pairing]:
        """See `Host`."""
        return self.held()

    def ended_on_purpose(self) -> set[Pairing]:
        """See `Host`."""
        return self._cleared

    def problems(self) -> list[str]:
        """See `Host`."""
        return list(self.peer.defects)

    def failed_recoveries(self) -> int:
        """See `Host`."""
        return 0
