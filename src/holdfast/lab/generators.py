"""Starts both ends of a run's traffic, looks at their boards, and ends them at one common time."""

import secrets
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from holdfast.core.errors import LocalError
from holdfast.lab.measure import Direction, Moments, measure
from holdfast.lab.process import spawn, stop
from holdfast.lab.stream import LINGER_NS, PATIENCE_NS, Schedule, Shortfall
from holdfast.lab.topology import CORE_ADDRESS, Topology
from holdfast.lab.traffic import Board, Plan, Side

_LEAD_NS = 50_000_000
"""Time between the command to start and the first packet's due time."""
_PATIENCE_S = (PATIENCE_NS + LINGER_NS) / 1e9 + 30
_SIDES: tuple[Side, Side] = ("lac", "core")


class GeneratorFailed(LocalError):
    """A traffic generator did not do its work."""


class End(Protocol):
    """What makes and takes the packets of one side: it is told in lines, and answers in lines."""

    def say(self, line: bytes) -> None:
        """Tell it something."""

    def hear(self) -> bytes:
        """Its next line, without the end of it; empty if there is none in time."""

    def close(self) -> None:
        """It is no longer needed."""


class _Process:
    """A process of its own (`lab.traffic`)."""

    def __init__(self, namespace: str, plan: Path) -> None:
        argv = [sys.executable, "-m", "holdfast.lab.traffic", str(plan)]
        self._process = spawn(argv, namespace, plan.with_suffix(".stderr"), piped=True)

    def say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then it has nothing to answer either
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()

    def hear(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip(b"\n")

    def close(self) -> None:
        stop(self._process)


class _Within:
    """A part of the LAC, which takes plans on a UNIX socket (`lab.lac_end`)."""

    def __init__(self, path: str, plan: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_PATIENCE_S)
        try:
            self._socket.connect(path)
        except OSError as e:
            raise GeneratorFailed(f"the LAC takes no plan: {e.strerror}") from e
        self._said = self._socket.makefile("rb")
        self.say(b"plan " + str(plan).encode())

    def say(self, line: bytes) -> None:
        with suppress(BrokenPipeError):
            self._socket.sendall(line + b"\n")

    def hear(self) -> bytes:
        try:
            return self._said.readline().rstrip(b"\n")
        except OSError:
            return b""

    def close(self) -> None:
        self._said.close()
        self._socket.close()


class Generators:
    """Both directions of traffic. `addresses` are the subscribers', by session index; the order names them for good.

    `up` and `down` are the receivers' boards; `shortfalls` are there after the end.
    """

    def __init__(
        self,
        net: Topology,
        addresses: list[str],
        pps: int,
        directory: Path,
        lac_end: str = "",
        processor: int = -1,
    ) -> None:
        """`lac_end` is where the LAC takes plans if it carries the subscribers' packets itself; `processor` where both
        sides shall stay, -1 for anywhere.

        Raises GeneratorFailed.
        """
        self._directory = directory
        directory.mkdir(parents=True)
        token = secrets.randbits(32)
        self._boards = {side: Board(str(self._path(side, "board")), len(addresses)) for side in _SIDES}
        self._ends: dict[Side, End] = {}
        self.shortfalls: dict[Side, Shortfall] = {}
        try:
            for side in _SIDES:
                plan = Plan(
                    side=side,
                    token=token,
                    pps=pps,
                    addresses=tuple(addresses),
                    core=CORE_ADDRESS,
                    log=str(self._path(side, "log")),
                    board=str(self._path(side, "board")),
                    echoes=str(self.echoes),
                    processor=processor,
                )
                file = self._path(side, "plan")
                file.write_bytes(msgspec.json.encode(plan))
                within = lac_end and side == "lac"
                self._ends[side] = _Within(lac_end, file) if within else _Process(net.of(side), file)
            for side in self._ends:
                self._expect(side, b"ready")
        except BaseException:
            self.close()
            raise
        self.schedule = Schedule(time.monotonic_ns() + _LEAD_NS, pps, len(addresses))
        self._command("start", self.schedule.start_ns)
        self.up, self.down = self._boards["core"], self._boards["lac"]

    @property
    def echoes(self) -> Path:
        """Where a LAC that carries the packets itself logs its LCP Echo-Requests at the end."""
        return self._path("lac", "echoes")

    def _path(self, side: Side, kind: str) -> Path:
        return self._directory / f"{side}.{kind}"

    def live_since(self, at_ns: int) -> int:
        """How many sessions have had data in both directions since `at_ns`."""
        return sum(up > at_ns and down > at_ns for up, down in zip(self.up.last, self.down.last, strict=True))

    def finish(self) -> int:
        """End sending now, wait until receiving has ended too; returns the time at which sending ended, in ns.

        Raises GeneratorFailed.
        """
        stop_ns = time.monotonic_ns()
        self._command("stop", stop_ns)
        for side in self._ends:
            self._expect(side, b"sent")
        self._command("end", time.monotonic_ns() + LINGER_NS)
        for side in self._ends:
            shortfall = self._expect(side, b"done")
            self.shortfalls[side] = msgspec.json.decode(shortfall, type=Shortfall)
        return stop_ns

    def _expect(self, side: Side, word: bytes) -> bytes:
        """The rest of the line that begins with this word. Raises GeneratorFailed if another comes, or none."""
        said = self._ends[side].hear()
        first, _, rest = said.partition(b" ")
        if first != word:
            raise GeneratorFailed(f"the {side} generator failed: {said.decode() or f'see {self._directory}'}")
        return rest

    def _command(self, word: str, at_ns: int) -> None:
        for end in self._ends.values():
            end.say(f"{word} {at_ns}".encode())

    def measure(self, moments: Moments) -> tuple[Direction, Direction]:
        """Up (subscriber to core) and down, from the receivers' logs."""
        up = measure(self.schedule, self._path("core", "log"), moments)
        return up, measure(self.schedule, self._path("lac", "log"), moments)

    def close(self) -> None:
        """End what still runs."""
        for end in self._ends.values():
            end.close()
        for board in self._boards.values():
            board.close()

    def __enter__(self) -> "Generators":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
