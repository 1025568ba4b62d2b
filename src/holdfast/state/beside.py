"""Files of constant size beside the journal, for what must survive SIGKILL at once and may be lost with the power."""

import os
from pathlib import Path
from typing import ClassVar, Final, Self

PRIVATE: Final = 0o600


class Beside:
    """One such file of `size` octets, open; its one owner also owns the journal. Nothing here raises: `failures` counts
    what could not be written, or read.
    """

    size: ClassVar[int]

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.failures = 0

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open or make the file; None where that is not possible: a full or read-only disk."""
        fd = _open(path, cls.size)
        return None if fd is None else cls(fd)

    def write(self, octets: bytes, at: int) -> None:
        """Put `octets` where they belong: the kernel has them then. What cannot be written stays as it was."""
        try:
            os.pwrite(self._fd, octets, at)
        except OSError:
            self.failures += 1

    def read(self) -> bytes:
        """All of it; nothing where it cannot be read."""
        try:
            return os.pread(self._fd, self.size, 0)
        except OSError:
            self.failures += 1
            return b""

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _open(path: Path, size: int) -> int | None:
    """With room for all of it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    except OSError:
        return None
    try:
        os.fchmod(fd, PRIVATE)
        if os.fstat(fd).st_size < size:
            os.posix_fallocate(fd, 0, size)
    except OSError:
        os.close(fd)
        return None
    return fd
