"""The command as its user sees it: what it prints, where, and its exit status."""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from daemon.pretend import Host, PretendNode
from holdfast.cli.main import main
from holdfast.cli.output import utc
from holdfast.daemon.config import load
from holdfast.records import session_key


class Said(NamedTuple):
    status: int
    out: str
    err: str


Holdfast = Callable[..., Said]


@pytest.fixture
def holdfast(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Holdfast:
    """Runs a command line in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capfd.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0, out, err)

    return run


@pytest.fixture
def node() -> PretendNode:
    return PretendNode()


@pytest.fixture
def socket(tmp_path: Path, node: PretendNode) -> Iterator[str]:
    host = Host(node, tmp_path / "control.sock")
    yield str(tmp_path / "control.sock")
    host.stop()


def test_doctor_looks_at_the_machine_without_a_configuration(holdfast: Holdfast) -> None:
    for options, file in ((), "holdfast.toml"), (("-c", "no.toml"), "no no.toml"):
        said = holdfast("doctor", "--json", *options)
        checks = json.loads(said.out)
        assert checks[0]["name"] == "configuration" and file in checks[0]["text"]
        assert said.status == any(check["state"] == "error" for check in checks)


def test_init_writes_a_file_for_its_owner_that_check_finds_valid(holdfast: Holdfast, tmp_path: Path) -> None:
    assert holdfast("init").status == 0
    file = tmp_path / "holdfast.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    said = holdfast("check")
    assert said == (0, "holdfast.toml is valid\n", "")
    secret = load(file).peer[0].secret
    holdfast("init", "--force", "--role", "lac")
    assert load(file).node.role == "lac"
    assert load(file).peer[0].secret != secret


def test_init_replaces_nothing_unasked(holdfast: Holdfast, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("mine")
    said = holdfast("init", "mine.toml")
    assert said.status == 1
    assert "--force" in said.err
    assert (tmp_path / "mine.toml").read_text() == "mine"


def test_check_warns_in_words_and_in_json(holdfast: Holdfast, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text('[node]\nname = "x"\nrole = "lns"\n')
    (tmp_path / "f.toml").chmod(0o600)
    said = holdfast("check", "-c", "f.toml")
    assert said.status == 0
    assert "warning: ppp.auth: " in said.out
    warnings = json.loads(holdfast("check", "-c", "f.toml", "--json").out)["warnings"]
    assert "ppp.auth" in [warning["key"] for warning in warnings]


@pytest.mark.parametrize("command", [("check",), ("run",), ("show", "tunnels"), ("state", "show")])
def test_a_wrong_configuration_is_one_line_and_status_2(
    holdfast: Holdfast, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "f.toml").write_text('[node]\nname = "x"\nrole = "lsn"\n')
    said = holdfast(*command, "-c", "f.toml")
    assert said == (
        2,
        "",
        'holdfast: f.toml: node.role is "lsn", but it must be one of "both", "lac", "lns"\n',
    )


def test_without_a_node_commands_say_how_to_start_one(holdfast: Holdfast) -> None:
    said = holdfast("show", "sessions", "--socket", "control.sock")
    assert said.status == 3
    assert "holdfast run" in said.err
    assert said.err.count("\n") == 1


def test_lists_are_tables(holdfast: Holdfast, socket: str) -> None:
    heading, row = holdfast("show", "tunnels", "--socket", socket).out.splitlines()
    assert heading.split()[:3] == ["TUNNEL", "PEER", "TUNNEL"]
    assert row.split()[:4] == ["17", "9", "lac1", "192.0.2.1:1701"]
    assert len(holdfast("show", "sessions", "--socket", socket).out.splitlines()) == 1235
    assert "ann@example.net" in holdfast("show", "subscribers", "--socket", socket).out
    recoveries = holdfast("show", "recoveries", "--socket", socket).out
    assert "remote-endpoint" in recoveries
    assert "SEND SIDE ms" in recoveries and "RECEIVE SIDE ms" in recoveries


def test_the_ledger_is_a_table_that_no_peer_can_disturb(holdfast: Holdfast, socket: str) -> None:
    said = holdfast("show", "peers", "--socket", socket)
    heading, row, _ = said.out.splitlines()
    assert "KEPT s" in heading
    assert "\x1b" not in said.out and "ven\\x1b[31mdor" in row
    cells = row.split()
    assert cells[:2] == ["lac1", "lac1.example.net"]
    assert "2 of 3" in row and "4 (worst 12)" in row and "42" in cells
    rows = json.loads(holdfast("show", "peers", "--json", "--socket", socket).out)
    assert [row["offered"]["recovery_time_ms"] for row in rows] == [45_000, 45_000]


@pytest.mark.parametrize(
    ("utc_us", "text"),
    [
        (0, "-"),
        (1_700_000_000_000_000, "2023-11-14 22:13:20Z"),
        (-1, "-1 us"),
        (1 << 62, "4611686018427387904 us"),
    ],
)
def test_a_time_that_no_calendar_has_is_shown_as_a_number(utc_us: int, text: str) -> None:
    assert utc(utc_us) == text


def test_why_tells_its_story_in_words_or_as_facts(holdfast: Holdfast, socket: str) -> None:
    said = holdfast("why", "tunnel", "17", "--socket", socket)
    assert said.out.splitlines() == ["Tunnel 17 to lac1: established.", "No recovery of it is remembered."]
    assert (
        json.loads(holdfast("why", "tunnel", "17", "--json", "--socket", socket).out)["peer_name"] == "lac1"
    )
    unknown = holdfast("why", "tunnel", "5", "--socket", socket)
    assert unknown.status == 1
    assert "holdfast show tunnels" in unknown.err and unknown.err.count("\n") == 1
    assert holdfast("why", "tunnel", "x", "--socket", socket).status == 2


def test_lists_are_json_on_request(holdfast: Holdfast, socket: str, node: PretendNode) -> None:
    rows = json.loads(holdfast("show", "sessions", "--json", "--socket", socket).out)
    assert [row["key"] for row in rows] == node.keys
    assert json.loads(holdfast("show", "counters", "--json", "--socket", socket).out) == {"rx_control": 7}
    node.keys.clear()
    assert json.loads(holdfast("show", "sessions", "--json", "--socket", socket).out) == []


@pytest.mark.parametrize("session", ["17/3", str(session_key(17, 3))])
def test_a_session_is_named_by_its_ids_or_its_key(holdfast: Holdfast, socket: str, session: str) -> None:
    said = holdfast("show", "session", session, "--socket", socket)
    shown = dict(line.split(None, 1) for line in said.out.splitlines())
    assert shown["session.id"] == "3"
    assert shown["tunnel.peer_name"] == "lac1"


@pytest.mark.parametrize("session", ["17-3", "17/", "a/b", "/3"])
def test_what_is_no_session_id_is_wrong_usage(holdfast: Holdfast, session: str) -> None:
    said = holdfast("clear", "session", session, "--socket", "s")
    assert said.status == 2
    assert "TUNNEL/SESSION" in said.err


def test_commands_reach_the_node(holdfast: Holdfast, socket: str, node: PretendNode) -> None:
    for command in (
        ("clear", "session", "17/3"),
        ("clear", "tunnel", "17"),
        ("subscriber", "up", "ann@example.net"),
        ("subscriber", "down", "ann@example.net"),
    ):
        assert holdfast(*command, "--socket", socket) == (0, "", "")
    assert node.commands == [
        ("clear_session", session_key(17, 3)),
        ("clear_tunnel", 17),
        ("subscriber_up", "ann@example.net"),
        ("subscriber_down", "ann@example.net"),
    ]


@pytest.mark.parametrize(
    "command", [("clear", "session", "17/9999"), ("clear", "tunnel", "5"), ("subscriber", "up", "nobody")]
)
def test_what_does_not_exist_is_status_1(holdfast: Holdfast, socket: str, command: tuple[str, ...]) -> None:
    said = holdfast(*command, "--socket", socket)
    assert said.status == 1
    assert said.err.startswith("holdfast: there is no such ")


def test_without_a_command_it_shows_its_help(holdfast: Holdfast) -> None:
    said = holdfast()
    for command in (
        "init",
        "check",
        "run",
        "show",
        "why",
        "clear",
        "subscriber",
        "stop",
        "state",
        "blast",
        "drill",
    ):
        assert command in said.out + said.err


def test_an_unknown_drill_names_the_one_there_is(holdfast: Holdfast) -> None:
    said = holdfast("drill", "reboot")
    assert said.status == 2
    assert "drill restart" in said.err
