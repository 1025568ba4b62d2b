"""A disk that fills up, for real: what waits is refused, what is committed stays, and writing resumes."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.records import session_key
from holdfast.records.writes import ForgetSession, Hint, Save
from holdfast.state.errors import Fault
from holdfast.state.journal import Journal, JournalError, JournalLocked
from state.samples import BRISK, Answers, session, tunnel

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here: that needs root, or a user namespace")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def save_until_refused(journal: Journal, answers: Answers) -> tuple[set[int], JournalError]:
    """Sessions one by one until one is refused: those that were accepted, and the refusal."""
    accepted: set[int] = set()
    for n in range(1, 20_000):
        journal.submit([Save(session(7, n))], answers.about("save"))
        name, error = answers.next()
        if error is not None:
            assert name == "health"
            refusal = answers.next()
            assert refusal == ("save", error)
            return accepted, error
        accepted.add(n)
    raise AssertionError("the disk never filled up")


def test_a_full_disk_refuses_new_records_and_recovers_when_there_is_room(small_disk: Path) -> None:
    answers = Answers()
    journal = Journal.open(small_disk / "journal.db", on_health=answers.health, pace=BRISK)
    journal.submit([Save(tunnel(7))], answers.about("tunnel"))
    assert answers.next() == ("tunnel", None)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(MIB))

    accepted, error = save_until_refused(journal, answers)
    assert error.fault is Fault.FULL
    assert journal.failure is not None
    journal.submit([Save(session(7, 30_000))], answers.about("refused at once"))
    journal.submit([ForgetSession(session_key(7, 1)), Hint(7, 5, 6)], answers.about("owed"))
    for name in ("refused at once", "owed"):
        heard, refusal = answers.next()
        assert heard == name and refusal is not None

    ballast.unlink()
    assert answers.next() == ("health", None)
    assert journal.failure is None
    journal.submit([Save(session(7, 30_001))], answers.about("again"))
    assert answers.next() == ("again", None)
    journal.close()

    journal = Journal.open(small_disk / "journal.db")
    saved = journal.load()
    journal.close()
    assert {record.local_id for record in saved.sessions} == accepted - {1} | {30_001}
    assert saved.tunnels == [tunnel(7, acked=5, nr=6)]


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    return ballast


def remounted(disk: Path, mode: str) -> None:
    """The mount only ("bind"): in a user namespace a file system is not remounted with its own options."""
    subprocess.run(["mount", "-o", f"remount,bind,{mode}", str(disk)], check=True)


def leave_a_journal(path: Path, *, killed: bool) -> None:
    """A journal with one session, closed, or as a killed process leaves it: with a log."""
    script = (
        "import os, sys; from pathlib import Path; from state.samples import *\n"
        "from holdfast.records.writes import Save; from holdfast.state.journal import Journal\n"
        "answers = Answers(); journal = Journal.open(Path(sys.argv[1]))\n"
        "journal.submit([Save(tunnel(7)), Save(session(7, 1))], answers.about('')); answers.next()\n"
        "os._exit(0) if sys.argv[2] == 'killed' else journal.close()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    manner = "killed" if killed else "closed"
    subprocess.run([sys.executable, "-c", script, str(path), manner], check=True, env=environment)


@pytest.mark.parametrize("killed", [False, True])
def test_a_journal_opens_on_a_full_disk(small_disk: Path, killed: bool) -> None:
    """What is there can be recovered even if nothing can be written."""
    path = small_disk / "journal.db"
    leave_a_journal(path, killed=killed)
    ballast = fill(small_disk)
    answers = Answers()
    journal = Journal.open(path, on_health=answers.health, pace=BRISK)
    assert journal.load().sessions == [session(7, 1)]
    journal.submit([Save(session(7, 3))], answers.about("refused"))
    heard = [answers.next(), answers.next()]
    assert [name for name, error in heard if error is not None] == ["health", "refused"]
    ballast.unlink()
    assert answers.next() == ("health", None)
    journal.submit([Save(session(7, 2))], answers.about("again"))
    assert answers.next() == ("again", None)
    journal.close()
    journal = Journal.open(path)
    assert journal.load().sessions == [session(7, 1), session(7, 2)]
    journal.close()


@pytest.mark.parametrize("killed", [False, True])
def test_a_journal_opens_on_a_read_only_disk(small_disk: Path, killed: bool) -> None:
    """As a kernel leaves it that saw an I/O error."""
    path = small_disk / "journal.db"
    leave_a_journal(path, killed=killed)
    remounted(small_disk, "ro")
    answers = Answers()
    journal = Journal.open(path, on_health=answers.health, pace=BRISK)
    assert journal.load().sessions == [session(7, 1)]
    with pytest.raises(JournalLocked):
        Journal.open(path)
    assert journal.failure is not None and journal.failure.fault is Fault.READ_ONLY
    journal.submit([ForgetSession(session_key(7, 1))])
    name, error = answers.next()
    assert name == "health" and error is not None
    remounted(small_disk, "rw")
    assert answers.next() == ("health", None)
    journal.close()
    journal = Journal.open(path)
    assert journal.load().sessions == []
    journal.close()


def test_a_full_disk_with_no_journal_on_it_is_an_error(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(JournalError):
        Journal.open(small_disk / "journal.db")


def test_a_file_that_may_not_grow_is_an_error_that_passes(tmp_path: Path) -> None:
    answers = Answers()
    path = tmp_path / "journal.db"
    journal = Journal.open(path, on_health=answers.health, pace=BRISK)
    journal.submit([Save(tunnel(7))], answers.about("tunnel"))
    assert answers.next() == ("tunnel", None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        accepted, error = save_until_refused(journal, answers)
        assert error.fault in (Fault.FULL, Fault.IO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert answers.next() == ("health", None)
    journal.close()
    journal = Journal.open(path)
    assert {record.local_id for record in journal.load().sessions} == accepted
    journal.close()


def test_closing_while_unwritable_ends(small_disk: Path) -> None:
    answers = Answers()
    journal = Journal.open(small_disk / "journal.db", on_health=answers.health, pace=BRISK)
    (small_disk / "ballast").write_bytes(bytes(MIB))
    journal.submit([Save(tunnel(7))], answers.about("tunnel"))
    assert answers.next() == ("tunnel", None)
    save_until_refused(journal, answers)
    journal.close()
    Journal.open(small_disk / "journal.db").close()
