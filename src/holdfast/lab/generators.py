"""Starts the two traffic generators of a run, looks at their boards, and ends them at one common time."""

import secrets
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from holdfast.core.errors import LocalError
from holdfast.lab.measure import Direction, Moments, measure
from holdfast.lab.process import spawn, stop
from holdfast.lab.topology import CORE_ADDRESS, Topology
from holdfast.lab.traffic import LINGER_NS, Board, Plan, Schedule, Side

_LEAD_NS = 50_000_000
"""Time between the command to start and the first packet's due time."""
_SIDES: tuple[Side, Side] = ("lac", "core")


class GeneratorFailed(LocalError):
    """A traffic generator did not do its work."""


class Generators:
    """Both directions of traffic. `addresses` are the subscribers', by session index; the order names them for good."""

    def __init__(self, net: Topology, addresses: list[str], pps: int, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True)
        token = secrets.randbits(32)
        self._boards = {side: Board(str(self._path(side, "board")), len(addresses)) for side in _SIDES}
        self._processes: dict[Side, subprocess.Popen[bytes]] = {}
        for side in _SIDES:
            plan = Plan(
                side=side,
                token=token,
                pps=pps,
                addresses=tuple(addresses),
                core=CORE_ADDRESS,
                log=str(self._path(side, "log")),
                board=str(self._path(side, "board")),
            )
            self._path(side, "plan").write_bytes(msgspec.json.encode(plan))
            self._processes[side] = self._start(side, net)
        for process in self._processes.values():
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise GeneratorFailed(f"a traffic generator did not start; see {directory}")
        self.schedule = Schedule(time.monotonic_ns() + _LEAD_NS, pps, len(addresses))
        self._command("start", self.schedule.start_ns)
        self.up, self.down = self._boards["core"], self._boards["lac"]

    def _path(self, side: Side, kind: str) -> Path:
        return self._directory / f"{side}.{kind}"

    def _start(self, side: Side, net: Topology) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "holdfast.lab.traffic", str(self._path(side, "plan"))]
        return spawn(argv, net.of(side), self._path(side, "stderr"), piped=True)

    def live_since(self, at_ns: int) -> int:
        """How many sessions have had data in both directions since `at_ns`."""
        return sum(up > at_ns and down > at_ns for up, down in zip(self.up.last, self.down.last, strict=True))

    def finish(self) -> int:
        """End sending now, wait until receiving has ended too; returns the time at which sending ended, in ns."""
        stop_ns = time.monotonic_ns()
        self._command("stop", stop_ns)
        for side, process in self._processes.items():
            if process.wait(timeout=LINGER_NS / 1e9 + 30):
                raise GeneratorFailed(f"the {side} generator failed; see {self._path(side, 'stderr')}")
        return stop_ns

    def _command(self, word: str, at_ns: int) -> None:
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.write(f"{word} {at_ns}\n".encode())
                process.stdin.flush()

    def measure(self, moments: Moments) -> tuple[Direction, Direction]:
        """Up (subscriber to core) and down, from the receivers' logs."""
        up = measure(self.schedule, self._path("core", "log"), moments)
        return up, measure(self.schedule, self._path("lac", "log"), moments)

    def close(self) -> None:
        """End what still runs."""
        for process in self._processes.values():
            stop(process)
        for board in self._boards.values():
            board.close()

    def __enter__(self) -> "Generators":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
