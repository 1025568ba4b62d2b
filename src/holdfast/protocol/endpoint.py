"""One L2TP endpoint: routes control messages, timers and commands to the machines, and catches their errors.

Invariants: everything that a peer can do wrong ends here as a counter or as the answer that its error carries
(`PeerError`); an error of ours in a session's machine ends that session (CDN 2/6), in a tunnel's machine that tunnel
(StopCCN 2/6), and never the node. Every public input returns the effects it caused, in order.
"""

import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from holdfast.core.clock import MILLISECOND, Duration, Instant
from holdfast.core.counters import Counter
from holdfast.core.errors import Malformed
from holdfast.core.ids import IdsExhausted, RandomBytes
from holdfast.protocol import (
    calls,
    closing,
    handshake,
    orphans,
    recovery,
    recovery_endpoint,
    remote_endpoint,
    resync,
    silent,
    sync,
)
from holdfast.protocol.channel import Outcome
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Address, Cause, Effect, Persist, Send
from holdfast.protocol.session import NO_CALL, Call, Session, SessionState
from holdfast.protocol.settings import EndpointSettings, Evidence, FindPeer, Method, PeerSettings
from holdfast.protocol.tunnel import RePhase, Tunnel, TunnelState
from holdfast.records import SessionRecord, Side, TunnelRecord
from holdfast.records.calls import CallsBefore, none_before
from holdfast.records.writes import Hint, SetAside
from holdfast.wire.codes import Cdn, General, Msg, PeerError, StopCcn
from holdfast.wire.dictionary import (
    ASSIGNED_TUNNEL_ID,
    HOST_NAME,
    RESULT_CODE,
    TUNNEL_RECOVERY,
    ResultCode,
)
from holdfast.wire.header import control_header, parse_control, version
from holdfast.wire.messages import Message, decode, encode

SessionHandler = Callable[[Context, Tunnel, int, Message, Instant], None]
TunnelHandler = Callable[[Context, Tunnel, Message, Instant], None]

L2TP_VERSION: Final = 2

SESSION_MESSAGES: Final[Mapping[int, SessionHandler]] = {
    Msg.ICRQ: calls.on_icrq,
    Msg.ICRP: calls.on_icrp,
    Msg.ICCN: calls.on_iccn,
    Msg.CDN: calls.on_cdn,
}
"""Messages whose faults end a session (V2-22), and what handles them."""

TUNNEL_MESSAGES: Final[Mapping[int, TunnelHandler]] = {
    Msg.SCCRP: handshake.on_sccrp,
    Msg.SCCCN: handshake.on_scccn,
    Msg.FSQ: sync.on_fsq,
    Msg.FSR: sync.on_fsr,
    Msg.HELLO: lambda ctx, tunnel, msg, now: None,
}

RECOVERY_TUNNEL_MESSAGES: Final[Mapping[int, TunnelHandler]] = {
    Msg.SCCRP: recovery_endpoint.on_sccrp,
    Msg.SCCCN: remote_endpoint.on_scccn,
    Msg.HELLO: lambda ctx, tunnel, msg, now: None,
}
"""All that a recovery tunnel is for, besides StopCCN (F-19)."""

UNSERVED_CALLS: Final = frozenset((Msg.OCRQ, Msg.OCRP, Msg.OCCN))
IGNORED: Final = frozenset((Msg.WEN, Msg.SLI, Msg.CSUN, Msg.CSURQ))
"""Known messages that need no action here yet."""


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
            self._first_contact(session_id, ns, nr, body, source, now)
            return self._take()
        tunnel = ctx.tunnels.get(tunnel_id)
        if tunnel is None:
            ctx.count(Counter.RX_UNKNOWN_TUNNEL)
        elif source != tunnel.peer_address and not _may_answer_from(tunnel, source):
            ctx.count(Counter.RX_WRONG_SOURCE)
        else:
            self._receive(tunnel, session_id, ns, nr, body, source, now)
        return self._take()

    def _receive(
        self,
        tunnel: Tunnel,
        session_id: int,
        ns: int,
        nr: int,
        body: bytes,
        source: Address,
        now: Instant,
    ) -> None:
        """A message on a tunnel that exists, from its peer."""
        ctx = self.ctx
        if self._discards(tunnel):
            ctx.count(Counter.RX_DISCARDED_RECOVERING)
            return
        if tunnel.state is TunnelState.WAIT_REPLY and body:
            if tunnel.recovers and not self._credible(tunnel, body):
                return
            tunnel.peer_address = source
        if tunnel.resync is not None and not silent.hear(ctx, tunnel, ns, nr, body, now):
            return
        channel = tunnel.channel
        outcome = channel.receive(session_id, ns, nr, body, now)
        if outcome == Outcome.BAD_NR:
            ctx.count(Counter.RX_BAD_NR)
            return
        if tunnel.hello_at is not None:
            tunnel.hello_at = ctx.next_hello(now)
        if outcome == Outcome.DELIVER:
            self._process(tunnel, session_id, body, now)
            self._process_early(tunnel, now)
        elif outcome == Outcome.DUPLICATE:
            ctx.count(Counter.RX_DUPLICATE)
            if now < tunnel.heeds_until and silent.still_ends(tunnel, session_id, ns, body):
                self._process(tunnel, session_id, body, now)
        elif outcome == Outcome.EARLY:
            ctx.count(Counter.RX_OUT_OF_ORDER)
        if tunnel.own_recovery is not None:
            if outcome == Outcome.DELIVER:
                recovery_endpoint.confirm(ctx, tunnel, now)
            recovery_endpoint.acknowledged(ctx, tunnel)
        elif tunnel.recovers and tunnel.initiator and tunnel.established and channel.idle:
            old = ctx.tunnels.get(tunnel.recovers)
            if old is not None:
                recovery_endpoint.confirm(ctx, old, now)
        if tunnel.clear_at is not None and channel.attempts == 0:
            tunnel.clear_at = None
            tunnel.postponed = False
        resent = channel.retransmissions
        channel.finish(now)
        if channel.retransmissions != resent:
            ctx.count(Counter.TX_RETRANSMIT, channel.retransmissions - resent)
        if tunnel.leaving:
            calls.iccn_left(ctx, tunnel)
        ctx.flush(tunnel)
        if tunnel.recovers:
            recovery_endpoint.remove_finished(ctx, tunnel)

    def _process_early(self, tunnel: Tunnel, now: Instant) -> None:
        """Messages that had come too early and whose turn it is now."""
        while (early := tunnel.channel.next_early()) is not None:
            self._process(tunnel, early[0], early[1], now)

    def _discards(self, tunnel: Tunnel) -> bool:
        """F-34: before its own reset an old tunnel hears nothing; at the remote endpoint only if so configured (T-4)."""
        own = tunnel.own_recovery
        if own is not None and own.phase < RePhase.RESET:
            return True
        return tunnel.pending_recovery_id != 0 and self.ctx.settings.failover.strict_discard

    def _credible(self, rt: Tunnel, body: bytes) -> bool:
        """Whether the first answer on a recovery tunnel of ours may touch its state: forgeries only count (F-33)."""
        try:
            msg = decode(body, rt.secret)
        except Malformed:
            self.ctx.count(Counter.RX_MALFORMED)
            return False
        return msg.type != Msg.SCCRP or recovery_endpoint.accepts(self.ctx, rt, msg)

    def _process(self, tunnel: Tunnel, session_id: int, body: bytes, now: Instant) -> None:
        """One message in its turn. Every error of the peer is answered here; errors of ours end what they hit."""
        ctx = self.ctx
        if tunnel.state is TunnelState.CLOSED or tunnel.local_id not in ctx.tunnels:
            return
        msg: Message | None = None
        try:
            msg = decode(body, tunnel.secret)
            if msg.ignored:
                ctx.count(Counter.RX_IGNORED_AVP, msg.ignored)
            handler = SESSION_MESSAGES.get(msg.type)
            if handler is not None and not tunnel.is_recovery:
                if not tunnel.established:
                    ctx.count(Counter.RX_UNKNOWN_SESSION)
                    return
                if msg.fault is not None:
                    raise PeerError(Cdn.GENERAL_ERROR, msg.fault.error, msg.fault.text)
                tunnel.unseen = False
                handler(ctx, tunnel, session_id, msg, now)
            else:
                self._process_tunnel_message(tunnel, msg, now)
                if msg.type in IGNORED:
                    orphans.named(ctx, tunnel, session_id, now)
        except Malformed as e:
            ctx.count(Counter.RX_MALFORMED)
            closing.stop(
                ctx, tunnel, Cause.PEER_FAULT, now, StopCcn.GENERAL_ERROR, General.WRONG_LENGTH, str(e)
            )
        except PeerError as e:
            if isinstance(e.code, Cdn) and msg is not None:
                calls.refuse(ctx, tunnel, session_id, msg, e, now)
            else:
                self._stop_for(tunnel, e, now)
        except Exception as e:  # noqa: BLE001  # a fault of ours must cost no more than what it hit
            self._fault(tunnel, session_id if msg is not None and msg.type in SESSION_MESSAGES else 0, e, now)

    def _process_tunnel_message(self, tunnel: Tunnel, msg: Message, now: Instant) -> None:
        ctx = self.ctx
        if msg.type == Msg.STOPCCN:
            code = msg.get(RESULT_CODE) or ResultCode(int(StopCcn.CLEAR_REQUEST), 0, "")
            if tunnel.recovers and tunnel.initiator:
                recovery_endpoint.on_stopccn(ctx, tunnel, code, now)
            elif tunnel.is_recovery:
                remote_endpoint.failed(ctx, tunnel, now)
            closing.stopped_by_peer(ctx, tunnel, code, now)
            return
        handlers = RECOVERY_TUNNEL_MESSAGES if tunnel.is_recovery else TUNNEL_MESSAGES
        handler = handlers.get(msg.type)
        if tunnel.state is TunnelState.CLOSING:
            return
        if handler is not None:
            if msg.fault is not None:
                raise PeerError(StopCcn.GENERAL_ERROR, msg.fault.error, msg.fault.text)
            handler(ctx, tunnel, msg, now)
        elif tunnel.is_recovery:
            ctx.count(Counter.RX_ON_RECOVERY_TUNNEL)
        elif msg.type == Msg.SCCRQ:
            raise PeerError(StopCcn.FSM_ERROR, General.NONE, f"SCCRQ in {tunnel.state.name}")
        elif msg.type in UNSERVED_CALLS or msg.type in IGNORED:
            ctx.count(Counter.RX_UNKNOWN_MESSAGE)
            ctx.trace("peer.unserved_message", "warning", tunnel=tunnel.local_id, message=Msg(msg.type).name)
        elif msg.mandatory:
            text = f"unknown message type {msg.type}"
            raise PeerError(StopCcn.GENERAL_ERROR, General.UNKNOWN_MANDATORY, text)
        else:
            ctx.count(Counter.RX_UNKNOWN_MESSAGE)

    def _stop_for(self, tunnel: Tunnel, e: PeerError, now: Instant) -> None:
        """End a tunnel for its peer's fault. A recovery tunnel's end is also news for the tunnel it was to recover."""
        ctx = self.ctx
        code = e.code if isinstance(e.code, StopCcn) else StopCcn.GENERAL_ERROR
        closing.stop(ctx, tunnel, Cause.PEER_FAULT, now, code, e.error, e.text)
        if tunnel.is_recovery and not tunnel.initiator:
            remote_endpoint.failed(ctx, tunnel, now)
        elif tunnel.recovers:
            recovery_endpoint.on_stopccn(ctx, tunnel, ResultCode(int(code), int(e.error), e.text), now)

    def _fault(self, tunnel: Tunnel, session_id: int, e: Exception, now: Instant) -> None:
        """An exception that is no peer's fault: end the session or the tunnel whose machine raised it."""
        ctx = self.ctx
        ctx.count(Counter.MACHINE_FAULT)
        text = "internal error"
        details = "".join(traceback.format_exception(e))
        ctx.trace("machine.fault", "error", tunnel=tunnel.local_id, session=session_id, traceback=details)
        session = tunnel.sessions.get(session_id) if session_id else None
        if session is not None:
            closing.disconnect(
                ctx, tunnel, session, Cause.FAULT, now, Cdn.GENERAL_ERROR, General.VENDOR_ERROR, text
            )
        else:
            closing.stop(ctx, tunnel, Cause.FAULT, now, StopCcn.GENERAL_ERROR, General.VENDOR_ERROR, text)

    def _first_contact(
        self, session_id: int, ns: int, nr: int, body: bytes, source: Address, now: Instant
    ) -> None:
        """A message with tunnel id 0: an SCCRQ, or a StopCCN from a peer that does not know our id yet (V2-86)."""
        ctx = self.ctx
        try:
            msg = decode(body)
        except Malformed:
            ctx.count(Counter.RX_MALFORMED)
            return
        peer_id = msg.get(ASSIGNED_TUNNEL_ID)
        if not peer_id:
            ctx.count(Counter.RX_MALFORMED)
            return
        known = ctx.tunnels.get(ctx.by_sccrq.get((source, peer_id), 0))
        if known is not None:
            self._receive(known, session_id, ns, nr, body, source, now)
        elif msg.type != Msg.SCCRQ or ns != 0:
            ctx.count(Counter.RX_UNKNOWN_TUNNEL)
        else:
            try:
                self._on_sccrq(msg, peer_id, source, now)
            except PeerError as e:
                ctx.count(Counter.TUNNELS_REFUSED)
                self._refuse_sccrq(peer_id, e, source)

    def _on_sccrq(self, msg: Message, peer_id: int, source: Address, now: Instant) -> None:
        """Cheap checks first, then a half-open tunnel. Raises PeerError.

        The limits are per peer, and do not hold back who names a tunnel that is up with both its ids: a flood must
        not cost that tunnel its recovery, and there is one attempt at a time for each (F-S6).
        """
        ctx, settings = self.ctx, self.ctx.settings
        peer = ctx.find_peer(source[0], msg.get(HOST_NAME) or "")
        recovers = remote_endpoint.claimed(ctx, source, msg) is not None
        if not recovers and not ctx.admits_sccrq(peer.name if peer is not None else "", now):
            ctx.count(Counter.SCCRQ_RATE_LIMITED)
            return
        if peer is None:
            ctx.count(Counter.AUTH_FAILED)
            raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "no such peer is configured")
        if msg.fault is not None:
            raise PeerError(StopCcn.GENERAL_ERROR, msg.fault.error, msg.fault.text)
        handshake.check_version(msg)
        if not recovers and len(ctx.half_open) >= settings.max_half_open:
            ctx.count(Counter.SCCRQ_RATE_LIMITED)
            return
        handshake.check_reflection(ctx, msg)
        try:
            if msg.get(TUNNEL_RECOVERY) is not None:
                tunnel = remote_endpoint.on_sccrq(ctx, source, peer, msg, now)
            else:
                tunnel = self._accept_tunnel(peer, msg, source, now)
        except IdsExhausted:
            raise PeerError(StopCcn.GENERAL_ERROR, General.NO_RESOURCES, "no tunnel ids left") from None
        if tunnel is not None:
            ctx.by_sccrq[(source, peer_id)] = tunnel.local_id
            ctx.flush(tunnel)

    def _accept_tunnel(
        self, peer: PeerSettings, msg: Message, source: Address, now: Instant
    ) -> Tunnel | None:
        """An ordinary SCCRQ: answer it, unless we are full, cannot record it, or win the tie."""
        ctx, settings = self.ctx, self.ctx.settings
        if not settings.accept_tunnels:
            raise PeerError(StopCcn.NOT_AUTHORISED, General.NONE, "tunnels are not accepted here")
        if not ctx.admitting:
            ctx.count(Counter.JOURNAL_REFUSED)
            raise PeerError(StopCcn.GENERAL_ERROR, General.NO_RESOURCES, "state cannot be recorded")
        if len(ctx.tunnels) - ctx.recovery_tunnels >= settings.max_tunnels:
            raise PeerError(StopCcn.GENERAL_ERROR, General.NO_RESOURCES, "too many tunnels")
        if not handshake.lose_or_win_tie(ctx, source, msg):
            return None
        tunnel = ctx.new_tunnel(peer, source, initiator=False, side=Side.LNS, now=now)
        tunnel.channel.nr = 1
        tunnel.peer_failover = handshake.peer_capability(msg)
        try:
            handshake.accept(ctx, tunnel, msg, now)
        except PeerError:
            ctx.remove(tunnel)
            raise
        return tunnel

    def _refuse_sccrq(self, peer_id: int, e: PeerError, source: Address) -> None:
        """Answer an SCCRQ with a StopCCN that keeps no state: a repeated SCCRQ draws another (V2-186)."""
        ctx = self.ctx
        code = RESULT_CODE(ResultCode(int(e.code), int(e.error), e.text))
        body = encode(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(ctx.tunnel_ids.peek()), code)
        ctx.count(Counter.TX_CONTROL)
        ctx.emit(Send(0, control_header(peer_id, 0, 0, 1, len(body)) + body, source))

    def timer(self, now: Instant) -> list[Effect]:
        """Run everything whose time has come."""
        ctx = self.ctx
        for tunnel_id in ctx.deadlines.due(now):
            tunnel = ctx.tunnels.get(tunnel_id)
            if tunnel is not None:
                try:
                    self._tunnel_timer(tunnel, now)
                except Exception as e:  # noqa: BLE001  # as in _process
                    self._fault(tunnel, 0, e, now)
                ctx.flush(tunnel)
        recovery_endpoint.start_queued(ctx, now)
        silent.probe_queued(ctx, now)
        return self._take()

    def _tunnel_timer(self, tunnel: Tunnel, now: Instant) -> None:
        ctx, channel = self.ctx, tunnel.channel
        if tunnel.end_at is not None and now >= tunnel.end_at:
            self._ended(tunnel, now)
        if channel.retransmit_at is not None and now >= channel.retransmit_at:
            before = channel.retransmissions
            channel.timed_out(now)
            if channel.exhausted:
                self._unanswered(tunnel, now)
            ctx.count(Counter.TX_RETRANSMIT, channel.retransmissions - before)
        if tunnel.clear_at is not None and now >= tunnel.clear_at:
            self._clear_or_postpone(tunnel, now)
        if tunnel.hello_at is not None and now >= tunnel.hello_at:
            tunnel.hello_at = ctx.next_hello(now)
            _hello(tunnel, now)
        recovery_endpoint.on_timer(ctx, tunnel, now)
        if silent.hopeless(tunnel, now) and recovery.may_ask(ctx, tunnel):
            recovery_endpoint.again(ctx, tunnel, now)
        if silent.on_timer(ctx, tunnel, now):
            self._process_early(tunnel, now)
            channel.finish(now)
        calls.expire(ctx, tunnel, now)
        sync.guard(ctx, tunnel, now)
        silent.end_if_empty(ctx, tunnel, now)

    def _ended(self, tunnel: Tunnel, now: Instant) -> None:
        """A set-up took too long, a closed tunnel has lingered long enough, or a finished recovery tunnel too."""
        ctx = self.ctx
        if tunnel.state >= TunnelState.CLOSING:
            ctx.remove(tunnel)
        elif tunnel.recovers and tunnel.initiator:
            recovery_endpoint.on_timeout(ctx, tunnel, now)
        elif tunnel.is_recovery and tunnel.established:
            closing.stop(ctx, tunnel, Cause.LOCAL, now)
        else:
            if tunnel.is_recovery:
                remote_endpoint.failed(ctx, tunnel, now)
            closing.vanish(ctx, tunnel, Cause.TIMEOUT, "set-up not completed in time")

    def _unanswered(self, tunnel: Tunnel, now: Instant) -> None:
        """Every attempt is spent: clear, unless the peer asked for time to recover (F-50, F-51, T-5)."""
        ctx = self.ctx
        if tunnel.clear_at is not None:
            tunnel.channel.retransmit()
            return
        limit = self._wait_for_recovery(tunnel)
        if limit is not None and limit > now:
            tunnel.clear_at = limit
            tunnel.channel.retransmit()
            ctx.trace("tunnel.waiting_for_recovery", "warning", tunnel=tunnel.local_id, peer=tunnel.peer.name)
        elif tunnel.clear_at is None:
            self._clear_or_postpone(tunnel, now)

    def _wait_for_recovery(self, tunnel: Tunnel) -> Instant | None:
        """Until when the peer's Recovery Time keeps a silent tunnel alive, or None."""
        ctx, peer = self.ctx, tunnel.peer_failover
        since, spent = tunnel.channel.unacked_since, tunnel.channel.give_up_at()
        if peer is None or not peer.control or not tunnel.established or since is None or spent is None:
            return None
        asked = min(peer.recovery_time_ms * MILLISECOND, ctx.settings.failover.peer_recovery_cap)
        return (spent if ctx.settings.failover.additive else since) + asked

    def _clear_or_postpone(self, tunnel: Tunnel, now: Instant) -> None:
        """Clear a tunnel whose peer is gone; a pending recovery may put that off once, by its set-up time (T-42)."""
        if not tunnel.channel.exhausted:
            tunnel.clear_at = None
            return
        if tunnel.pending_recovery_id and not tunnel.postponed:
            tunnel.postponed = True
            tunnel.clear_at = now + self.ctx.settings.failover.setup_timeout
            return
        closing.vanish(self.ctx, tunnel, Cause.TIMEOUT, "the peer does not answer")

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
        ctx = self.ctx
        ctx.calls_before = calls_before
        for record in tunnels:
            try:
                self._restore_tunnel(record, now)
            except Exception as e:  # noqa: BLE001  # one record that cannot be used must not keep the others away
                reason = f"{type(e).__name__}: {e}"
                ctx.trace("record.quarantined", "error", kind="tunnel", tunnel=record.local_id, reason=reason)
                ctx.emit(Persist(record.local_id, (SetAside(record, reason),)))
        ctx.tunnel_ids.reserve(ctx.tunnels)
        for saved in sessions:
            owner = ctx.tunnels.get(saved.tunnel_id)
            if owner is not None:
                self._restore_session(owner, saved)
        return self._take()

    def recover(self, now: Instant, away: Duration | None = None) -> list[Effect]:
        """Begin to recover every restored tunnel by the method that suits its peer: in the turn of `restore`, and
        after `inform`.

        `away` is for how long nobody was there at most, None if that is not known.
        """
        ctx = self.ctx
        ctx.gone_at = now - away if away is not None else None
        for tunnel in ctx.established():
            if recovery.choose(ctx, tunnel) is Method.SILENT:
                silent.begin(ctx, tunnel, now, self._patience(tunnel))
            else:
                recovery_endpoint.begin(ctx, tunnel, now)
            ctx.flush(tunnel)
        recovery_endpoint.start_queued(ctx, now)
        return self._take()

    def _patience(self, tunnel: Tunnel) -> Duration:
        """How long silent probes may go unanswered; not to the end where RFC 4951 is left to be tried."""
        if recovery.may_ask(self.ctx, tunnel):
            return self.ctx.settings.failover.silent_patience
        return max(resync.PATIENCE, tunnel.evidence.patience)

    def inform(self, tunnel_id: int, evidence: Evidence) -> None:
        """What experience says of a tunnel's peer, from now on; of a tunnel that is not there it says nothing."""
        tunnel = self.ctx.tunnels.get(tunnel_id)
        if tunnel is not None:
            tunnel.evidence = evidence

    def _restore_tunnel(self, record: TunnelRecord, now: Instant) -> None:
        ctx = self.ctx
        found = ctx.find_peer(record.peer_address, record.peer_host_name)
        secret = record.secret.encode("utf-8", "surrogateescape")
        peer = PeerSettings(
            name=record.peer_name,
            secret=secret,
            host_name=record.peer_host_name,
            recovery_addresses=found.recovery_addresses if found is not None else (),
            method=found.method if found is not None else None,
        )
        tunnel = ctx.restored_tunnel(record, peer)
        tunnel.hello_at = ctx.next_hello(now)

    def _restore_session(self, tunnel: Tunnel, record: SessionRecord) -> None:
        call = NO_CALL
        if record.calling_number or record.called_number:
            call = Call(record.calling_number, record.called_number, record.tx_speed, record.rx_speed)
        session = Session(record.local_id, record.side, SessionState.ESTABLISHED, record.call_serial, call)
        session.peer_id = record.peer_id
        session.framing_type = record.framing_type
        session.established_utc_us = record.established_utc_us
        tunnel.ids.reserve((record.local_id,))
        tunnel.sessions[record.local_id] = session
        tunnel.by_peer[record.peer_id] = record.local_id

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
        """End a tunnel with a StopCCN; unknown ids do nothing."""
        tunnel = self.ctx.tunnels.get(tunnel_id)
        if tunnel is not None and not tunnel.is_recovery:
            closing.stop(self.ctx, tunnel, cause, now, result, error, text)
            self.ctx.flush(tunnel)
        return self._take()

    def probe(self, tunnel_id: int, now: Instant) -> list[Effect]:
        """Ask the peer for a sign of life (HELLO) unless an answer is owed already (V2-87)."""
        tunnel = self.ctx.tunnels.get(tunnel_id)
        if tunnel is not None:
            _hello(tunnel, now)
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


def _hello(tunnel: Tunnel, now: Instant) -> None:
    if tunnel.established and tunnel.channel.idle and not tunnel.channel.held:
        tunnel.channel.send(0, encode(Msg.HELLO), now)


def _may_answer_from(tunnel: Tunnel, source: Address) -> bool:
    """V2-10: the answer to our SCCRQ may come from another port of the same host."""
    return tunnel.state is TunnelState.WAIT_REPLY and tunnel.initiator and source[0] == tunnel.peer_address[0]
