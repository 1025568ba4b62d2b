"""Log lines: one per event, quoted when needed, without secrets."""

import errno
import json
import os
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.daemon.effects import DEBUG, ERROR, INFO, WARNING, Log
from holdfast.daemon.logs import (
    HIDDEN_KEYS,
    LONGEST,
    EventLog,
    Lines,
    is_journald,
    json_line,
    log_to,
    text_line,
)
from holdfast.records import Side

NOON_US = 1_700_000_000_000_123


def a_log(
    lines: list[str], *, form: Literal["text", "json"] = "text", level: str = "info", journald: bool = False
) -> EventLog:
    return EventLog(
        lambda line: lines.append(line.decode()), lambda: NOON_US, form=form, level=level, journald=journald
    )


def test_the_event_comes_first_then_what_identifies_then_the_rest() -> None:
    lines: list[str] = []
    a_log(lines)(Log("session.up", {"speed": 5, "session": 3, "tunnel": 17, "peer": "192.0.2.1:1701"}))
    assert lines == [
        "2023-11-14T22:13:20.000123Z session.up peer=192.0.2.1:1701 tunnel=17 session=3 speed=5\n"
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("lac1.example.net", "lac1.example.net"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("line\nfeed", r'"line\nfeed"'),
        ("\x1b[2J", r'"\u001b[2J"'),
        ("\x7f", r'"\u007f"'),
        ("\x9b2J", r'"\u009b2J"'),
        ("\u202egnp.exe", r'"\u202egnp.exe"'),
        ("Zürich", '"Zürich"'),
        (True, "true"),
        (None, "-"),
        (1.5, "1.5"),
        (Side.LNS, "lns"),
        (b"\x01\x02", '"(2 octets)"'),
        (("a", 1), "a,1"),
        ((), '""'),
    ],
)
def test_values_are_quoted_when_needed(value: object, text: str) -> None:
    assert text_line("e", {"k": value}, "info", "") == f"e k={text}"


def test_a_level_other_than_info_is_said() -> None:
    assert text_line("journal.failed", {}, "error", "") == "journal.failed level=error"


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("key", sorted(HIDDEN_KEYS))
def test_secrets_never_appear(form: Literal["text", "json"], key: str) -> None:
    lines: list[str] = []
    a_log(lines, form=form, level="debug")(Log("auth.failed", {key: "opensesame", "raw": b"opensesame"}))
    assert "opensesame" not in lines[0]
    assert "(hidden)" in lines[0]


def test_json_has_the_same_keys() -> None:
    lines: list[str] = []
    a_log(lines, form="json")(
        Log(
            "session.up",
            {"tunnel": 17, "side": Side.LAC, "dns": ("a", "b"), "ok": True, "event": "forged"},
            WARNING,
        )
    )
    assert json.loads(lines[0]) == {
        "event": "session.up",
        "level": "warning",
        "time": "2023-11-14T22:13:20.000123Z",
        "tunnel": 17,
        "side": "lac",
        "dns": ["a", "b"],
        "ok": True,
    }


@given(st.text(st.characters()), st.sampled_from([text_line, json_line]))
def test_whatever_a_peer_calls_itself_it_is_one_printable_line(
    name: str, line: Callable[[str, dict[str, object], str, str], str]
) -> None:
    assert line("tunnel.up", {"peer_host_name": name}, "info", "").isprintable()


def test_a_long_value_is_cut() -> None:
    assert len(text_line("e", {"k": "x" * 10 * LONGEST}, "info", "")) < 2 * LONGEST
    assert len(text_line("e", {"traceback": "x" * 2 * LONGEST}, "info", "")) > 2 * LONGEST


@pytest.mark.parametrize(
    ("level", "names"),
    [
        ("debug", ["d", "i", "w", "e"]),
        ("info", ["i", "w", "e"]),
        ("warning", ["w", "e"]),
        ("error", ["e"]),
    ],
)
def test_a_level_that_is_off_writes_nothing(level: str, names: list[str]) -> None:
    lines: list[str] = []
    log = a_log(lines, level=level)
    for name, severity in (("d", DEBUG), ("i", INFO), ("w", WARNING), ("e", ERROR)):
        log(Log(name, {}, severity))
    assert [line.split()[1] for line in lines] == names


def test_the_daemon_has_events_of_its_own() -> None:
    lines: list[str] = []
    a_log(lines, journald=True).event("node.ready", tunnel=3)
    assert lines == ["<6>node.ready tunnel=3\n"]


def test_journald_gets_the_priority_and_keeps_the_time() -> None:
    lines: list[str] = []
    log = a_log(lines, level="debug", journald=True)
    for level in (DEBUG, INFO, WARNING, ERROR):
        log(Log("e", {}, level))
    assert [line.split()[0] for line in lines] == ["<7>e", "<6>e", "<4>e", "<3>e"]


def test_journald_is_recognised_by_its_stream() -> None:
    read_end, write_end = os.pipe()
    found = os.fstat(write_end)
    assert is_journald({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, write_end)
    assert not is_journald({"JOURNAL_STREAM": "8:1"}, write_end)
    assert not is_journald({}, write_end)
    os.close(read_end)
    os.close(write_end)
    assert not is_journald({"JOURNAL_STREAM": "8:1"}, write_end)


def test_a_log_that_cannot_be_written_is_counted() -> None:
    def full(line: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    log = EventLog(full, lambda: NOON_US)
    log(Log("e", {}))
    log(Log("e", {}))
    assert log.lost == 2


def test_lines_of_one_turn_reach_the_descriptor_together() -> None:
    read_end, write_end = os.pipe()
    turns: list[Callable[[], None]] = []
    log = log_to(Lines(write_end, turns.append), {}, form="text", level="info", fd=write_end)
    log(Log("node.ready", {}))
    log(Log("node.steady", {}))
    (flush,) = turns
    flush()
    assert os.read(read_end, 4096).count(b"\n") == 2
    os.close(write_end)
    os.close(read_end)


def test_a_descriptor_that_is_gone_costs_only_its_lines() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    turns: list[Callable[[], None]] = []
    lines = Lines(write_end, turns.append)
    lines(b"lost\n")
    turns[0]()
    lines(b"lost as well\n")
    assert len(turns) == 2
    os.close(write_end)
