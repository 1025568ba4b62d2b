"""What the control API sees and does: the node, its data plane, socket and journal as rows, counters and commands.

Rows are made when they are asked for, one at a time; nothing here walks all sessions except to take their keys.
"""

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Iterator

from holdfast import __version__
from holdfast.core.clock import Instant
from holdfast.daemon.choices import peer_view
from holdfast.daemon.effects import Log
from holdfast.daemon.line import Line
from holdfast.daemon.node import Node
from holdfast.daemon.runner import Runner
from holdfast.daemon.traces import Trace, Traces
from holdfast.daemon.udp import UdpSocket
from holdfast.daemon.views import (
    NodeView,
    PeerView,
    RecoveryView,
    SessionDetail,
    SessionView,
    SubscriberView,
    TunnelView,
    WhyView,
)
from holdfast.dataplane import tundev
from holdfast.dataplane.contract import DataPlane, UnknownSession
from holdfast.protocol.context import Context
from holdfast.protocol.recovery import choose
from holdfast.protocol.session import Session
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import Counters, session_key, split_key
from holdfast.records.ledger import PeerKey
from holdfast.state.calls import CallTable
from holdfast.state.journal import Journal
from holdfast.state.told import Table


class NodeControl:
    """The `Control` of a running node (see `daemon.api`). Every method runs in the event loop's thread."""

    def __init__(
        self,
        node: Node,
        runner: Runner,
        udp: UdpSocket,
        plane: DataPlane,
        journal: Journal,
        clock: Callable[[], Instant],
        stop: Callable[[bool], None],
        loop: AbstractEventLoop,
        log: Callable[[Log], None],
        *,
        started_utc_us: int,
        quarantined: int,
        tables: Iterable[Table | CallTable],
    ) -> None:
        """`tables` are those beside the journal."""
        self._node = node
        self._runner = runner
        self._udp = udp
        self._plane = plane
        self._journal = journal
        self._clock = clock
        self._stop = stop
        self._started_utc_us = started_utc_us
        self._quarantined = quarantined
        self._tables = tuple(tables)
        self.traces = Traces(plane, runner.show_sends, loop, udp.address, self._exists, log)

    # Rows.

    def node(self) -> NodeView:
        """The node as a whole."""
        settings, tunnels = self._node.config.node, self._node.endpoint.tunnels
        host, port = self._udp.address
        failure = self._journal.failure
        return NodeView(
            name=settings.name,
            role=settings.role,
            version=__version__,
            pid=os.getpid(),
            address=host,
            port=port,
            started_utc_us=self._started_utc_us,
            tunnels=sum(not tunnel.is_recovery for tunnel in tunnels.values()),
            sessions=len(self._node.lines),
            recovering=self._node.recoveries.running,
            journal="writable" if failure is None else str(failure),
            quarantined=self._quarantined,
            dataplane=self._plane.describe(),
        )

    def tunnel_ids(self) -> Iterable[int]:
        """Of every control connection, recovery tunnels included."""
        return self._node.endpoint.tunnels

    def tunnel(self, tunnel_id: int) -> TunnelView | None:
        """One row of `show tunnels`."""
        tunnel = self._node.endpoint.tunnels.get(tunnel_id)
        return None if tunnel is None else _tunnel_view(self._node.endpoint.ctx, tunnel)

    def why_tunnel(self, tunnel_id: int) -> WhyView | None:
        """Why a tunnel is recovered the way it is, was, or would be."""
        from holdfast.daemon.why import why_view  # words are not needed before data flows

        node = self._node
        return why_view(node.endpoint.ctx, node.ledger, node.recoveries, tunnel_id)

    def peer_keys(self) -> Iterable[PeerKey]:
        """Of every peer in the ledger."""
        return self._node.ledger.known()

    def peer(self, key: PeerKey) -> PeerView | None:
        """One row of `show peers`."""
        return peer_view(self._node.endpoint.ctx, self._node.ledger, key)

    def session_keys(self) -> Iterator[int]:
        """Of every session, those in set-up last."""
        lines = self._node.lines
        yield from lines
        for tunnel in self._node.endpoint.tunnels.values():
            for _, session in tunnel.pending:
                key = session_key(tunnel.local_id, session.local_id)
                if key not in lines:
                    yield key

    def session(self, key: int) -> SessionView | None:
        """One row of `show sessions`."""
        found = self._find(key)
        return None if found is None else _session_view(key, *found, self._node.lines.get(key))

    def session_detail(self, key: int) -> SessionDetail | None:
        """Everything known about one session."""
        view, found = self.session(key), self._find(key)
        if view is None or found is None:
            return None
        line = self._node.lines.get(key)
        try:
            traffic: Counters | None = self._plane.counters(key)
        except UnknownSession:
            traffic = None
        return SessionDetail(
            session=view,
            tunnel=_tunnel_view(self._node.endpoint.ctx, found[0]),
            ppp=line.link.record if line is not None else None,
            aaa=line.aaa() if line is not None and not line.subscriber else None,
            forwarding=traffic is not None,
            traffic=(line.counter_base if line is not None else Counters()).at_least(traffic or Counters()),
        )

    def subscriber_names(self) -> Iterable[str]:
        """Of every subscriber that this node runs."""
        return self._node.dialler.subscribers

    def subscriber(self, name: str) -> SubscriberView | None:
        """One row of `show subscribers`."""
        return self._node.dialler.view(name, self._clock())

    def recoveries(self) -> Iterable[RecoveryView]:
        """The rows of `show recoveries`."""
        return self._node.recoveries.views()

    def counters(self) -> dict[str, int]:
        """Every counter, by name: protocol, runner, socket, data plane, journal."""
        latency = self._journal.latency
        device = self._node.config.dataplane
        lost = {"tun_drops": tundev.dropped(device.device)} if device.kind != "null" else {}
        return {
            **self._node.counters(),
            **self._runner.counters(),
            **self._udp.counters(),
            **{f"data_{verdict.name.lower()}": n for verdict, n in self._plane.verdicts().items()},
            **{f"data_reason_{reason}": n for reason, n in self._plane.reasons().items()},
            **lost,
            "journal_beside_failures": sum(table.failures for table in self._tables),
            "journal_rows": self._journal.rows_written,
            "journal_commits": latency.count,
            "journal_commit_p50_us": latency.quantile_us(0.5),
            "journal_commit_p99_us": latency.quantile_us(0.99),
            "journal_commit_max_us": latency.highest_us,
        }

    # Traces.

    def trace(self, key: int, raw: bool, snaplen: int) -> Trace | None:
        """Watch a session's packets; None if there is none. Raises TooManyTraces."""
        return self.traces.begin(key, raw=raw, snaplen=snaplen) if self._exists(key) else None

    def _exists(self, key: int) -> bool:
        return self._find(key) is not None

    # Commands.

    def clear_session(self, key: int) -> bool:
        """End a session."""
        return self._runner.perform(lambda now: self._node.clear_session(key, now))

    def clear_tunnel(self, tunnel_id: int) -> bool:
        """End a tunnel and its sessions."""
        return self._runner.perform(lambda now: self._node.clear_tunnel(tunnel_id, now))

    def subscriber_up(self, name: str) -> bool:
        """Connect a subscriber."""
        return self._runner.perform(lambda now: self._node.subscriber_up(name, now))

    def subscriber_down(self, name: str) -> bool:
        """Disconnect a subscriber."""
        return self._runner.perform(lambda now: self._node.subscriber_down(name, now))

    def stop(self, teardown: bool) -> None:
        """End the process, with `teardown` after ending everything that it serves."""
        self._stop(teardown)

    def _find(self, key: int) -> tuple[Tunnel, Session] | None:
        tunnel_id, session_id = split_key(key)
        tunnel = self._node.endpoint.tunnels.get(tunnel_id)
        session = tunnel.sessions.get(session_id) if tunnel is not None else None
        return None if tunnel is None or session is None else (tunnel, session)


def _tunnel_view(ctx: Context, tunnel: Tunnel) -> TunnelView:
    peer = tunnel.peer_failover
    host, port = tunnel.peer_address
    return TunnelView(
        id=tunnel.local_id,
        peer_id=tunnel.peer_id,
        peer_name=tunnel.peer.name,
        peer_host_name=tunnel.peer_host_name,
        peer_address=host,
        peer_port=port,
        side=tunnel.side.name.lower(),
        state="recovering" if tunnel.recovering else tunnel.state.name.lower().replace("_", "-"),
        initiator=tunnel.initiator,
        recovers=tunnel.recovers,
        sessions=len(tunnel.sessions),
        failover="" if tunnel.is_recovery else choose(ctx, tunnel).value,
        peer_recovery_time_ms=peer.recovery_time_ms if peer is not None and peer.control else 0,
        established_utc_us=tunnel.established_utc_us,
        ns=tunnel.channel.ns,
        nr=tunnel.channel.nr,
        peer_window=tunnel.channel.peer_window,
        retransmissions=tunnel.channel.retransmissions,
    )


def _session_view(key: int, tunnel: Tunnel, session: Session, line: Line | None) -> SessionView:
    call = session.call
    return SessionView(
        key=key,
        tunnel_id=tunnel.local_id,
        id=session.local_id,
        peer_id=session.peer_id,
        peer_name=tunnel.peer.name,
        side=session.side.name.lower(),
        state=session.state.name.lower().replace("_", "-"),
        ppp_state=_ppp_state(line),
        user=line.user if line is not None else "",
        address=line.address if line is not None else "",
        subscriber=line.subscriber if line is not None else "",
        calling_number=call.calling_number,
        called_number=call.called_number,
        established_utc_us=session.established_utc_us,
    )


def _ppp_state(line: Line | None) -> str:
    if line is None:
        return ""
    return "opened" if line.link.opened else line.link.phase.name.lower()
