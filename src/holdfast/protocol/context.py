"""What the parts of one endpoint share: tunnels, settings, chance, and the effects of the input in progress.

Invariant: effects are in the order in which they must be carried out; a tunnel's datagrams are appended after
everything else that the input caused (`flush`), so records are written before anything that depends on them is said.
"""

from collections import Counter as Counting
from collections import deque
from collections.abc import Callable

from holdfast.core.clock import Duration, Instant
from holdfast.core.counters import Counter
from holdfast.core.deadlines import Deadlines
from holdfast.core.ids import IdPool, RandomBytes
from holdfast.protocol import pace
from holdfast.protocol.channel import ControlChannel
from holdfast.protocol.effects import Address, Effect, Send, Trace
from holdfast.protocol.limits import TokenBucket
from holdfast.protocol.settings import EndpointSettings, FindPeer, PeerSettings
from holdfast.protocol.tunnel import Claim, Tunnel, TunnelState
from holdfast.records import Side, TunnelRecord
from holdfast.records.calls import CallsBefore, none_before
from holdfast.records.writes import Hint


class Context:
    """The registry of one endpoint. `admitting` is False while the journal cannot write.

    Set-ups under way: `opening` are ours, `half_open` the peers'; `challenges` are those that await a response.
    `fell_back`: tunnels in a row that RFC 4951 did not recover, by peer, while recoveries run.
    `recovery_tunnels` counts those among `tunnels` that do not count as tunnels (T-41). `gone_at` is when the process
    before this one was last there, None if that is not known; `calls_before` what it has noted by `Called`.
    """

    __slots__ = (
        "_lanes",
        "admitting",
        "by_sccrq",
        "call_serial",
        "calls_before",
        "challenges",
        "counters",
        "deadlines",
        "decoys",
        "effects",
        "fell_back",
        "find_peer",
        "gone_at",
        "half_open",
        "hints",
        "opening",
        "orphan_limit",
        "random",
        "recovering",
        "recovery_queue",
        "recovery_tunnels",
        "sccrq_limits",
        "settings",
        "silent_queue",
        "silent_turn_at",
        "tunnel_ids",
        "tunnels",
        "utc_us",
    )

    def __init__(
        self,
        settings: EndpointSettings,
        find_peer: FindPeer,
        random: RandomBytes,
        utc_us: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.find_peer = find_peer
        self.random = random
        self.utc_us = utc_us
        self.tunnels: dict[int, Tunnel] = {}
        self.by_sccrq: dict[tuple[Address, int], int] = {}
        self.tunnel_ids = IdPool(random)
        self.deadlines: Deadlines[int] = Deadlines()
        self.effects: list[Effect] = []
        self.counters: dict[Counter, int] = dict.fromkeys(Counter, 0)
        self.sccrq_limits: dict[str, TokenBucket] = {}
        self.half_open: set[int] = set()
        self.opening: set[int] = set()
        self.hints: set[int] = set()
        self.challenges: set[bytes] = set()
        self.decoys: dict[Claim, int] = {}
        self.admitting = True
        self._lanes = 0
        self.call_serial = int.from_bytes(random(4), "big")
        self.recovering: set[int] = set()
        self.recovery_queue: list[int] = []
        self.fell_back: Counting[Address] = Counting()
        self.recovery_tunnels = 0
        self.silent_queue: deque[tuple[int, Duration]] = deque()
        self.silent_turn_at: Instant = 0
        self.gone_at: Instant | None = None
        self.calls_before: CallsBefore = none_before
        self.orphan_limit = TokenBucket(pace.ORPHANS_PER_SECOND)

    def emit(self, effect: Effect) -> None:
        """Append an effect of the input in progress."""
        self.effects.append(effect)

    def lane_of_its_own(self) -> int:
        """A lane for a write that goes to disk at once, waits for nothing, and that nothing waits for."""
        self._lanes -= 1
        return self._lanes

    def trace(self, event: str, level: str = "info", **fields: object) -> None:
        """Append a log line."""
        self.effects.append(Trace(event, fields, level))

    def count(self, counter: Counter, n: int = 1) -> None:
        """Count."""
        self.counters[counter] += n

    def admits_sccrq(self, peer_name: str, now: Instant) -> bool:
        """Whether one more SCCRQ of this peer is within its limit; all who are no peer share the name ""."""
        limit = self.sccrq_limits.get(peer_name)
        if limit is None:
            limit = self.sccrq_limits[peer_name] = TokenBucket(self.settings.sccrq_per_second)
        return limit.take(now)

    def hint(self, tunnel: Tunnel) -> Hint:
        """The tunnel's numbers as they may be recorded: lower bounds from here on."""
        channel = tunnel.channel
        tunnel.hinted = (channel.acked, channel.nr)
        self.hints.discard(tunnel.local_id)
        return Hint(tunnel.local_id, channel.acked, channel.nr)

    def next_hello(self, now: Instant) -> Instant | None:
        """When silence from `now` on calls for a HELLO (V2-87); never, if the interval is 0."""
        interval = self.settings.hello_interval
        return now + interval if interval else None

    def flush(self, tunnel: Tunnel) -> None:
        """Turn what the tunnel's channel wants sent into effects, and note its next deadline."""
        channel = tunnel.channel
        out = channel.out
        if out:
            lane, to = tunnel.local_id, tunnel.peer_address
            effects = self.effects
            for data in out:
                effects.append(Send(lane, data, to))  # the receive path: mostly one datagram
            self.counters[Counter.TX_CONTROL] += len(out)
            out.clear()
        if tunnel.recorded and tunnel.hinted != (channel.acked, channel.nr):
            self.hints.add(tunnel.local_id)
        if tunnel.local_id in self.tunnels:
            self.deadlines.set(tunnel.local_id, tunnel.deadline())

    def new_tunnel(
        self, peer: PeerSettings, address: Address, *, initiator: bool, side: Side, now: Instant
    ) -> Tunnel:
        """Make and register a tunnel that is being set up, as half-open. Raises IdsExhausted."""
        tunnel = Tunnel(
            self.tunnel_ids.allocate(),
            peer,
            address,
            ControlChannel(self.settings.channel),
            IdPool(self.random),
            initiator=initiator,
            side=side,
            state=TunnelState.WAIT_REPLY if initiator else TunnelState.WAIT_CONNECT,
        )
        tunnel.end_at = now + self.settings.setup_timeout
        self.tunnels[tunnel.local_id] = tunnel
        (self.opening if initiator else self.half_open).add(tunnel.local_id)
        return tunnel

    def challenge(self, tunnel: Tunnel, challenge: bytes) -> None:
        """Note what the peer of a set-up has to answer."""
        self.challenges.discard(tunnel.challenge)
        self.challenges.add(challenge)
        tunnel.challenge = challenge

    def set_up(self, tunnel: Tunnel) -> None:
        """A set-up is complete: it counts no more among those under way."""
        self.half_open.discard(tunnel.local_id)
        self.abandon(tunnel)

    def abandon(self, tunnel: Tunnel) -> None:
        """A set-up will not be completed. It still counts as half-open until its tunnel is removed: it costs memory."""
        self.opening.discard(tunnel.local_id)
        self.challenges.discard(tunnel.challenge)
        tunnel.challenge = b""
        if tunnel.decoy is not None and self.decoys.get(tunnel.decoy) == tunnel.local_id:
            del self.decoys[tunnel.decoy]

    def restored_tunnel(self, record: TunnelRecord, peer: PeerSettings) -> Tunnel:
        """Register a tunnel from its record, as established."""
        tunnel = Tunnel(
            record.local_id,
            peer,
            (record.peer_address, record.peer_port),
            ControlChannel(self.settings.channel, record.peer_id),
            IdPool(self.random),
            initiator=record.initiator,
            side=record.side,
            state=TunnelState.ESTABLISHED,
        )
        tunnel.peer_id = record.peer_id
        tunnel.peer_host_name = record.peer_host_name
        tunnel.local_failover = record.local_failover
        tunnel.peer_failover = record.peer_failover
        tunnel.peer_framing, tunnel.peer_bearer = record.peer_framing, record.peer_bearer
        tunnel.established_utc_us = record.established_utc_us
        tunnel.recorded = True
        tunnel.channel.set_peer_window(record.peer_window)
        tunnel.channel.ns = tunnel.channel.acked = record.acked
        tunnel.channel.nr = record.nr
        tunnel.hinted = (record.acked, record.nr)
        self.tunnels[record.local_id] = tunnel
        return tunnel

    def move(self, tunnel: Tunnel, address: Address) -> None:
        """The tunnel's peer is at another address from now on."""
        self._forget_sccrq(tunnel)
        tunnel.peer_address = address

    def _forget_sccrq(self, tunnel: Tunnel) -> None:
        key = (tunnel.peer_address, tunnel.peer_id)
        if self.by_sccrq.get(key) == tunnel.local_id:
            del self.by_sccrq[key]

    def remove(self, tunnel: Tunnel) -> None:
        """Forget a tunnel and free its id."""
        if self.tunnels.pop(tunnel.local_id, None) is None:
            return
        self.set_up(tunnel)
        self._forget_sccrq(tunnel)
        if tunnel.is_recovery:
            self.recovery_tunnels -= 1
        self.deadlines.set(tunnel.local_id, None)
        self.hints.discard(tunnel.local_id)
        self.tunnel_ids.free(tunnel.local_id)

    def established(self) -> list[Tunnel]:
        """Ordinary tunnels that are up (also while they are being recovered)."""
        return [t for t in self.tunnels.values() if t.established and not t.is_recovery]
