"""How long a killed LNS takes to be back, by the drill: a second node as LAC, traffic on every session."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import msgspec

from holdfast.lab import drill
from holdfast.lab.bench.rig import BenchFailed
from holdfast.lab.bench.rows import Row, milliseconds
from holdfast.lab.report import Report

SYNCHRONISED_MS = 3000.0


def restart(sessions: int, tunnels: int, data_back_ms: float) -> Iterator[Row]:
    """Kill the LNS once. Raises BenchFailed if the drill has no report."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory:
        file = Path(directory) / "report.json"
        # the least traffic that tells every session's state within a fraction of the target
        pps = max(20 * sessions if sessions <= 1000 else 0, 2 * sessions)
        with redirect_stdout(sys.stderr):  # standard output is the table's
            drill.main(
                [
                    *("--sessions", str(sessions), "--tunnels", str(tunnels), "--traffic-pps", str(pps)),
                    *("--json", str(file)),
                ]
            )
        if not file.exists():
            raise BenchFailed(f"the drill with {sessions} sessions has no report")
        report = msgspec.json.decode(file.read_bytes(), type=Report)
    remarks = (
        f"{report.sessions_after:,} of {report.sessions_before:,} sessions kept",
        f"probed every {sessions / pps * 1000:.0f} ms",
        "" if report.result == "ok" else f"drill: {', '.join(report.result)}",
    )
    what = f"restart, {sessions:,} sessions in {tunnels} tunnels"
    back, done = report.data_back_ms.all, report.synchronised_ms
    yield Row(
        what=f"{what}: data back on all",
        measured=milliseconds(back),
        target=f"≤ {data_back_ms:,.0f} ms",
        met=back is not None and back <= data_back_ms,
        remarks=tuple(filter(None, remarks)),
    )
    yield Row(
        what=f"{what}: recovered and synchronised",
        measured=milliseconds(done),
        target=f"≤ {SYNCHRONISED_MS:,.0f} ms",
        met=done is not None and done <= SYNCHRONISED_MS,
        remarks=(f"control channels {milliseconds(report.control_recovered_ms)}",),
    )
