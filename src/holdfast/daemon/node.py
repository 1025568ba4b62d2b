"""The node without its I/O: the L2TP endpoint, the PPP halves of its sessions, subscribers and AAA as one machine.

Inputs come with `now`; every input returns the effects it caused, in order. What the endpoint answers to an input, or
to what one of the parts asked of it, is taken in here: `Links` and `Sessions` have what concerns PPP, `Lac` the
calls, `Ledger`, `Recoveries` and `Proofs` follow the recoveries, `Upkeep` writes what nobody waits for.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.core.ids import RandomBytes
from holdfast.daemon.choices import choice_view
from holdfast.daemon.config_keys import Config
from holdfast.daemon.effects import ERROR, INFO, WARNING, Address, Called, Effect, Log, Persist, Send
from holdfast.daemon.identity import Identity
from holdfast.daemon.lac import Lac
from holdfast.daemon.ledger import Ledger
from holdfast.daemon.line import Line
from holdfast.daemon.links import Links
from holdfast.daemon.proofs import Proofs
from holdfast.daemon.recoveries import Recoveries, log_of
from holdfast.daemon.sessions import Sessions
from holdfast.daemon.settings import endpoint_settings, local_aaa, peer_finder
from holdfast.daemon.upkeep import Upkeep
from holdfast.protocol import effects as l2tp
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.silent import ROLE as SILENT
from holdfast.records import Counters, split_key
from holdfast.state.saved import Saved
from holdfast.wire.codes import General, StopCcn

LEVELS: Final = {"debug": 10, "info": INFO, "warning": WARNING, "error": ERROR}


class Node:
    """An LNS, a LAC, or both.

    `traffic(key)` is what the data plane has counted for a session; None: it cannot tell.
    """

    def __init__(
        self,
        config: Config,
        random: RandomBytes,
        utc_us: Callable[[], int],
        traffic: Callable[[int], Counters | None] = lambda key: None,
    ) -> None:
        self.config = config
        self.endpoint = Endpoint(endpoint_settings(config), peer_finder(config), random, utc_us)
        self.aaa = local_aaa(config)
        self.lines: dict[int, Line] = {}
        self.ledger = Ledger(self.endpoint, utc_us)
        self.recoveries = Recoveries(utc_us, partial(choice_view, self.endpoint.ctx, self.ledger))
        self.proofs = Proofs()
        self._utc_us = utc_us
        self._lac = Lac(config, self.endpoint, random)
        self.dialler = self._lac.dialler
        self._links = Links(config, self.lines, self.endpoint, self.aaa, self.dialler, self.proofs, traffic)
        self._sessions = Sessions(
            config, self.lines, self._links, self.endpoint, self.aaa, self._lac, self.proofs, random
        )
        self._identity = Identity(config.node.name, self.endpoint)
        self._upkeep = Upkeep(self.endpoint, self._identity, self.ledger, self._sessions)
        self._unsynchronised: set[int] = set()
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
        orphans = self._sessions.restore(saved.sessions, now, out)
        self._identity.remember_sessions(saved.endpoint)
        self._unsynchronised = set(self.endpoint.tunnels)
        self._written = set(self.endpoint.tunnels)
        away = max(0, self._utc_us() - saved.alive_utc_us) if saved.alive_utc_us else None
        self.ledger.begin(saved, self._identity.boot_epoch, now)
        self.recoveries.expect(self.endpoint.ctx.established())
        self._absorb(self.endpoint.recover(now, away), now, out)
        self.recoveries.expect(())
        for key in orphans:
            self._absorb(self.endpoint.close_session(*split_key(key), now), now, out)
        if not saved.tunnels:
            out.append(Log("node.synchronised", {"tunnels": 0}))
        self.dialler.begin(now)
        self._upkeep.begin(now)
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
            if answers := self._links.frame(line, payload, now, out):
                self._absorb(answers, now, out)
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
        for key in self._links.due(now):
            self._absorb(self._links.timer(key, now, out), now, out)
        for line, turn in self.proofs.take(self.lines, now):
            self._absorb(self._links.prove(line, turn, now, out), now, out)
        self._upkeep.timer(now, out)
        self._dial(now, out)
        return out

    def deadline(self) -> Instant | None:
        """When `timer` wants to be called next."""
        earliest = self.endpoint.deadline()
        for part in (self._links, self.dialler, self.proofs, self._upkeep):
            at = part.deadline()
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

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
            self._absorb(self._sessions.commit_failed(line, now), now, out)
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

    def _absorb(self, effects: Iterable[l2tp.Effect], now: Instant, out: list[Effect]) -> None:
        """Pass on what is for the outside, and act on the endpoint's news."""
        for effect in effects:
            if isinstance(effect, (Send, Persist, Called)):
                out.append(effect)
            elif isinstance(effect, l2tp.SessionUp):
                self._absorb(self._sessions.up(effect, now, out), now, out)
            elif isinstance(effect, l2tp.SessionDown):
                self.recoveries.session_down(effect.tunnel_id, effect.cause, now)
                self._sessions.down(effect, now, out)
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
        self._sessions.peer_moved(self.endpoint.tunnels[tunnel_id], out)
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

    def _dial(self, now: Instant, out: list[Effect]) -> None:
        self._lac.dial(now, out, self._absorb, self._links.hang_up)

    def _tunnel_fields(self, tunnel_id: int) -> dict[str, object]:
        tunnel = self.endpoint.tunnels[tunnel_id]
        return {"tunnel": tunnel_id, "peer_tunnel": tunnel.peer_id, "peer": tunnel.peer.name}
