"""What can go wrong with the journal, by kind. Told apart by type and SQLite's result code, never by text."""

import sqlite3
from enum import Enum
from pathlib import Path

from holdfast.core.errors import LocalError


class Fault(Enum):
    """Why the journal cannot be read or written; the value is what an operator reads."""

    FULL = "the disk is full"
    IO = "the disk reports an error"
    READ_ONLY = "the file or its directory cannot be written"
    DAMAGED = "the file is damaged or is not a journal"
    MISSING = "there is no such file"
    MOVED = "the file was moved or replaced while in use"
    BUSY = "another process holds the file"
    OTHER = "SQLite reports an error"


class JournalError(LocalError):
    """The journal at `path` cannot do what was asked, because of `fault`; `detail` says more."""

    def __init__(self, path: Path, fault: Fault, detail: str = "") -> None:
        super().__init__(path, fault, detail)
        self.path, self.fault, self.detail = path, fault, detail

    def __str__(self) -> str:
        return f"{self.path}: {self.fault.value}" + (f" ({self.detail})" if self.detail else "")


class JournalDamaged(JournalError):
    """The file as a whole cannot be read. Nothing was changed; the way out is the operator's to choose."""

    def __init__(self, path: Path, detail: str = "") -> None:
        super().__init__(path, Fault.DAMAGED, detail)

    def __str__(self) -> str:
        return (
            f"{super().__str__()}; restore {self.path.name} from a copy, or move it away "
            f"(with {self.path.name}-wal and {self.path.name}-shm) to start with no sessions"
        )


class JournalLocked(JournalError):
    """Another process owns the journal: `pid`, or 0 if it did not say."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(path, Fault.BUSY, f"pid {pid}" if pid else "")
        self.pid = pid

    def __str__(self) -> str:
        owner = f"process {self.pid}" if self.pid else "another process"
        return f"{self.path} is in use by {owner}; stop it, or give this node a state_dir of its own"


class JournalNewer(JournalError):
    """The journal was written by a later version: its schema is `found`, the latest known here is `known`."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(path, Fault.OTHER, f"schema {found}")
        self.found, self.known = found, known

    def __str__(self) -> str:
        return (
            f"{self.path} has schema {self.found}, and this version knows schemas up to {self.known}; "
            f"run the version that wrote it, or move {self.path.name} away to start with no sessions"
        )


_FAULTS = {
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_IOERR: Fault.IO,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_PERM: Fault.READ_ONLY,
    sqlite3.SQLITE_AUTH: Fault.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Fault.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.DAMAGED,
    sqlite3.SQLITE_BUSY: Fault.BUSY,
    sqlite3.SQLITE_LOCKED: Fault.BUSY,
}
_PRIMARY = 0xFF


def journal_error(path: Path, error: sqlite3.Error) -> JournalError:
    """`error` of SQLite about the journal at `path`, as one of ours."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
    fault = _FAULTS.get(code, Fault.OTHER)
    if fault is Fault.DAMAGED:
        return JournalDamaged(path, str(error))
    return JournalError(path, fault, str(error))
