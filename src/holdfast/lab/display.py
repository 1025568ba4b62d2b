"""What a drill shows while it runs: a live panel on a terminal, plain lines elsewhere.

The drill calls `phase` when something new begins and `tick` while it waits. Packet rates are sampled ten times a
second, so that a restart shows; the panel is drawn four times, since the machine has better things to do.
"""

import sys
import time
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from holdfast.lab.report import Report
from holdfast.lab.report_text import rows

_SAMPLE_S = 0.1
_REDRAW_S = 0.25
_BARS = " ▁▂▃▄▅▆▇█"
_HISTORY = 60


class Progress(Protocol):
    """Numbers of a running drill, read when there is something to draw."""

    def sessions_live(self) -> int:
        """Sessions with data in both directions within the last second."""
        ...

    def packets(self) -> tuple[int, int]:
        """Packets received so far: up, down."""
        ...


class Display:
    """Plain lines, each with the time since the drill began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def phase(self, what: str) -> None:
        """Something new begins."""
        print(f"[{time.monotonic() - self._began:7.2f} s] {what}", flush=True)

    def tick(self, progress: Progress | None = None) -> None:
        """Still waiting."""

    def report(self, report: Report) -> None:
        """A round is over."""
        for label, value in rows(report):
            print(f"{label:<22}{value}")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing more to show."""


class LiveDisplay(Display):
    """A panel with what has happened, how many sessions carry data, and the packet rates of the last seconds."""

    def __init__(self, console: Console, sessions: int) -> None:
        super().__init__()
        self._sessions = sessions
        self._console = console
        self._phases: list[str] = []
        self._rates: tuple[list[int], list[int]] = ([], [])
        self._sampled: tuple[float, tuple[int, int]] | None = None
        self._drawn = 0.0
        self._live_sessions: int | None = None
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def phase(self, what: str) -> None:
        self._phases.append(f"{time.monotonic() - self._began:7.2f} s  {what}")
        self._draw()

    def tick(self, progress: Progress | None = None) -> None:
        now = time.monotonic()
        if progress is None:
            self._sampled = None
        else:
            self._sample(progress, now)
        if now - self._drawn >= _REDRAW_S:
            self._live_sessions = progress.sessions_live() if progress else None
            self._draw()

    def _sample(self, progress: Progress, now: float) -> None:
        """Note the packet rates since the last sample, if that is long enough ago."""
        before, seen = self._sampled or (now, progress.packets())
        if self._sampled and now - before < _SAMPLE_S:
            return
        packets = progress.packets()
        if now > before:
            for rates, count, old in zip(self._rates, packets, seen, strict=True):
                rates.append(int((count - old) / (now - before)))
                del rates[:-_HISTORY]
        self._sampled = now, packets

    def report(self, report: Report) -> None:
        table = Table(title="holdfast drill: restart", show_header=False, title_style="bold")
        for label, value in rows(report):
            bad = label == "FAILED"
            good = label == "result"
            table.add_row(label, Text(value, style="bold red" if bad else "bold green" if good else ""))
        self._live.update(Text(""), refresh=True)
        self._console.print(table)
        self._phases.clear()

    def close(self) -> None:
        self._live.update(Text(""), refresh=True)
        self._live.stop()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        parts: list[Text] = [Text(line) for line in self._phases[-12:]]
        if self._live_sessions is not None:
            style = "bold green" if self._live_sessions == self._sessions else "bold yellow"
            parts.append(
                Text(f"\nsessions with data both ways: {self._live_sessions} of {self._sessions}", style)
            )
            parts += [
                Text(f"{name} {_sparkline(rates)}")
                for name, rates in zip(("up  ", "down"), self._rates, strict=True)
            ]
        self._live.update(
            Panel(Group(*parts), title="holdfast drill: restart", title_align="left"), refresh=True
        )


def open_display(sessions: int) -> Display:
    """A live panel if standard output is a terminal, else plain lines."""
    console = Console()
    return LiveDisplay(console, sessions) if console.is_terminal else Display()


def _sparkline(rates: list[int]) -> str:
    top = max(rates, default=0) or 1
    return "".join(_BARS[-(-rate * (len(_BARS) - 1) // top)] for rate in rates)
