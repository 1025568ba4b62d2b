"""A drill that needs another kernel: finding one, what comes out of it, what a real peer's log is read for."""

from pathlib import Path

import msgspec
import pytest

from holdfast.lab import drill
from holdfast.lab.display import Display, Progress
from holdfast.lab.drill import others
from holdfast.lab.drill.relayed import Listener, RelayedDisplay
from holdfast.lab.kernel import pppol2tp, uml
from holdfast.lab.peers import xl2tpd
from holdfast.lab.report import Report
from lab.test_report import REAL_PEER


class Spy(Display):
    """Remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[str] = []
        self.packets: list[tuple[int, int]] = []

    def phase(self, what: str) -> None:
        self.phases.append(what)

    def tick(self, progress: Progress | None = None) -> None:
        assert progress is not None and not isinstance(progress, Standing)  # what came over is another
        self.packets.append(progress.packets())

    def report(self, report: Report) -> None:
        self.phases.append(report.peer)


class Standing:
    """A running drill."""

    def sessions_live(self) -> int:
        return 1

    def packets(self) -> tuple[int, int]:
        return 20, 19


def test_what_is_said_inside_is_shown_outside(capsys: pytest.CaptureFixture[str]) -> None:
    inside = RelayedDisplay()
    inside.phase("starting")
    inside.tick(Standing())
    inside.tick()
    inside.report(REAL_PEER)
    said = capsys.readouterr().out.encode()
    spy, rounds = Spy(), list[Report]()
    listener = Listener(spy, rounds)
    for at in range(0, len(said), 100):
        listener.hear(said[at : at + 100])
    listener.hear(b"holdfast drill: something went wrong\n[1]\n{}x")
    listener.close()
    assert spy.phases == ["starting", "xl2tpd"]
    assert spy.packets == [(20, 19)]
    assert rounds == [REAL_PEER]
    assert capsys.readouterr().err == "holdfast drill: something went wrong\n[1]\n{}x\n"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernel has no PPP over L2TP, and which has no other kernel."""
    monkeypatch.setattr(pppol2tp, "unavailable", lambda: "no PPP over L2TP here")
    monkeypatch.setattr(uml, "unavailable", lambda: "linux.uml is missing")
    monkeypatch.setattr(xl2tpd, "unavailable", lambda: None)
    monkeypatch.setattr(xl2tpd, "private", lambda: False)


@pytest.mark.usefixtures("nowhere")
def test_where_there_is_no_kernel_the_drill_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert drill.main(["--peer", "xl2tpd"]) == 2
    said = capsys.readouterr().err
    assert "no PPP over L2TP here" in said
    assert "linux.uml is missing" in said
    assert "scripts/setup-interop" in said


@pytest.mark.usefixtures("nowhere")
def test_a_missing_daemon_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(xl2tpd, "unavailable", lambda: "pppd is missing (package ppp)")
    assert drill.main(["--peer", "xl2tpd"]) == 2
    assert "pppd is missing (package ppp)" in capsys.readouterr().err


def test_a_log_is_read_for_what_is_new_and_no_routine(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader = others.LogReader(
        others.Words(routine=("keepalive",), duplicate=("out of order",)), log, tmp_path / "none"
    )
    assert reader.read().lines == []
    log.write_text("started\nkeepalive 1\n")
    assert reader.read().lines == ["started"]
    with open(log, "a") as f:
        f.write("keepalive 2\nout of order\nConnection clo")
    noticed = reader.read()
    assert (noticed.lines, noticed.of_duplicates) == ([], 1)
    with open(log, "a") as f:
        f.write("sed\n")
    assert msgspec.structs.asdict(reader.read()) == {"lines": ["Connection closed"], "of_duplicates": 0}
