"""How long a killed LNS takes to be back in front of a peer without RFC 4951, and what it says on the wire for that.

The place and the traffic are the drill's; what is said is read from the wire, and the moments from the node's log.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout

from holdfast.lab.bench.rig import BenchFailed
from holdfast.lab.bench.rows import Row, milliseconds
from holdfast.lab.display import Display
from holdfast.lab.drill.laboratory import laboratory
from holdfast.lab.drill.round import kill_and_report
from holdfast.lab.drill.scene import scene
from holdfast.lab.events import EventLog
from holdfast.lab.options import Options
from holdfast.lab.report import Report
from holdfast.lab.tap import Said, Tap
from holdfast.lab.topology import LNS_ADDRESS
from holdfast.wire.codes import Msg

DATA_FLOWS_MS = 1000.0
SEND_SIDE_MS = 3000.0
_PROVED_LIMIT_S = 120.0
_TICK_NS = 10_000_000
_MS_NS = 1_000_000


def silent(sessions: int, tunnels: int) -> Iterator[Row]:
    """Kill the LNS once in front of a holdfast that does not offer RFC 4951. Raises BenchFailed, DrillFailed."""
    options = Options(
        sessions=sessions, tunnels=tunnels, traffic_pps=2 * sessions, peer="holdfast", in_flight=0
    )
    rounds: list[Report] = []
    with (
        redirect_stdout(sys.stderr),  # standard output is the table's
        laboratory(options, rounds) as lab,
        scene(options, Display(), lab) as made,
    ):
        tap = Tap(lab.net.lns)
        try:
            rounds.append(kill_and_report(made, 1))
            log = EventLog(lab.work / "lns" / "log")
            _await_proof(log)
            said = tap.take()
        finally:
            tap.close()
    yield from _rows(f"{sessions:,} sessions in {tunnels:,} tunnels", rounds[0], log, said)


def _await_proof(log: EventLog) -> None:
    deadline = time.monotonic() + _PROVED_LIMIT_S
    while log.first_ns("node.proved", 0) is None and time.monotonic() < deadline:
        time.sleep(0.1)
        log.refresh()


def _rows(what: str, report: Report, log: EventLog, said: Sequence[Said]) -> Iterator[Row]:
    data_flows, spoke = log.last_ns("node.data_flows", 0), log.last_ns("tunnel.recovered", 0)
    if data_flows is None or spoke is None or report.control_recovered_ms is None:
        raise BenchFailed("the LNS did not recover its tunnels")
    started_ns = spoke - int(report.control_recovered_ms * _MS_NS)
    settled = [e["monotonic_us"] * 1000 for e in log.since(started_ns, "recovery.synchronised")]
    quiet = sum(at <= spoke for at in settled)
    proved = log.first_ns("node.proved", started_ns)
    flows_ms, send_ms = (data_flows - started_ns) / _MS_NS, report.control_recovered_ms
    yield Row(
        what=f"silent restart, {what}: data flows",
        measured=milliseconds(flows_ms),
        target=f"≤ {DATA_FLOWS_MS:,.0f} ms",
        met=flows_ms <= DATA_FLOWS_MS,
        remarks=(
            f"on all sessions, probed every 500 ms: {milliseconds(report.data_back_ms.all)}",
            f"{report.sessions_after:,} of {report.sessions_before:,} sessions kept",
        ),
    )
    yield Row(
        what=f"silent restart, {what}: send side of all",
        measured=milliseconds(send_ms),
        target=f"≤ {SEND_SIDE_MS:,.0f} ms",
        met=send_ms <= SEND_SIDE_MS,
        remarks=(
            f"receive side of {quiet:,} tunnels by then, of all {milliseconds(report.synchronised_ms)}",
            f"every session proved {milliseconds(None if proved is None else (proved - started_ns) / _MS_NS)}",
        ),
    )
    began = started_ns + time.time_ns() - time.monotonic_ns()
    ours = [
        one
        for one in said
        if one.source == LNS_ADDRESS and began <= one.at_ns <= began + int(send_ms * _MS_NS) + 1_000_000_000
    ]
    per_tick = Counter(one.at_ns // _TICK_NS for one in ours)
    probes = sum(one.type == Msg.HELLO for one in ours)
    yield Row(
        what=f"silent restart, {what}: control messages said until a second after that",
        measured=f"{len(ours):,}",
        remarks=(f"{probes:,} of them probes and HELLOs", f"at most {max(per_tick.values())} in 10 ms"),
    )
