"""What is shown: lines without a terminal, a panel with one."""

import io

import pytest
from rich.console import Console

from holdfast.lab.display import Display, LiveDisplay
from lab.test_report import FAILED, GOOD


class Numbers:
    def sessions_live(self) -> int:
        return 7

    def packets(self) -> tuple[int, int]:
        return 120, 90


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    display.phase("lns killed")
    display.tick(Numbers())
    display.report(FAILED)
    display.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("s] lns killed")
    assert "FAILED                only 99 of 100 sessions" in lines


def test_panel_on_a_terminal() -> None:
    screen = io.StringIO()
    display = LiveDisplay(Console(file=screen, force_terminal=True, width=100), sessions=10)
    display.tick(Numbers())
    display.phase("lns killed")
    display.report(GOOD)
    display.close()
    shown = screen.getvalue()
    assert "7 of 10" in shown and "lns killed" in shown and "100 before, 100 after" in shown
