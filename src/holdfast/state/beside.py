"""Files of constant size beside the journal, for what must survive SIGKILL at once and may be lost with the power."""

import os
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600


def open_beside(path: Path, size: int) -> int | None:
    """Open or make such a file, with room for all of it; None where that is not possible: a full or read-only disk."""
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
