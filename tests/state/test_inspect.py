"""Looking at a journal: beside its owner, without secrets, and when it is broken."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from holdfast.records import SCHEMA, EndpointRecord
from holdfast.records.writes import Alive, Save
from holdfast.state.errors import Fault, JournalError, JournalNewer
from holdfast.state.inspect import HIDDEN, export, show, verify
from holdfast.state.journal import Journal, Saved
from state.samples import Answers, peer, session, tunnel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal.open(tmp_path / "journal.db")
    journal.submit([Save(tunnel(7, secret="s3cret")), Save(tunnel(8, secret=""))])
    journal.submit([Save(session(7, 1)), Save(session(8, 1)), Save(EndpointRecord(name="lns1"))])
    journal.close()
    return tmp_path / "journal.db"


def tamper(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


def test_secrets_are_blanked_unless_asked_for(path: Path) -> None:
    assert [t.secret for t in show(path).saved.tunnels] == [HIDDEN, ""]
    assert [t.secret for t in show(path, secrets=True).saved.tunnels] == ["s3cret", ""]
    assert b"s3cret" not in b"".join(export(path))
    assert b"s3cret" in b"".join(export(path, secrets=True))


def test_octets_of_unreadable_records_are_shown_only_when_asked_for(path: Path) -> None:
    tamper(path, "UPDATE tunnel SET body = substr(body, 1, length(body) - 4)")
    assert all(not q.body for q in show(path).saved.quarantined)
    assert b"s3cret" in show(path, secrets=True).saved.quarantined[0].body


def test_it_works_beside_the_owner_and_sees_every_commit(path: Path) -> None:
    answers = Answers()
    journal = Journal.open(path)
    journal.submit([Save(session(7, 2))], answers.about("a"))
    answers.next()
    view = show(path)
    assert len(view.saved.sessions) == 3
    assert view.owner_pid > 0 and view.log_octets > 0 and view.schema == SCHEMA
    assert verify(path) == []
    journal.submit([Save(session(7, 3))], answers.about("b"))
    assert answers.next() == ("b", None)
    journal.close()
    assert show(path).owner_pid == 0


def test_nothing_is_written(path: Path) -> None:
    tamper(path, "UPDATE session SET body = x'c1'")
    before = path.read_bytes()
    show(path)
    verify(path)
    list(export(path))
    assert path.read_bytes() == before


def test_a_sound_journal_has_no_findings(path: Path) -> None:
    assert verify(path) == []


def test_findings_name_the_record(path: Path) -> None:
    tamper(path, "UPDATE session SET body = x'c1' WHERE tunnel_id = 8")
    assert [finding.what for finding in verify(path)] == ["session 8/1"]


def test_an_address_held_twice_is_found(path: Path) -> None:
    journal = Journal.open(path)
    journal.submit([Save(tunnel(7 + 64)), Save(session(7 + 64, 1))])
    journal.close()
    assert [finding.what for finding in verify(path)] == ["session 71/1"]


def test_a_file_open_to_others_is_found(path: Path) -> None:
    path.chmod(0o640)
    assert [finding.what for finding in verify(path)] == ["journal.db"]


def test_a_damaged_file_is_a_finding(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\xff" * (len(octets) - 4096)
    path.write_bytes(octets)
    assert {finding.what for finding in verify(path)} == {"file"}
    path.write_bytes(b"no database at all" * 100)
    assert {finding.what for finding in verify(path)} == {"file"}


def test_no_file_and_a_newer_file_are_errors(path: Path) -> None:
    with pytest.raises(JournalError) as missing:
        show(path.with_name("other.db"))
    assert missing.value.fault is Fault.MISSING
    with pytest.raises(JournalError):
        verify(path.with_name("other.db"))
    tamper(path, f"PRAGMA user_version = {SCHEMA + 1}")
    for look in (show, verify):
        with pytest.raises(JournalNewer):
            look(path)


def test_an_empty_file_is_an_empty_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.db").touch()
    assert show(tmp_path / "journal.db").saved == Saved()


def test_export_is_one_record_a_line(path: Path) -> None:
    tamper(path, "UPDATE session SET body = x'c1' WHERE tunnel_id = 8")
    lines = [json.loads(line) for line in export(path)]
    assert [line["kind"] for line in lines] == [
        "journal",
        "endpoint",
        "tunnel",
        "tunnel",
        "session",
        "quarantined",
    ]
    assert lines[4]["record"]["ppp"]["peer_ip"] == "100.71.0.1"
    assert lines[5]["record"]["tunnel_id"] == 8


def test_the_ledger_is_shown_and_exported(path: Path) -> None:
    journal = Journal.open(path)
    journal.submit([Save(peer()), Alive(1_700_000_000_000_000)])
    journal.close()
    view = show(path)
    assert view.saved.peers == [peer()]
    assert view.saved.alive_utc_us == 1_700_000_000_000_000
    lines = [json.loads(line) for line in export(path)]
    assert lines[0]["alive_utc_us"] == 1_700_000_000_000_000
    assert [line["record"]["vendor"] for line in lines if line["kind"] == "peer"] == ["example"]
