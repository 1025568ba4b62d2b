"""What a drill shows, carried out of a throw-away kernel: one JSON object per line of its standard output.

Anything else that comes out is for standard error.
"""

import sys
import time

import msgspec

from holdfast.lab.display import Display, Progress
from holdfast.lab.report import Report

_PROGRESS_S = 0.25


class _Seen(msgspec.Struct, frozen=True):
    live: int
    up: int
    down: int

    def sessions_live(self) -> int:
        """Sessions with data in both directions within the last second."""
        return self.live

    def packets(self) -> tuple[int, int]:
        """Packets received so far: up, down."""
        return self.up, self.down


class _Said(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    phase: str = ""
    report: Report | None = None
    progress: _Seen | None = None


class RelayedDisplay(Display):
    """Inside: says it in JSON."""

    def __init__(self) -> None:
        super().__init__()
        self._told = 0.0

    def phase(self, what: str) -> None:
        _say(_Said(phase=what))

    def tick(self, progress: Progress | None = None) -> None:
        if progress is not None and time.monotonic() - self._told >= _PROGRESS_S:
            self._told = time.monotonic()
            _say(_Said(progress=_Seen(progress.sessions_live(), *progress.packets())))

    def report(self, report: Report) -> None:
        _say(_Said(report=report))


class Listener:
    """Outside: shows it on a display, and collects the reports."""

    def __init__(self, display: Display, rounds: list[Report]) -> None:
        self._display = display
        self._rounds = rounds
        self._pending = b""

    def hear(self, said: bytes) -> None:
        """Take in what has come out."""
        *lines, self._pending = (self._pending + said).split(b"\n")
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """Nothing more will come."""
        self._line(self._pending)
        self._pending = b""

    def _line(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            said = msgspec.json.decode(line, type=_Said)
        except msgspec.DecodeError:
            print(line.decode(errors="replace"), file=sys.stderr)
            return
        if said.phase:
            self._display.phase(said.phase)
        if said.progress:
            self._display.tick(said.progress)
        if said.report:
            self._rounds.append(said.report)
            self._display.report(said.report)


def _say(said: _Said) -> None:
    sys.stdout.write(msgspec.json.encode(said).decode() + "\n")
    sys.stdout.flush()
