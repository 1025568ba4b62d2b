"""The node without its I/O: the L2TP endpoint, a PPP link per session, subscribers and AAA joined into one machine.

Inputs come with `now`; every input returns the effects it caused, in order. Invariants: a session is wanted in the
data plane only after its record is safe, which the lanes of the effects guarantee (`Persist` before `Want`); its
address goes back to the pool only after its record is gone (`Persist` before `Release`). An error in one session's
machine ends that session and nothing else.
"""

import traceback
from collections.abc import Callable
from functools import partial
from typing import Final

from holdfast.core.auth import Accept
from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.core.counters import Counter
from holdfast.core.deadlines import Deadlines
from holdfast.core.errors import LocalError
from holdfast.core.ids import RandomBytes
from holdfast.daemon.choices import choice_view
from holdfast.daemon.config import Config
from holdfast.daemon.effects import (
    ERROR,
    INFO,
    WARNING,
    Address,
    Called,
    Effect,
    Log,
    Persist,
    Release,
    Send,
    Unwant,
    Want,
)
from holdfast.daemon.identity import INTERVAL as ENDPOINT_INTERVAL
from holdfast.daemon.identity import Identity
from holdfast.daemon.lac import Lac
from holdfast.daemon.ledger import Ledger
from holdfast.daemon.line import NO_TRAFFIC, Line
from holdfast.daemon.proofs import NO_ANSWER, Proofs, Turn
from holdfast.daemon.recoveries import Recoveries, log_of
from holdfast.daemon.settings import endpoint_settings, local_aaa, peer_finder, server_config
from holdfast.dataplane.contract import Entry
from holdfast.ppp import effects as links
from holdfast.ppp.link import Link, Phase
from holdfast.protocol import effects as l2tp
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.recovery import choose
from holdfast.protocol.settings import Method
from holdfast.protocol.silent import ROLE as SILENT
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import Counters, PppRecord, SessionRecord, Side, session_key, split_key
from holdfast.records.writes import ForgetSession, Hint, Save, SetAside
from holdfast.state.saved import Saved
from holdfast.wire.codes import Cdn, General, StopCcn

LEVELS: Final = {"debug": 10, "info": INFO, "warning": WARNING, "error": ERROR}

HINT_INTERVAL: Duration = 1 * SECOND
"""How far the recorded sequence numbers of a tunnel may lag; nobody waits for them."""

PPP_CAUSES: Final = {
    links.Cause.PEER_TERMINATED: Cdn.LOSS_OF_CARRIER,
    links.Cause.ECHO_TIMEOUT: Cdn.LOSS_OF_CARRIER,
}
"""What a CDN says when PPP has ended; everything else is an administrative reason."""


class Node:
    """An LNS, a LAC, or both.

    `traffic(key)` is what the data plane has counted for a session, nothing if it does not forward.
    """

    def __init__(
        self,
        config: Config,
        random: RandomBytes,
        utc_us: Callable[[], int],
        traffic: Callable[[int], Counters] = lambda key: NO_TRAFFIC,
    ) -> None:
        self.config = config
        self._traffic = traffic
        self.endpoint = Endpoint(endpoint_settings(config), peer_finder(config), random, utc_us)
        self.aaa = local_aaa(config)
        self.lines: dict[int, Line] = {}
        self.ledger = Ledger(self.endpoint, utc_us)
        self.recoveries = Recoveries(utc_us, partial(choice_view, self.endpoint.ctx, self.ledger))
        self.proofs = Proofs()
        self.lac = Lac(config, self.endpoint, random)
        self.dialler = self.lac.dialler
        self._random = random
        self._utc_us = utc_us
        self._server = server_config(config)
        self._deadlines: Deadlines[int] = Deadlines()
        self._endpoint_at: Instant | None = None
        self._hint_at: Instant = 0
        self._identity = Identity(config.node.name, self.endpoint)
        self._orphans: list[int] = []
        self._unsynchronised: set[int] = set()
        self._unsaved: set[int] = set()
        self._written: set[int] = set()
        """Tunnels whose record is on disk."""

    # Inputs.

    def start(self, saved: Saved, now: Instant) -> list[Effect]:
        """Take over what the journal holds. The wants come first (data flows), then recovery and new tunnels."""
        out: list[Effect] = []
        self._identity.remember(saved.endpoint)
        restored = self.endpoint.restore(saved.tunnels, saved.sessions, now, saved.calls)
        self._absorb(restored, now, out)
        for tunnel in self.endpoint.ctx.established():
            self.dialler.restored_tunnel(tunnel.peer.name, tunnel.local_id)
        for record in saved.sessions:
            try:
                self._restore(record, now, out)
            except Exception as e:  # noqa: BLE001  # one record that cannot be used must not keep the others away
                self._set_aside(record, f"{type(e).__name__}: {e}", out)
        self._identity.remember_sessions(saved.endpoint)
        self._unsynchronised = set(self.endpoint.tunnels)
        self._written = set(self.endpoint.tunnels)
        away = max(0, self._utc_us() - saved.alive_utc_us) if saved.alive_utc_us else None
        self.ledger.begin(saved, self._identity.boot_epoch, now)
        self._absorb(self.endpoint.recover(now, away), now, out)
        for key in self._orphans:
            self._absorb(self.endpoint.close_session(*split_key(key), now), now, out)
        if not saved.tunnels:
            out.append(Log("node.synchronised", {"tunnels": 0}))
        self.dialler.begin(now)
        self._endpoint_at = now
        self._dial(now, out)
        return out

    def control(self, data: bytes, source: Address, now: Instant) -> list[Effect]:
        """One control message."""
        out: list[Effect] = []
        self._absorb(self.endpoint.datagram(data, source, now), now, out)
        if self.dialler.pending:
            self._dial(now, out)
        return out

    def ppp(self, key: int, payload: bytes, source: Address, now: Instant) -> list[Effect]:
        """One PPP frame that is not a subscriber's IP packet. From any but the tunnel's peer it is dropped."""
        out: list[Effect] = []
        line = self.lines.get(key)
        if line is None:
            self._absorb(self.endpoint.stray_frame(*split_key(key), source, now), now, out)
        elif source != line.tunnel.peer_address:
            self.endpoint.ctx.count(Counter.RX_WRONG_SOURCE)
        else:
            self._guarded(line, line.link.receive, payload, now, out)
            if self.proofs.waiting and line.link.heard:
                self.proofs.heard(key, now, out)
            if self.dialler.pending:
                self._dial(now, out)
        return out

    def timer(self, now: Instant) -> list[Effect]:
        """Everything whose time has come."""
        out: list[Effect] = []
        due = self.endpoint.deadline()
        if due is not None and due <= now:
            self._absorb(self.endpoint.timer(now), now, out)
        for key in self._deadlines.due(now):
            line = self.lines.get(key)
            if line is not None:
                self._line_timer(line, now, out)
        for line, turn in self.proofs.take(self.lines, now):
            self._prove(line, turn, now, out)
        if self._endpoint_at is not None and self._endpoint_at <= now:
            self._endpoint_at = now + ENDPOINT_INTERVAL
            self._identity.save(out)
            out.append(Persist(0, self.ledger.take()))
            self._save_again(out)
        if self._hints_wait and self._hint_at <= now:
            self._hint_at = now + HINT_INTERVAL
            out.append(Persist(0, self.endpoint.take_hints() + self.ledger.take()))
        self._dial(now, out)
        return out

    def deadline(self) -> Instant | None:
        """When `timer` wants to be called next."""
        earliest = self.endpoint.deadline()
        hint_at = self._hint_at if self._hints_wait else None
        machines = (self._deadlines.next(), self.dialler.deadline(), self.proofs.deadline())
        for at in (*machines, self._endpoint_at, hint_at):
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    @property
    def _hints_wait(self) -> bool:
        """Whether there is something to write that nobody waits for."""
        return bool(self.endpoint.ctx.hints) or self.ledger.dirty

    def committed(self, lane: int) -> None:
        """What this lane waited for is on disk."""
        line = self.lines.get(lane)
        if line is not None:
            line.recorded = True
        elif lane in self.endpoint.tunnels:
            self._written.add(lane)

    def commit_failed(self, lane: int, now: Instant) -> list[Effect]:
        """The journal could not write what this lane waited for: refuse what is new, keep what runs."""
        out: list[Effect] = []
        line = self.lines.get(lane)
        if line is not None:
            if line.recorded:
                self._unsaved.add(lane)
            else:
                effects = self.endpoint.close_session(
                    line.tunnel_id,
                    line.session_id,
                    now,
                    Cdn.NO_FACILITIES_TEMPORARY,
                    text="state cannot be recorded",
                )
                self._absorb(effects, now, out)
            return out
        tunnel = self.endpoint.tunnels.get(lane)
        if tunnel is not None and tunnel.established and not tunnel.by_peer and lane not in self._written:
            effects = self.endpoint.close_tunnel(
                lane, now, StopCcn.GENERAL_ERROR, General.NO_RESOURCES, "state cannot be recorded"
            )
            self._absorb(effects, now, out)
        return out

    def journal_health(self, writable: bool) -> list[Effect]:
        """Admit new tunnels and sessions only while the journal can write."""
        self.endpoint.set_admitting(writable)
        event = "journal.recovered" if writable else "journal.unwritable"
        return [Log(event, {}, INFO if writable else ERROR)]

    def release(self, pool: str, address: str) -> None:
        """An address's record is gone: it may be given out again."""
        self.aaa.release(pool, address)

    # Commands.

    def clear_session(self, key: int, now: Instant) -> list[Effect] | None:
        """End a session by hand. None: there is none."""
        if key not in self.lines:
            return None
        out: list[Effect] = []
        self._absorb(
            self.endpoint.close_session(*split_key(key), now, text="cleared by the operator"), now, out
        )
        self._dial(now, out)
        return out

    def clear_tunnel(self, tunnel_id: int, now: Instant) -> list[Effect] | None:
        """End a tunnel and its sessions by hand. None: there is none."""
        if tunnel_id not in self.endpoint.tunnels:
            return None
        out: list[Effect] = []
        self._absorb(self.endpoint.close_tunnel(tunnel_id, now, text="cleared by the operator"), now, out)
        self._dial(now, out)
        return out

    def subscriber_up(self, name: str, now: Instant) -> list[Effect] | None:
        """Have a subscriber connect. None: it is not configured."""
        if not self.dialler.up(name, now):
            return None
        out: list[Effect] = []
        self._dial(now, out)
        return out

    def subscriber_down(self, name: str, now: Instant) -> list[Effect] | None:
        """Have a subscriber hang up. None: it is not configured."""
        if not self.dialler.down(name, now):
            return None
        out: list[Effect] = []
        self._dial(now, out)
        return out

    def teardown(self, now: Instant) -> list[Effect]:
        """End everything: no more calls, a StopCCN for every tunnel (its sessions end with it)."""
        out: list[Effect] = []
        self.dialler.stop()
        self.endpoint.set_admitting(False)
        for tunnel in self.endpoint.ctx.established():
            effects = self.endpoint.close_tunnel(
                tunnel.local_id, now, StopCcn.SHUTTING_DOWN, text="shutting down"
            )
            self._absorb(effects, now, out)
        return out

    def counters(self) -> dict[str, int]:
        """The protocol's counters by their names for operators."""
        return {c.name.lower(): n for c, n in self.endpoint.ctx.counters.items()}

    # What the endpoint's effects mean here.

    def _absorb(self, effects: list[l2tp.Effect], now: Instant, out: list[Effect]) -> None:
        """Pass on what is for the outside, and act on the endpoint's news."""
        for effect in effects:
            if isinstance(effect, (Send, Persist, Called)):
                out.append(effect)
            elif isinstance(effect, l2tp.SessionUp):
                self._session_up(effect, now, out)
            elif isinstance(effect, l2tp.SessionDown):
                self._session_down(effect, now, out)
            elif isinstance(effect, l2tp.TunnelUp):
                self._tunnel_up(effect.tunnel_id, now, out)
            elif isinstance(effect, l2tp.TunnelDown):
                self._tunnel_down(effect, now, out)
            elif isinstance(effect, l2tp.PeerMoved):
                self._peer_moved(effect.tunnel_id, out)
            elif isinstance(effect, l2tp.Recovery):
                self._recovery(effect, now, out)
            elif isinstance(effect, l2tp.Trace):
                out.append(Log(effect.event, effect.fields, LEVELS[effect.level]))

    def _tunnel_up(self, tunnel_id: int, now: Instant, out: list[Effect]) -> None:
        tunnel = self.endpoint.tunnels[tunnel_id]
        out.append(Log("tunnel.up", self._tunnel_fields(tunnel_id)))
        self.ledger.met(tunnel)
        if tunnel.established:  # otherwise the peer has closed it in the same input
            self.dialler.tunnel_up(tunnel.peer.name, now)
            self._dial(now, out)

    def _session_up(self, up: l2tp.SessionUp, now: Instant, out: list[Effect]) -> None:
        tunnel = self.endpoint.tunnels.get(up.tunnel_id)
        session = tunnel.sessions.get(up.session_id) if tunnel is not None else None
        if tunnel is None or session is None:
            return  # it has ended in the same input: its SessionDown follows
        key = session_key(up.tunnel_id, up.session_id)
        if session.side is Side.LNS:
            line = Line(key, tunnel, session, Link(self._server, self._random))
        else:
            name = self.dialler.name_of(key)
            client = self.lac.client(name) if name is not None else None
            if name is None or client is None:
                self._absorb(self.endpoint.close_session(up.tunnel_id, up.session_id, now), now, out)
                return
            line = Line(key, tunnel, session, Link(client, self._random), name)
            self.dialler.connected(name, now)
        self.lines[key] = line
        self._follow(line, line.link.start(now), now, out)

    def _session_down(self, down: l2tp.SessionDown, now: Instant, out: list[Effect]) -> None:
        key = session_key(down.tunnel_id, down.session_id)
        self.recoveries.session_down(down.tunnel_id, down.cause, now)
        line = self.lines.pop(key, None)
        fields: dict[str, object] = {
            "tunnel": down.tunnel_id,
            "session": down.session_id,
            "cause": down.cause.value,
            "result": int(down.result),
            "error": int(down.error),
            "text": down.text,
        }
        if line is not None:
            fields["user"] = line.user
            fields["address"] = line.address
            self._deadlines.set(key, None)
            lost = down.cause is l2tp.Cause.LOCAL and down.result == Cdn.LOSS_OF_CARRIER
            self.proofs.over(key, silent=lost and not line.link.heard, now=now, out=out)
            line.link.down()
            if line.wanted:
                out.append(Unwant(key, key))
            if line.saved:
                self._forget(line, out)
            if line.address and not line.subscriber:
                out.append(Release(key, line.pool, line.address))
        out.append(Log("session.down", fields))
        self.dialler.lost(key, down.cause, down.text, now)

    def _tunnel_down(self, down: l2tp.TunnelDown, now: Instant, out: list[Effect]) -> None:
        self._written.discard(down.tunnel_id)
        self.dialler.tunnel_down(down.peer_name, down.tunnel_id, now)
        self.recoveries.forget(down.tunnel_id, now)
        self.proofs.forget(down.tunnel_id)
        self.ledger.parted(down.tunnel_id, down.cause)
        fields: dict[str, object] = {
            "tunnel": down.tunnel_id,
            "peer": down.peer_name,
            "cause": down.cause.value,
            "result": int(down.result),
            "error": int(down.error),
            "text": down.text,
        }
        out.append(Log("tunnel.down" if down.established else "tunnel.refused", fields, WARNING))
        self._synchronised(down.tunnel_id, out)

    def _peer_moved(self, tunnel_id: int, out: list[Effect]) -> None:
        for session in self.endpoint.tunnels[tunnel_id].sessions.values():
            line = self.lines.get(session_key(tunnel_id, session.local_id))
            if line is not None and line.wanted:
                out.append(Want(line.key, self._entry(line)))
        out.append(Log("tunnel.moved", self._tunnel_fields(tunnel_id)))

    def _recovery(self, news: l2tp.Recovery, now: Instant, out: list[Effect]) -> None:
        tunnel = self.endpoint.tunnels.get(news.tunnel_id)
        state = self.recoveries.note(news, tunnel, now)
        self.ledger.note(news, now)
        out.append(log_of(news))
        synchronised = news.phase is l2tp.RecoveryPhase.SYNCHRONISED
        speaks = news.role == SILENT and news.phase is l2tp.RecoveryPhase.CONFIRMED
        if synchronised or speaks:
            state.proof = self.proofs.begin(news.tunnel_id, self.lines, now, out) or state.proof
        if synchronised:
            self._synchronised(news.tunnel_id, out)

    def _synchronised(self, tunnel_id: int, out: list[Effect]) -> None:
        """One tunnel less to wait for; the last one makes the node synchronised after its restart."""
        if tunnel_id in self._unsynchronised:
            self._unsynchronised.discard(tunnel_id)
            if not self._unsynchronised:
                out.append(Log("node.synchronised", {"tunnels": len(self.endpoint.ctx.established())}))
                self.proofs.complete(out)

    # PPP.

    def _guarded(
        self,
        line: Line,
        step: Callable[[bytes, Instant], list[links.Effect]],
        payload: bytes,
        now: Instant,
        out: list[Effect],
    ) -> None:
        """One input of one link; an error of ours ends its session (CDN 2/6) and nothing else."""
        try:
            self._follow(line, step(payload, now), now, out)
        except Exception as e:  # noqa: BLE001  # a fault of ours must cost no more than its session
            self._line_fault(line, e, now, out)

    def _line_fault(self, line: Line, e: Exception, now: Instant, out: list[Effect]) -> None:
        self.endpoint.ctx.count(Counter.MACHINE_FAULT)
        details = "".join(traceback.format_exception(e))
        out.append(Log("machine.fault", {**line.fields, "traceback": details}, ERROR))
        effects = self.endpoint.close_session(
            line.tunnel_id,
            line.session_id,
            now,
            Cdn.GENERAL_ERROR,
            General.VENDOR_ERROR,
            "internal error",
            l2tp.Cause.FAULT,
        )
        self._absorb(effects, now, out)

    def _line_timer(self, line: Line, now: Instant, out: list[Effect]) -> None:
        """A link's timer. A session with a record does not end by it while the tunnel itself is in doubt (K-7)."""
        link = line.link
        if self._data_came(line) and link.unanswered:
            link.activity(now)
        if line.saved:
            suspect = line.tunnel.suspect
            if suspect != line.held:
                line.held = suspect
                link.hold(suspect)
            elif link.unanswered or not link.opened:
                self._absorb(self.endpoint.probe(line.tunnel_id, now), now, out)
        try:
            self._follow(line, link.timer(now), now, out)
        except Exception as e:  # noqa: BLE001  # as in _guarded
            self._line_fault(line, e, now, out)

    def _data_came(self, line: Line) -> bool:
        """Whether the data plane has had packets from the peer in this session since this was last asked.

        They are as good as the answer to an echo, which gets lost where more arrives than a socket holds.
        """
        if not line.link.opened:
            return False
        traffic = self._traffic(line.key)
        before = line.received
        line.received = traffic.up_packets if line.session.side is Side.LNS else traffic.down_packets
        return before is not None and line.received != before

    def _prove(self, line: Line, turn: Turn, now: Instant, out: list[Effect]) -> None:
        """Ask a recovered session for a sign of life, and its peer too; or end it, because none has come."""
        if self._data_came(line) and line.link.unanswered:
            line.link.activity(now)
            self.proofs.heard(line.key, now, out)
            self._follow(line, [], now, out)
            return
        if turn is Turn.END:
            self._finished(line, links.Finished(links.Cause.ECHO_TIMEOUT, NO_ANSWER), now, out)
            return
        if line.link.unanswered:
            self._absorb(self.endpoint.probe(line.tunnel_id, now), now, out)
        self._follow(line, line.link.ask(now), now, out)

    def _follow(self, line: Line, effects: list[links.Effect], now: Instant, out: list[Effect]) -> None:
        """Carry out what a link wants, and note its next deadline."""
        for effect in effects:
            if isinstance(effect, links.Transmit):
                header = line.header or line.make_header()
                out.append(Send(line.key, header + effect.payload, line.tunnel.peer_address))
            elif isinstance(effect, links.Authenticate):
                self._authenticate(line, effect, now, out)
            elif isinstance(effect, links.Established):
                self._established(line, effect, out)
            elif isinstance(effect, links.NetworkUp):
                self._network_up(line, now, out)
            elif isinstance(effect, links.NetworkDown):
                self._network_down(line, now, out)
            elif isinstance(effect, links.Finished):
                self._finished(line, effect, now, out)
                return
        if self.lines.get(line.key) is line:
            deadline = line.link.deadline
            if deadline != line.deadline:
                line.deadline = deadline
                self._deadlines.set(line.key, deadline)

    def _authenticate(self, line: Line, asked: links.Authenticate, now: Instant, out: list[Effect]) -> None:
        answer = self.aaa.authenticate(asked.credentials, held=asked.held)
        if isinstance(answer, Accept):
            line.user, line.pool, line.address = answer.user, answer.pool, answer.address
        else:
            self.endpoint.ctx.count(Counter.PPP_AUTH_FAILED)
            fields = {**line.fields, "user": asked.credentials.name, "text": answer.message}
            out.append(Log("ppp.auth_failed", fields, WARNING))
        self._follow(line, line.link.answer(answer, now), now, out)

    def _established(self, line: Line, established: links.Established, out: list[Effect]) -> None:
        if line.subscriber:
            line.address = established.record.local_ip
        self._save(line, established.record, out)

    def _save(self, line: Line, record: PppRecord, out: list[Effect]) -> None:
        line.saved = True
        out.append(Persist(line.key, (Save(line.record(record)), *self._numbers(line.tunnel))))

    def _forget(self, line: Line, out: list[Effect]) -> None:
        """Delete the session's record before its address is free, and, where nobody asks after sessions when we are
        back, before its CDN or the acknowledgement of the peer's leaves: else a crash would bring back half a session.
        """
        forget, tunnel = ForgetSession(line.key), line.tunnel
        numbers = self._numbers(tunnel) if tunnel.recorded else ()
        if numbers:
            out.append(Persist(line.tunnel_id, (forget, *numbers)))
        out.append(Persist(line.key, (forget,)))

    def _numbers(self, tunnel: Tunnel) -> tuple[Hint, ...]:
        """Numbers that ride in a commit: a tunnel that is recovered silently lives by them."""
        if choose(self.endpoint.ctx, tunnel) is Method.SILENT:
            return (self.endpoint.ctx.hint(tunnel),)
        return ()

    def _network_down(self, line: Line, now: Instant, out: list[Effect]) -> None:
        """The peer negotiates anew, or takes its leave; the entry stays meanwhile, since the address stays."""
        if line.link.phase < Phase.TERMINATE:
            out.append(Log("ppp.renegotiated", line.fields, WARNING))
        if line.subscriber:
            self.dialler.renegotiates(line.subscriber, now)

    def _network_up(self, line: Line, now: Instant, out: list[Effect]) -> None:
        line.wanted = True
        out.append(Want(line.key, self._entry(line)))
        out.append(Log("ppp.up", {**line.fields, "user": line.user, "address": line.address}))
        if line.subscriber:
            self.dialler.opened(line.subscriber, line.address, now)

    def _entry(self, line: Line) -> Entry:
        listen = self.config.listen
        return line.entry((listen.address, listen.port), self.config.ppp.mru)

    def _finished(self, line: Line, finished: links.Finished, now: Instant, out: list[Effect]) -> None:
        text = finished.text or finished.cause.value
        result = PPP_CAUSES.get(finished.cause, Cdn.ADMINISTRATIVE)
        self._absorb(
            self.endpoint.close_session(line.tunnel_id, line.session_id, now, result, text=text), now, out
        )

    # Restoring, dialling, housekeeping.

    def _restore(self, record: SessionRecord, now: Instant, out: list[Effect]) -> None:
        """One recorded session: its link is open, its entry is wanted, and nothing is said to anybody.

        Whatever it raises, the session is not among the lines.
        """
        tunnel = self.endpoint.tunnels.get(record.tunnel_id)
        if tunnel is None or record.ppp is None:
            raise LocalError("it has no tunnel" if tunnel is None else "it has no PPP")
        key = session_key(record.tunnel_id, record.local_id)
        client = self.lac.client(record.subscriber) if record.subscriber else None
        link = Link.restore(client or self._server, record.ppp, self._random, now)
        line = Line(key, tunnel, tunnel.sessions[record.local_id], link, record.subscriber)
        line.take_over(record)
        entry = self._entry(line)
        if not record.subscriber:
            line.pool = self.aaa.reserve(record)
        elif client is None or not self.dialler.restored_session(
            record.subscriber, key, record.tunnel_id, line.address
        ):
            self._orphans.append(key)
        self.lines[key] = line
        self.proofs.expect(line)
        line.deadline = link.deadline
        self._deadlines.set(key, line.deadline)
        out.append(Want(key, entry))

    def _set_aside(self, record: SessionRecord, reason: str, out: list[Effect]) -> None:
        """A record that cannot be used: keep it for people to look at, and let the peer hear that the session is gone."""
        key = session_key(record.tunnel_id, record.local_id)
        fields = {"kind": "session", "tunnel": record.tunnel_id, "session": record.local_id, "reason": reason}
        out.append(Log("record.quarantined", fields, ERROR))
        out.append(Persist(key, (SetAside(record, reason),)))
        self._orphans.append(key)

    def _dial(self, now: Instant, out: list[Effect]) -> None:
        self.lac.dial(now, out, self._absorb, self._hang_up)

    def _hang_up(self, key: int, now: Instant, out: list[Effect]) -> None:
        """End a call: PPP first if it is up, so that the peer learns the reason."""
        line = self.lines.get(key)
        if line is not None and line.link.opened:
            self._follow(line, line.link.close(now), now, out)
        else:
            self._absorb(self.endpoint.close_session(*split_key(key), now), now, out)

    def _save_again(self, out: list[Effect]) -> None:
        """Sessions that run on an older record because a newer one could not be written: write it."""
        keys, self._unsaved = self._unsaved, set()
        for line in (self.lines[key] for key in keys if key in self.lines):
            if line.link.record is not None:
                self._save(line, line.link.record, out)
                if line.wanted:
                    out.append(Want(line.key, self._entry(line)))

    def _tunnel_fields(self, tunnel_id: int) -> dict[str, object]:
        tunnel = self.endpoint.tunnels[tunnel_id]
        return {"tunnel": tunnel_id, "peer_tunnel": tunnel.peer_id, "peer": tunnel.peer.name}
