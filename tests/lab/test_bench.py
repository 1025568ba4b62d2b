"""The rows of the benchmark table, and the parts of the suite that need no network namespace."""

import os

import pytest

from holdfast.lab.bench.__main__ import main
from holdfast.lab.bench.rows import HEADER, Row, markdown
from holdfast.lab.blast.server import cpu_seconds, rss_bytes, waited_seconds


def test_a_row_says_whether_its_target_is_met_and_who_was_the_limit() -> None:
    row = Row(
        what="set-ups",
        measured="2,900/s",
        target="≥ 3,000/s",
        met=False,
        node=0.99,
        generator=0.95,
        limited=True,
        remarks=("a", "b"),
    )
    assert markdown(row) == "| set-ups | 2,900/s | ≥ 3,000/s ✗ | 99% | 95%, **the limit** | a; b |"


def test_every_row_has_the_columns_of_the_header() -> None:
    columns = HEADER.splitlines()[0].count("|")
    assert markdown(Row(what="x", measured="y")).count("|") == columns


def test_parts_that_do_not_exist_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nonsense"])
    assert "no such part: nonsense" in capsys.readouterr().err


def test_a_process_is_measured_from_proc() -> None:
    assert rss_bytes(os.getpid()) > 1 << 20
    assert cpu_seconds(os.getpid()) > 0
    assert waited_seconds(os.getpid()) < 3600
    with pytest.raises(OSError):
        cpu_seconds(1 << 30)
