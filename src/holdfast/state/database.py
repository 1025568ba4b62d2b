"""Opening the journal's file: to own it (created if need be, 0600) or to look at it."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

from holdfast.state.errors import Fault, JournalError

Synchronous: TypeAlias = Literal["full", "normal"]
"""`full` survives a power cut; `normal` survives the death of the process only."""

PRIVATE: Final = 0o600
_BUSY_S: Final = 0.2
_CACHED_STATEMENTS: Final = 32


def create_private(path: Path) -> None:
    """Make sure that `path` exists, and that others can read neither it nor its -wal and -shm.

    SQLite gives the two companions the mode of the file itself when it creates them. Raises JournalError.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE))
        for file in with_companions(path):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(PRIVATE)
    except OSError as error:
        raise JournalError(path, Fault.READ_ONLY, str(error)) from error


def with_companions(path: Path) -> tuple[Path, Path, Path]:
    """The file, its write-ahead log and the log's index."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """A connection for the owner, not bound to a thread. Never creates the file. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
    )
    connection.text_factory = _any_text
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous.upper()}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connections_without_writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Connections for reading where nothing can be written, not even SQLite's index of the log.

    Which one works depends on why; each is to be tried and closed. All see what the log holds: `immutable` does not,
    and is used only where there is no log. Raises sqlite3.Error in between.
    """
    _, log, _ = with_companions(path)
    if not log.exists() or not log.stat().st_size:
        yield _reader(path, "mode=ro&immutable=1")
        return
    connection = _reader(path, "mode=rw")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # keeps the index of the log in memory: a full disk
    yield connection
    yield _reader(path, "mode=ro")  # takes the index that is there: a read-only disk


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that only reads, also beside the owner. Raises sqlite3.Error."""
    return _reader(path, "mode=ro")


def _reader(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
    connection.text_factory = _any_text
    return connection


def identity(path: Path) -> tuple[int, int] | None:
    """Which file `path` names now, None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _any_text(octets: bytes) -> str:
    """Text as it is in a file that may be damaged."""
    return octets.decode(errors="replace")
