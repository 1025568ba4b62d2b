"""The journal as its owner sees it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.core.errors import LocalError
from holdfast.records import EndpointRecord, session_key
from holdfast.records.writes import ForgetSession, ForgetTunnel, Hint, Save
from holdfast.state.errors import Fault
from holdfast.state.journal import Done, Journal, JournalError, JournalLocked, Pace, Saved
from state.samples import BRISK, PATIENCE_S, Answers, session, tunnel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def reopened(path: Path) -> Saved:
    journal = Journal.open(path)
    saved = journal.load()
    journal.close()
    return saved


def test_what_was_committed_is_there_after_reopening(path: Path) -> None:
    answers = Answers()
    journal = Journal.open(path)
    assert journal.load() == Saved()
    endpoint = EndpointRecord(name="lns1", boot_epoch=3, recent_tunnel_ids=(5, 6))
    journal.submit(
        [Save(endpoint), Save(tunnel(7)), Save(session(7, 1)), Save(session(7, 2))], answers.about("a")
    )
    journal.submit([ForgetSession(session_key(7, 1))], answers.about("b"))
    assert [answers.next(), answers.next()] == [("a", None), ("b", None)]
    journal.close()
    assert reopened(path) == Saved(tunnels=[tunnel(7)], sessions=[session(7, 2)], endpoint=endpoint)


def test_a_forgotten_tunnel_takes_its_sessions_along(path: Path) -> None:
    journal = Journal.open(path)
    journal.submit([Save(tunnel(7)), Save(tunnel(8)), Save(session(7, 1)), Save(session(8, 1))])
    journal.close()
    journal = Journal.open(path)
    journal.submit([ForgetTunnel(7)])
    journal.close()
    assert reopened(path) == Saved(tunnels=[tunnel(8)], sessions=[session(8, 1)])


def test_records_are_loaded_once(path: Path) -> None:
    journal = Journal.open(path)
    journal.load()
    with pytest.raises(LocalError):
        journal.load()
    journal.close()


def test_everything_that_waits_shares_one_commit_and_one_delivery(path: Path) -> None:
    deliveries: list[int] = []
    answers = Answers()

    def deliver(waiting: list[Done], error: JournalError | None) -> None:
        deliveries.append(len(waiting))
        for done in waiting:
            done(error)

    journal = Journal.open(path, deliver=deliver, pace=Pace(gather_s=0.2))
    journal.submit([Save(tunnel(7))], answers.about("first"))
    assert answers.next() == ("first", None)
    for i in range(1, 101):
        journal.submit([Save(session(7, i))], answers.about(str(i)))
    assert [answers.next() for _ in range(100)] == [(str(i), None) for i in range(1, 101)]
    journal.close()
    assert deliveries == [1, 100]
    assert journal.latency.count == 2


def test_an_owner_that_no_longer_listens_stops_nothing(path: Path) -> None:
    def closed(waiting: list[Done], error: JournalError | None) -> None:
        raise RuntimeError("Event loop is closed")

    journal = Journal.open(path, deliver=closed, pace=BRISK)
    for i in range(1, 50):
        journal.submit([Save(tunnel(i))], Answers().about(""))
    journal.close()
    assert len(reopened(path).tunnels) == 49


def test_hints_alone_wait_for_company(path: Path) -> None:
    """With an hour of patience only another commit, or closing, can write them."""
    answers = Answers()
    journal = Journal.open(path, pace=Pace(lazy_s=3600))
    journal.submit([Save(tunnel(7))], answers.about("tunnel"))
    assert answers.next() == ("tunnel", None)
    journal.submit([Hint(7, 10, 20)], answers.about("hint"))
    journal.submit([Save(EndpointRecord(name="lns1"))], answers.about("endpoint"))
    journal.submit([Hint(7, 11, 21)])
    journal.submit([Save(session(7, 1))], answers.about("session"))
    assert [answers.next() for _ in range(3)] == [("hint", None), ("endpoint", None), ("session", None)]
    assert journal.latency.count == 2
    journal.submit([Hint(7, 12, 22)])
    journal.close()
    assert reopened(path).tunnels == [tunnel(7, acked=12, nr=22)]


def test_hints_do_not_wait_for_ever(path: Path) -> None:
    answers = Answers()
    journal = Journal.open(path, pace=BRISK)
    journal.submit([Hint(7, 10, 20)], answers.about("hint"))
    assert answers.next() == ("hint", None)
    journal.close()


def test_a_record_that_cannot_be_encoded_fails_alone(path: Path) -> None:
    answers = Answers()
    journal = Journal.open(path, pace=Pace(gather_s=0.2))
    journal.submit([Save(tunnel(7))], answers.about("tunnel"))
    assert answers.next() == ("tunnel", None)
    journal.submit([Save(session(7, 1))], answers.about("good"))
    journal.submit([Save(session(7, 2, serial=1 << 70))], answers.about("bad"))
    journal.submit([Save(session(7, 3))], answers.about("also good"))
    heard = dict(answers.next() for _ in range(3))
    assert heard["good"] is None and heard["also good"] is None
    assert isinstance(heard["bad"], JournalError)
    assert journal.failure is None
    journal.close()
    assert reopened(path).sessions == [session(7, 1), session(7, 3)]


def test_only_the_owner_can_read_the_files(path: Path) -> None:
    old_mask = os.umask(0)
    try:
        journal = Journal.open(path)
        journal.submit([Save(tunnel(7))])
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(old_mask)
    journal.close()
    assert files == dict.fromkeys(("journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock"), 384)


def test_a_file_open_to_others_is_closed_to_them(path: Path) -> None:
    Journal.open(path).close()
    path.chmod(0o644)
    Journal.open(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_owner_is_refused_and_told_the_pid(path: Path) -> None:
    script = (
        "import sys, pathlib; from holdfast.state.journal import Journal; "
        "j = Journal.open(pathlib.Path(sys.argv[1])); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(JournalLocked) as refused:
            Journal.open(path)
        holder.kill()
        holder.wait(PATIENCE_S)
    assert refused.value.pid == holder.pid
    assert str(holder.pid) in str(refused.value)
    Journal.open(path).close()


def test_ownership_ends_with_close(path: Path) -> None:
    first = Journal.open(path)
    with pytest.raises(JournalLocked):
        Journal.open(path)
    first.close()
    first.close()
    Journal.open(path).close()


def test_no_directory_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError) as missing:
        Journal.open(tmp_path / "nowhere" / "journal.db")
    assert missing.value.fault is Fault.READ_ONLY


def test_normal_synchronous_commits_too(path: Path) -> None:
    answers = Answers()
    journal = Journal.open(path, synchronous="normal")
    journal.submit([Save(tunnel(7))], answers.about("a"))
    assert answers.next() == ("a", None)
    journal.close()
    assert reopened(path).tunnels == [tunnel(7)]


def test_a_session_written_again_keeps_one_record(path: Path) -> None:
    journal = Journal.open(path)
    journal.submit([Save(tunnel(7)), Save(session(7, 1, serial=1))])
    journal.close()
    journal = Journal.open(path)
    journal.submit([Save(session(7, 2)), Save(session(7, 1, serial=2))])
    journal.close()
    assert reopened(path).sessions == [session(7, 1, serial=2), session(7, 2)]


def test_many_commits_keep_the_log_short(path: Path) -> None:
    answers = Answers()
    journal = Journal.open(path, synchronous="normal", pace=BRISK)
    journal.submit([Save(tunnel(7))], answers.about(""))
    for start in range(1, 60_000, 500):
        journal.submit([Save(session(7, 1 + i % 2000)) for i in range(start, start + 500)], answers.about(""))
    for _ in range(121):
        answers.next()
    assert path.with_name("journal.db-wal").stat().st_size < 32 * 1024 * 1024
    journal.close()
