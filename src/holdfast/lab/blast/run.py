"""One run from the first SCCRQ to the last StopCCN: opens tunnels, places calls, holds them, sends packets,
measures.

Tunnels are opened one after the other: some servers tell a repeated SCCRQ apart by address and port only.
"""

import gc
import os
import time
from collections.abc import Callable

from holdfast.core.clock import SECOND, Instant
from holdfast.lab.blast.call import Call
from holdfast.lab.blast.core_client import CoreSide
from holdfast.lab.blast.core_task import LINGER, Report, Task
from holdfast.lab.blast.engine import TICK, Engine
from holdfast.lab.blast.frames import IP
from holdfast.lab.blast.link import Link
from holdfast.lab.blast.packets import NUMBER_AT, Arrivals, Pacer
from holdfast.lab.blast.plan import Plan
from holdfast.lab.blast.result import (
    Direction,
    Generator,
    Result,
    Server,
    Sessions,
    Tunnels,
    per_second,
    spread,
)
from holdfast.lab.blast.server import cpu_seconds, rss_bytes, waited_seconds
from holdfast.lab.blast.tunnel import TunnelState
from holdfast.lab.blast.upstream import Upstream

BATCH = 256
"""Datagrams read before timers and new calls get their turn."""
CLOSING = 2 * SECOND
"""How long the end waits for its last acknowledgements."""


def clock() -> Instant:
    """The monotonic clock in microseconds."""
    return time.monotonic_ns() // 1000


class _Share:
    """CPU time over wall time between two moments, of this process and of the server's."""

    def __init__(self, server_pid: int) -> None:
        self._pid = server_pid
        self._wall = clock()
        self._own = time.process_time()
        self._server = cpu_seconds(server_pid) if server_pid else 0.0
        self._waited = waited_seconds(server_pid) if server_pid else 0.0

    def take(self) -> tuple[float, float, float]:
        """Shares since the beginning: ours, the server's, and its waiting (0 if there is no server to see)."""
        wall = max(1, clock() - self._wall) / SECOND
        own = (time.process_time() - self._own) / wall
        if not self._pid:
            return own, 0.0, 0.0
        server, waited = cpu_seconds(self._pid) - self._server, waited_seconds(self._pid) - self._waited
        return own, server / wall, max(0.0, waited) / wall


class Run:
    """A run in progress. `measure` is all of it."""

    def __init__(self, plan: Plan, say: Callable[[str], None] = lambda text: None) -> None:
        self._plan = plan
        self._say = say
        self._link = Link((plan.local_address, plan.local_port), (plan.lns, plan.port))
        self._down = Arrivals(clock)
        self._engine = Engine(plan, self._link.send, clock, os.urandom, self._packet)
        self._tunnel_us = 0
        self._setup_cpu = self._traffic_cpu = (0.0, 0.0, 0.0)
        self._rss = (0, 0)
        self._up: Direction | None = None
        self._downstream: Direction | None = None
        self._core_cpu = 0.0

    def measure(self) -> Result:
        """Do all of it. Raises CoreSideFailed; OSError if the local address cannot be bound."""
        gc.collect()
        gc.disable()
        try:
            self._open_tunnels()
            before = self._resident()
            self._place_calls()
            self._rss = before, self._resident()
            self._hold()
            up_at_end = len(self._engine.up)
            if not self._plan.keep:
                self._close()
        finally:
            gc.enable()
            self._link.close()
        return self._result(up_at_end)

    def _turn(self, wake: Instant) -> None:
        """One turn of the loop; returns by `wake` if nothing happens."""
        engine = self._engine
        now = clock()
        engine.place(now)
        engine.timers(now)
        batch = self._link.receive(BATCH)
        if not batch:
            due = engine.next_due()
            if due is not None and due > now:
                wake = min(wake, due)
            self._link.wait((min(wake, now + TICK) - clock()) / SECOND)
            batch = self._link.receive(BATCH)
        if batch:
            engine.receive(batch, clock())

    def _open_tunnels(self) -> None:
        start = clock()
        for n in range(self._plan.tunnels):
            tunnel = self._engine.open_tunnel(clock())
            while tunnel.state is TunnelState.WAIT_REPLY:
                self._turn(clock() + TICK)
            if tunnel.state is TunnelState.CLOSED and n == 0:
                break
        self._tunnel_us = clock() - start
        self._say(f"{self._engine.tunnels_opened} tunnels open")

    def _place_calls(self) -> None:
        engine = self._engine
        engine.begin(clock())
        share, told = _Share(self._plan.server_pid), clock()
        while not engine.finished:
            self._turn(clock() + TICK)
            if clock() - told >= SECOND:
                told = clock()
                self._say(f"{len(engine.latencies):,} sessions set up, {engine.in_flight} in flight")
        self._setup_cpu = share.take()

    def _hold(self) -> None:
        plan = self._plan
        if not plan.duration_s:
            return
        if plan.traffic.core and (plan.traffic.up or plan.traffic.down):
            self._carry_traffic()
            return
        end = clock() + round(plan.duration_s * SECOND)
        while clock() < end:
            self._turn(end)

    def _carry_traffic(self) -> None:
        traffic, engine = self._plan.traffic, self._engine
        calls = list(engine.sessions())
        core = CoreSide(self._task(calls), traffic.core_command)
        share, start = _Share(self._plan.server_pid), clock()
        end = start + round(self._plan.duration_s * SECOND)
        pacer = Pacer(traffic.up, start, end)
        upstream = Upstream(calls, traffic, pacer, self._link.send)
        core.go()
        self._say("packets run")
        while (now := clock()) < end:
            upstream.send(now)
            self._turn(pacer.next_at(now) or end)
        upstream.send(end)
        self._traffic_cpu = share.take()
        linger = clock() + LINGER
        while clock() < linger:
            self._turn(linger)
        self._count(core.report(), pacer, end)

    def _task(self, calls: list[Call]) -> Task:
        traffic = self._plan.traffic
        return Task(
            address=traffic.core,
            port=traffic.port,
            down=traffic.down,
            size=traffic.down_size,
            seconds=self._plan.duration_s,
            subscribers=[(".".join(map(str, call.address)), call.index) for call in calls],
        )

    def _packet(self, call: Call, data: bytes) -> None:
        self._down.note(data, IP + NUMBER_AT)

    def _count(self, report: Report, pacer: Pacer, end: Instant) -> None:
        self._core_cpu = report.cpu_share
        self._up = Direction(
            due=pacer.due_by(end),
            sent=pacer.sent,
            received=report.up_received,
            longest_gap_ms=report.up_gap / 1000,
            longest_session_gap_ms=report.up_session_gap / 1000,
        )
        self._downstream = Direction(
            due=report.down_due,
            sent=report.down_sent,
            received=self._down.received,
            longest_gap_ms=self._down.gap / 1000,
            longest_session_gap_ms=self._down.session_gap / 1000,
        )

    def _server(self) -> Server | None:
        if not self._plan.server_pid:
            return None
        return Server(
            setup_cpu_share=round(self._setup_cpu[1], 3),
            setup_wait_share=round(self._setup_cpu[2], 3),
            traffic_cpu_share=round(self._traffic_cpu[1], 3),
            rss_before=self._rss[0],
            rss_after=self._rss[1],
        )

    def _resident(self) -> int:
        return rss_bytes(self._plan.server_pid) if self._plan.server_pid else 0

    def _close(self) -> None:
        self._engine.close(clock())
        end = clock() + CLOSING
        while not self._engine.quiet and clock() < end:
            self._turn(end)

    def _result(self, up_at_end: int) -> Result:
        plan, engine = self._plan, self._engine
        took = engine.last_opened_at - engine.placed_from
        generator = Generator(
            setup_cpu_share=round(self._setup_cpu[0], 3),
            traffic_cpu_share=round(self._traffic_cpu[0], 3),
            core_cpu_share=round(self._core_cpu, 3),
            retransmitted=engine.retransmitted,
            refused=self._link.refused,
        )
        return Result(
            lns=f"{plan.lns}:{plan.port}",
            tunnels=Tunnels(
                asked=plan.tunnels,
                opened=engine.tunnels_opened,
                per_second=per_second(engine.tunnels_opened, self._tunnel_us),
                failed=dict(engine.tunnels_failed),
            ),
            sessions=Sessions(
                asked=max(plan.total, plan.sessions),
                opened=len(engine.latencies),
                cleared=engine.cleared,
                up_at_end=up_at_end,
                per_second=per_second(len(engine.latencies), took),
                seconds=max(0, took) / SECOND,
                latency_ms=spread(engine.latencies),
                late_ms=spread(engine.lateness),
                failed=dict(engine.failed),
                lost=dict(engine.lost),
                renegotiated=engine.renegotiations,
            ),
            up=self._up,
            down=self._downstream,
            generator=generator,
            generator_limited=generator.setup_limited or generator.traffic_limited,
            server=self._server(),
        )
