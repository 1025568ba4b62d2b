"""One L2TP endpoint: datagrams, timers and commands go to the tunnels that they are for.

Every public input returns the effects it caused, in order; none raises for what a peer has done, nor for an error of
ours in a tunnel or session (see `dispatch`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from holdfast.core.clock import Duration, Instant
from holdfast.core.counters import Counter
from holdfast.core.errors import Malformed
from holdfast.core.ids import RandomBytes
from holdfast.protocol import (
    calls,
    closing,
    dispatch,
    first_contact,
    handshake,
    orphans,
    reception,
    recovery_endpoint,
    restoring,
    silent,
    timers,
)
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Address, Cause, Effect
from holdfast.protocol.session import Call
from holdfast.protocol.settings import EndpointSettings, Evidence, FindPeer, PeerSettings
from holdfast.protocol.tunnel import Stop, Tunnel, TunnelState
from holdfast.records import SessionRecord, TunnelRecord
from holdfast.records.calls import CallsBefore, none_before
from holdfast.records.writes import Hint
from holdfast.wire.codes import Cdn, General, StopCcn
from holdfast.wire.header import parse_control, version

L2TP_VERSION: Final = 2


class Endpoint:
    """The control protocol of one node."""

    def __init__(
        self,
        settings: EndpointSettings,
        find_peer: FindPeer,
        random: RandomBytes,
        utc_us: Callable[[], int],
    ) -> None:
        self.ctx = Context(settings, find_peer, random, utc_us)

    @property
    def tunnels(self) -> Mapping[int, Tunnel]:
        """Every tunnel by local id, recovery tunnels and closing ones included."""
        return self.ctx.tunnels

    def deadline(self) -> Instant | None:
        """When `timer` wants to be called next."""
        return self.ctx.deadlines.next()

    def _take(self) -> list[Effect]:
        effects, self.ctx.effects = self.ctx.effects, []
        return effects

    def datagram(self, data: bytes, source: Address, now: Instant) -> list[Effect]:
        """One UDP datagram whose T bit is set."""
        ctx = self.ctx
        ctx.counters[Counter.RX_CONTROL] += 1
        try:
            tunnel_id, session_id, ns, nr, end = parse_control(data)
        except Malformed:
            ctx.count(Counter.RX_MALFORMED if version(data) == L2TP_VERSION else Counter.RX_BAD_VERSION)
            return self._take()
        body = data[12:end]
        if tunnel_id == 0:
            first_contact.receive(ctx, session_id, ns, nr, body, source, now)
            return self._take()
        tunnel = ctx.tunnels.get(tunnel_id)
        if tunnel is None:
            ctx.count(Counter.RX_UNKNOWN_TUNNEL)
        elif source != tunnel.peer_address and not _may_answer_from(tunnel, source):
            ctx.count(Counter.RX_WRONG_SOURCE)
        else:
            reception.receive(ctx, tunnel, session_id, ns, nr, body, source, now)
        return self._take()

    def timer(self, now: Instant) -> list[Effect]:
        """Run everything whose time has come."""
        ctx = self.ctx
        for tunnel_id in ctx.deadlines.due(now):
            tunnel = ctx.tunnels.get(tunnel_id)
            if tunnel is not None:
                try:
                    timers.run(ctx, tunnel, now)
                except Exception as e:  # noqa: BLE001 - a fault of ours must cost no more than its tunnel
                    dispatch.fault(ctx, tunnel, 0, e, now)
                ctx.flush(tunnel)
        recovery_endpoint.start_queued(ctx, now)
        silent.probe_queued(ctx, now)
        return self._take()

    def restore(
        self,
        tunnels: Iterable[TunnelRecord],
        sessions: Iterable[SessionRecord],
        now: Instant,
        calls_before: CallsBefore = none_before,
    ) -> list[Effect]:
        """Take over what the journal holds; every id is reserved before any recovery tunnel gets one (T-18).

        A tunnel's record that raises is set aside, and its sessions are left out.
        """
        self.ctx.calls_before = calls_before
        restoring.restore(self.ctx, tunnels, sessions, now)
        return self._take()

    def recover(self, now: Instant, away: Duration | None = None) -> list[Effect]:
        """Begin to recover every restored tunnel by the method that suits its peer: in the turn of `restore`, and
        after `inform`.

        `away` is for how long nobody was there at most, None if that is not known.
        """
        ctx = self.ctx
        ctx.gone_at = now - away if away is not None else None
        restoring.recover(ctx, now)
        return self._take()

    def inform(self, tunnel_id: int, evidence: Evidence) -> None:
        """What experience says of a tunnel's peer, from now on; of a tunnel that is not there it says nothing."""
        tunnel = self.ctx.tunnels.get(tunnel_id)
        if tunnel is not None:
            tunnel.evidence = evidence

    def open_tunnel(self, peer: PeerSettings, address: Address, now: Instant) -> tuple[int, list[Effect]]:
        """Open a tunnel as LAC. Returns its local id. Raises IdsExhausted."""
        tunnel = handshake.open_tunnel(self.ctx, peer, address, now)
        self.ctx.flush(tunnel)
        return tunnel.local_id, self._take()

    def place_call(self, tunnel_id: int, call: Call, now: Instant) -> tuple[int, list[Effect]]:
        """Place an incoming call as LAC; it waits for its tunnel if need be. Raises TunnelNotOpen, IdsExhausted."""
        tunnel = self.ctx.tunnels.get(tunnel_id)
        if tunnel is None:
            raise calls.TunnelNotOpen(f"there is no tunnel {tunnel_id}")
        session_id = calls.place(self.ctx, tunnel, call, now)
        self.ctx.flush(tunnel)
        return session_id, self._take()

    def close_session(
        self,
        tunnel_id: int,
        session_id: int,
        now: Instant,
        result: Cdn = Cdn.ADMINISTRATIVE,
        error: General = General.NONE,
        text: str = "",
        cause: Cause = Cause.LOCAL,
    ) -> list[Effect]:
        """End a session with a CDN; unknown ids do nothing."""
        tunnel = self.ctx.tunnels.get(tunnel_id)
        session = tunnel.sessions.get(session_id) if tunnel is not None else None
        if tunnel is not None and session is not None:
            closing.disconnect(self.ctx, tunnel, session, cause, now, result, error, text)
            silent.end_if_empty(self.ctx, tunnel, now)
            self.ctx.flush(tunnel)
        return self._take()

    def close_tunnel(
        self,
        tunnel_id: int,
        now: Instant,
        result: StopCcn = StopCcn.CLEAR_REQUEST,
        error: General = General.NONE,
        text: str = "",
        cause: Cause = Cause.LOCAL,
    ) -> list[Effect]:
        """End a tunnel with a StopCCN; unknown ids do nothing. One that is on its way back from a restart ends when its
        peer has told its numbers: with any other number it would not be heard.
        """
        tunnel = self.ctx.tunnels.get(tunnel_id)
        if tunnel is not None and silent.unproved(tunnel):
            tunnel.stop_wanted = Stop(cause, result, error, text)
        elif tunnel is not None and not tunnel.is_recovery:
            closing.stop(self.ctx, tunnel, cause, now, result, error, text)
            self.ctx.flush(tunnel)
        return self._take()

    def probe(self, tunnel_id: int, now: Instant) -> list[Effect]:
        """Ask the peer for a sign of life (HELLO) unless an answer is owed already (V2-87)."""
        tunnel = self.ctx.tunnels.get(tunnel_id)
        if tunnel is not None:
            timers.hello(tunnel, now)
            self.ctx.flush(tunnel)
        return self._take()

    def stray_frame(self, tunnel_id: int, session_id: int, source: Address, now: Instant) -> list[Effect]:
        """A PPP frame for a session that does not exist: the peer may hold a call that was lost in our restart."""
        ctx = self.ctx
        tunnel = ctx.tunnels.get(tunnel_id)
        ctx.count(Counter.RX_UNKNOWN_SESSION)
        if tunnel is not None and source == tunnel.peer_address:
            orphans.named(ctx, tunnel, session_id, now)
            ctx.flush(tunnel)
        return self._take()

    def take_hints(self) -> tuple[Hint, ...]:
        """The numbers of every tunnel that have changed since they were last taken, for the journal."""
        ctx = self.ctx
        return tuple(ctx.hint(ctx.tunnels[i]) for i in list(ctx.hints) if i in ctx.tunnels)

    def suspect(self, tunnel_id: int) -> bool:
        """Whether the tunnel's peer is overdue with an acknowledgement, or the tunnel is being recovered."""
        tunnel = self.ctx.tunnels.get(tunnel_id)
        return tunnel is not None and tunnel.suspect

    def set_admitting(self, admitting: bool) -> None:
        """Whether new tunnels and sessions may be set up: no, while the journal cannot write."""
        self.ctx.admitting = admitting

    def records(self, tunnel_id: int) -> TunnelRecord:
        """A tunnel as it is recorded. Raises KeyError."""
        s = self.ctx.settings
        return self.ctx.tunnels[tunnel_id].record(s.local_address, s.local_port, s.host_name)


def _may_answer_from(tunnel: Tunnel, source: Address) -> bool:
    """V2-10: the answer to our SCCRQ may come from another port of the same host."""
    return tunnel.state is TunnelState.WAIT_REPLY and tunnel.initiator and source[0] == tunnel.peer_address[0]
