"""A node that is made up, and a host that serves its control API from an event loop of its own."""

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path

import uvloop

from holdfast.core.errors import LocalError
from holdfast.daemon.api import Server, bind, server
from holdfast.daemon.traces import Trace
from holdfast.daemon.views import (
    MethodView,
    NodeView,
    PeerView,
    RecoveryView,
    SessionDetail,
    SessionView,
    SubscriberView,
    TunnelView,
    WhyView,
)
from holdfast.dataplane.trace import Seen
from holdfast.records import FailoverCapability, session_key
from holdfast.records.ledger import PeerKey


class PretendNode:
    """1,234 sessions in one tunnel, one subscriber called `ann@example.net`; notes every command."""

    def __init__(self) -> None:
        self.keys = [session_key(17, i) for i in range(1, 1235)]
        self.commands: list[tuple[object, ...]] = []
        self.packets: list[Seen] = []
        self.trace_ends = ""
        self.fault: LocalError | None = None
        self.left = threading.Event()

    def node(self) -> NodeView:
        return NodeView(
            name="lns1", role="lns", version="0", pid=1, address="0.0.0.0", port=1701,
            started_utc_us=0, tunnels=1, sessions=len(self.keys), recovering=0, journal="writable",
        )  # fmt: skip

    def counters(self) -> dict[str, int]:
        return {"rx_control": 7}

    def tunnel_ids(self) -> Iterable[int]:
        return [17]

    def tunnel(self, tunnel_id: int) -> TunnelView | None:
        return TunnelView(
            id=tunnel_id, peer_id=9, peer_name="lac1", peer_host_name="lac1", peer_address="192.0.2.1",
            peer_port=1701, side="lns", state="established", initiator=False, sessions=len(self.keys),
        )  # fmt: skip

    def why_tunnel(self, tunnel_id: int) -> WhyView | None:
        if tunnel_id != 17:
            return None
        return WhyView(
            tunnel_id=17, peer_name="lac1", host_name="lac1.example.net", state="established",
            text=["Tunnel 17 to lac1: established.", "No recovery of it is remembered."],
        )  # fmt: skip

    def peer_keys(self) -> Iterable[PeerKey]:
        return [("lac1", "lac1.example.net"), ("lac2", "h")]

    def peer(self, key: PeerKey) -> PeerView | None:
        tried = MethodView(
            attempts=3, successes=2, failures=1, last="success", last_utc_us=9, send_last_ms=4, send_worst_ms=12,
        )  # fmt: skip
        return PeerView(
            name=key[0], host_name=key[1], tunnels=1, method="silent", vendor="ven\x1b[31mdor", firmware=1, window=4,
            offered=FailoverCapability(True, False, 45_000), rfc4951=MethodView(), silent=tried, contradictions=0,
            doubted_until_utc_us=0, kept_ms=42_400, lost_ms=None, answered=0, seen_utc_us=1_700_000_000_000_000,
        )  # fmt: skip

    def session_keys(self) -> Iterable[int]:
        return self.keys

    def session(self, key: int) -> SessionView | None:
        if key not in self.keys:
            return None
        return SessionView(
            key=key, tunnel_id=17, id=key & 0xFFFF, peer_id=1, peer_name="lac1", side="lns", state="established"
        )  # fmt: skip

    def session_detail(self, key: int) -> SessionDetail | None:
        view = self.session(key)
        return None if view is None else SessionDetail(session=view, tunnel=self.tunnel(17))

    def subscriber_names(self) -> Iterable[str]:
        return ["ann@example.net"]

    def subscriber(self, name: str) -> SubscriberView | None:
        return SubscriberView(name=name, tunnel="lns1", auto=True, state="up")

    def recoveries(self) -> Iterable[RecoveryView]:
        return [
            RecoveryView(
                tunnel_id=17, peer_name="lac1", role="remote-endpoint", method="rfc4951",
                state="synchronised", started_utc_us=1, control_recovered_ms=3, receive_settled_ms=3,
            )
        ]  # fmt: skip

    def trace(self, key: int, raw: bool, snaplen: int) -> Trace | None:
        """Shows `packets`, and then ends if there is a reason."""
        if key not in self.keys:
            return None
        if self.fault is not None:
            raise self.fault
        trace = Trace(key, raw=raw, snaplen=snaplen, leave=lambda trace: self.left.set())
        for packet in self.packets:
            trace.offer(packet)
        if self.trace_ends:
            trace.end(self.trace_ends)
        return trace

    def clear_session(self, key: int) -> bool:
        self.commands.append(("clear_session", key))
        return key in self.keys

    def clear_tunnel(self, tunnel_id: int) -> bool:
        self.commands.append(("clear_tunnel", tunnel_id))
        return tunnel_id == 17

    def subscriber_up(self, name: str) -> bool:
        self.commands.append(("subscriber_up", name))
        return name == "ann@example.net"

    def subscriber_down(self, name: str) -> bool:
        self.commands.append(("subscriber_down", name))
        return name == "ann@example.net"

    def stop(self, teardown: bool) -> None:
        self.commands.append(("stop", teardown))


class Host:
    """Serves a node's API from an event loop in a thread of its own, as the daemon does from its one loop."""

    def __init__(self, node: PretendNode, path: Path) -> None:
        self._path = path
        self._server: Server = server(node)
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._listening.wait(10)

    def _run(self) -> None:
        async def serve() -> None:
            sock = bind(str(self._path))
            self._listening.set()
            await self._server.serve(sockets=[sock])

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
