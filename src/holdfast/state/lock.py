"""One owner per journal: an exclusive flock on a file beside it, which the kernel drops when its holder dies.

Invariant: the lock file is never removed and the journal itself is never opened here. Removing it would let
two processes hold locks on two files of the same name; closing a descriptor of the journal would drop
SQLite's locks.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from holdfast.state.errors import Fault, JournalError, JournalLocked


def lock_path(journal: Path) -> Path:
    """The lock file of a journal."""
    return journal.with_name(journal.name + ".lock")


class OwnerLock:
    """Ownership of a journal, from `take` to `release` or the death of the process."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, journal: Path) -> "OwnerLock":
        """Become the owner. Raises JournalLocked naming the present one, JournalError if no file can be made."""
        fd = _open(journal)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = _read_pid(fd)
            os.close(fd)
            raise JournalLocked(journal, pid) from error
        _write_pid(fd)
        return cls(fd)

    def release(self) -> None:
        """Give the journal up."""
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)


def owner(journal: Path) -> int:
    """The pid of the process that owns `journal` now, 0 if none does (or if it did not say)."""
    try:
        fd = os.open(lock_path(journal), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(fd)
    finally:
        os.close(fd)
    return 0


def _open(journal: Path) -> int:
    path = lock_path(journal)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # can be locked all the same
        except OSError:
            raise JournalError(journal, Fault.READ_ONLY, str(error)) from error


def _write_pid(fd: int) -> None:
    """A disk that cannot be written must not keep a node from starting: the pid only helps the other's message."""
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except OSError:
        return


def _read_pid(fd: int) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0
