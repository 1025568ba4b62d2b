"""The load generator itself: tunnels, calls in flight, pacing, timers, counts. It owns every call; `run`
drives it.

Invariants: a call is in `_calls` from its ICRQ to its end, in `_starting` until it is open, in `_up` while
it is. A call starts only when its tunnel's window is open, so that "ICRQ sent" is the moment its latency
begins. With a rate, call k is due at start + k / rate whatever the server does (open loop); how late it
really went out is kept apart.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from holdfast.core.clock import MILLISECOND, SECOND, Instant
from holdfast.core.errors import HoldfastError
from holdfast.core.ids import RandomBytes
from holdfast.lab.blast.call import CALLING, IN_AUTH, IN_IPCP, IN_LCP, OPEN, OVER, Call, Failure
from holdfast.lab.blast.client import Client
from holdfast.lab.blast.frames import (
    ADDRESS_CONTROL,
    CONTROL,
    CONTROL_SIZE,
    DATA_FLAGS,
    DATA_HEAD,
    ICCN,
    ICRP_HEAD,
    ICRP_ID,
    canonical,
    icrq,
)
from holdfast.lab.blast.plan import Plan
from holdfast.lab.blast.tunnel import (
    CHALLENGE_SIZE,
    Tunnel,
    TunnelRefused,
    TunnelState,
    disconnected_by,
    stopped_by,
)
from holdfast.wire import dictionary as avps
from holdfast.wire.codes import Cdn, StopCcn
from holdfast.wire.messages import Message, Msg

TICK = 100 * MILLISECOND
"""How often timers are looked at: far finer than the 1 s and 3 s that they hold."""

_TIMEOUTS = {
    CALLING: Failure.NO_ANSWER,
    IN_LCP: Failure.LCP_TIMEOUT,
    IN_AUTH: Failure.AUTH_TIMEOUT,
    IN_IPCP: Failure.IPCP_TIMEOUT,
}


class Engine:
    """All tunnels and calls of one run. `send` puts a datagram on the wire, `clock` gives the Instant."""

    def __init__(
        self,
        plan: Plan,
        send: Callable[[bytes], object],
        clock: Callable[[], Instant],
        random: RandomBytes,
        on_packet: Callable[[Call, bytes], None] = lambda call, data: None,
    ) -> None:
        self._plan = plan
        self._send = send
        self._clock = clock
        self._random = random
        self._total = max(plan.total, plan.sessions)
        self._timeout = round(plan.setup_timeout_s * SECOND)
        self._fixed_secret = None if "{" in plan.secret else plan.secret.encode()
        self.packet = on_packet
        self._client = Client(self, send, self._secret_of, plan.mru)
        self._handlers = self._client.handlers
        self._calls: dict[bytes, Call] = {}
        self._starting: dict[int, Call] = {}
        self._up: dict[int, Call] = {}
        self._owing: list[Tunnel] = []
        self._tunnels: dict[int, Tunnel] = {}
        self._ready: list[Tunnel] = []
        self._turn = 0
        self._first_id = int.from_bytes(random(2), "big")
        self._tick_at: Instant = 0
        self.started = 0
        self.placed_from: Instant = 0
        self.last_opened_at: Instant = 0
        self.latencies: list[int] = []
        self.lateness: list[int] = []
        self.tunnels_opened = 0
        self.failed: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.tunnels_failed: Counter[str] = Counter()
        self.renegotiations = 0
        self.cleared = 0

    # What the run asks.

    def open_tunnel(self, now: Instant) -> Tunnel:
        """Send one SCCRQ."""
        local_id = (self._first_id + len(self._tunnels)) % 0xFFFF + 1
        tunnel = Tunnel(local_id, self._plan.tunnel_secret, self._random(CHALLENGE_SIZE), self._send)
        self._tunnels[local_id] = tunnel
        tunnel.open(self._plan.host_name, now)
        return tunnel

    def begin(self, now: Instant) -> None:
        """Calls may start from now on; with a rate, this is the moment that due times count from."""
        self.placed_from = now

    @property
    def finished(self) -> bool:
        """Whether every call has been placed and has come up or failed."""
        return self.started >= self._total and not self._starting

    @property
    def up(self) -> dict[int, Call]:
        """The open sessions by index."""
        return self._up

    @property
    def in_flight(self) -> int:
        """Calls that are being set up."""
        return len(self._starting)

    @property
    def retransmitted(self) -> int:
        """Control messages sent again."""
        return sum(tunnel.channel.retransmitted for tunnel in self._tunnels.values())

    @property
    def quiet(self) -> bool:
        """Whether nothing waits for an acknowledgement."""
        return not any(tunnel.channel.unacked for tunnel in self._tunnels.values())

    def next_due(self) -> Instant | None:
        """When the next call is due, None if none is or calls start as others end."""
        if not self._plan.rate or self.started >= self._total:
            return None
        return self.placed_from + round(self.started * SECOND / self._plan.rate)

    def place(self, now: Instant) -> None:
        """Start the calls that are due, as far as the limits and the windows allow."""
        if not self.placed_from or self.started >= self._total:
            return
        plan = self._plan
        if not self._ready:
            if not self._tunnels or all(t.state is TunnelState.CLOSED for t in self._tunnels.values()):
                self.failed[Failure.NO_TUNNEL] += self._total - self.started
                self.started = self._total
            return
        while self.started < self._total and len(self._starting) < plan.in_flight:
            due = self.next_due() or now
            if due > now:
                return
            if len(self._up) + len(self._starting) >= plan.sessions:
                if not self._up:
                    return
                self._clear(next(iter(self._up.values())), now)
            tunnel = self._roomy()
            if tunnel is None:
                return
            self._start(tunnel, due, now)

    def close(self, now: Instant) -> None:
        """Send a StopCCN on every tunnel; their calls are over without being counted as lost."""
        for tunnel in self._tunnels.values():
            if tunnel.state is TunnelState.OPEN:
                tunnel.stop(StopCcn.SHUTTING_DOWN, now)
        self._calls.clear()
        self._up.clear()
        self._ready.clear()

    # What the wire brings.

    def receive(self, batch: list[bytes], now: Instant) -> None:
        """Datagrams as they came; acknowledgements that nothing carried go out at the end."""
        calls, handlers = self._calls, self._handlers
        for data in batch:
            if data[:2] == DATA_FLAGS:
                call = calls.get(data[2:6])
                if call is not None:
                    handler = handlers.get(data[6:11])
                    if handler is not None:
                        handler(call, data)
                    else:
                        self._odd(data)
            elif len(data) >= CONTROL_SIZE and data[0] & 0x80:
                self._control(data, now)
            else:
                self._odd(data)
        if self._owing:
            for tunnel in self._owing:
                tunnel.channel.flush()
            self._owing.clear()

    def timers(self, now: Instant) -> None:
        """Retransmissions and time-outs; cheap to call often."""
        if now < self._tick_at:
            return
        self._tick_at = now + TICK
        for tunnel in list(self._tunnels.values()):
            if not tunnel.channel.timer(now):
                self._drop(tunnel, Failure.TUNNEL_SILENT)
        for call in list(self._starting.values()):
            if now - call.started_at >= self._timeout:
                self.ended(call, _TIMEOUTS[call.phase])
            else:
                self._client.timer(call, now)

    # What the PPP client reports.

    def opened(self, call: Call) -> None:
        """A call is complete."""
        if self._starting.pop(call.index, None) is None:
            self._up[call.index] = call
            return
        now = self._clock()
        self.last_opened_at = now
        self.latencies.append(now - call.started_at)
        self.lateness.append(call.started_at - call.due_at)
        call.tunnel.starting -= 1
        self._up[call.index] = call

    def renegotiated(self, call: Call) -> None:
        """The server began PPP again on an open session."""
        self.renegotiations += 1

    def ended(self, call: Call, reason: str) -> None:
        """A set-up failed or a session is lost: counted, and a CDN sent while its tunnel lives."""
        self._forget(call, reason)
        if call.tunnel.state is TunnelState.OPEN:
            call.tunnel.disconnect(call, Cdn.NOT_IN_TIME, self._clock())

    # Inside.

    def _secret_of(self, call: Call) -> bytes:
        if self._fixed_secret is not None:
            return self._fixed_secret
        return self._plan.secret.format(n=call.index + self._plan.first).encode()

    def _roomy(self) -> Tunnel | None:
        """The next tunnel in turn that can send an ICRQ at once."""
        ready, limit = self._ready, self._plan.tunnel_in_flight
        for _ in range(len(ready)):
            self._turn = (self._turn + 1) % len(ready)
            tunnel = ready[self._turn]
            if tunnel.channel.has_room and (not limit or tunnel.starting < limit):
                return tunnel
        return None

    def _start(self, tunnel: Tunnel, due: Instant, now: Instant) -> None:
        index = self.started
        self.started += 1
        local_id = tunnel.allocate()
        call = Call(index, tunnel, local_id, due, now)
        call.user = self._plan.user.format(n=index + self._plan.first).encode()
        call.magic = self._random(4)
        call.ids = (tunnel.local_id << 16 | local_id).to_bytes(4, "big")
        tunnel.calls[local_id] = call
        tunnel.starting += 1
        self._calls[call.ids] = call
        self._starting[index] = call
        tunnel.channel.transmit(0, icrq(local_id, index + 1), now)

    def _clear(self, call: Call, now: Instant) -> None:
        """End an open session on purpose, to make room for a new one."""
        self.cleared += 1
        del self._up[call.index], self._calls[call.ids]
        call.phase = OVER
        call.tunnel.disconnect(call, Cdn.ADMINISTRATIVE, now)

    def _forget(self, call: Call, reason: str) -> None:
        if self._calls.pop(call.ids, None) is None:
            return
        if self._starting.pop(call.index, None) is not None:
            call.tunnel.starting -= 1
            self.failed[reason] += 1
        else:
            self._up.pop(call.index, None)
            self.lost[reason] += 1
        call.phase = OVER

    def _drop(self, tunnel: Tunnel, reason: str) -> None:
        """A tunnel and all its calls are over."""
        if tunnel.state is TunnelState.WAIT_REPLY:
            self.tunnels_failed[reason] += 1
        tunnel.state = TunnelState.CLOSED
        tunnel.channel.unacked.clear()
        if tunnel in self._ready:
            self._ready.remove(tunnel)
        for call in list(tunnel.calls.values()):
            self._forget(call, reason)
        tunnel.calls.clear()

    def _odd(self, data: bytes) -> None:
        """A data message in an unusual form, or a frame that no handler takes."""
        plain = canonical(data) if len(data) >= 2 else None
        if plain is None or (call := self._calls.get(plain[2:6])) is None:
            return
        handler = self._handlers.get(plain[6:11])
        if handler is not None:
            handler(call, plain)
        else:
            self._client.unknown(call, plain)

    def _control(self, data: bytes, now: Instant) -> None:
        _, length, tunnel_id, session_id, ns, nr = CONTROL.unpack_from(data)
        tunnel = self._tunnels.get(tunnel_id)
        if tunnel is None or length > len(data):
            return
        channel = tunnel.channel
        channel.acknowledge(nr, now)
        if length == CONTROL_SIZE:
            return
        fresh = channel.accept(ns)
        self._owing.append(tunnel)
        if not fresh:
            return
        if data.startswith(ICRP_HEAD, CONTROL_SIZE) and length >= ICRP_ID + 2:
            self._connect(tunnel, session_id, data[ICRP_ID] << 8 | data[ICRP_ID + 1], now)
            return
        try:
            self._dispatch(tunnel, session_id, tunnel.decode(data[CONTROL_SIZE:length]), now)
        except TunnelRefused as e:
            self._drop(tunnel, str(e))
            tunnel.stop(StopCcn.NOT_AUTHORISED, now)
        except HoldfastError as e:
            self._drop(tunnel, f"{Failure.TUNNEL_REFUSED}: {e}")

    def _connect(self, tunnel: Tunnel, session_id: int, peer_id: int, now: Instant) -> None:
        """An ICRP: answer with the ICCN and begin LCP."""
        call = tunnel.calls.get(session_id)
        if call is None or call.phase != CALLING:
            return
        call.peer_id = peer_id
        call.head = DATA_HEAD.pack(DATA_FLAGS, tunnel.channel.peer_id, peer_id, ADDRESS_CONTROL)
        sent = tunnel.channel.transmit(peer_id, ICCN, now)
        self._client.start(call, now, ask=sent)

    def _dispatch(self, tunnel: Tunnel, session_id: int, message: Message, now: Instant) -> None:
        kind = message.type
        if kind == Msg.SCCRP:
            opening = tunnel.state is TunnelState.WAIT_REPLY
            tunnel.reply(message, now)
            if opening:
                self.tunnels_opened += 1
                self._ready.append(tunnel)
        elif kind == Msg.STOPCCN:
            tunnel.channel.flush()
            self._drop(tunnel, stopped_by(message))
        elif kind == Msg.ICRP:
            self._connect(tunnel, session_id, message.need(avps.ASSIGNED_SESSION_ID), now)
        elif kind == Msg.CDN:
            call = tunnel.calls.get(session_id)
            if call is not None:
                del tunnel.calls[session_id]
                self._forget(call, disconnected_by(message))

    def sessions(self) -> Iterator[Call]:
        """The open sessions, oldest first."""
        return (call for call in self._up.values() if call.phase == OPEN)
