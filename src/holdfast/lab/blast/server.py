"""The measured server as a process of this machine: CPU time and memory from /proc."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_UTIME, _STIME = 11, 12
"""Fields of /proc/PID/stat, counted after the command's name."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads, in seconds; steps of 10 ms. OSError if it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS


def waited_seconds(pid: int) -> float:
    """How long a process's first thread was ready and had no core, less what its other threads ran meanwhile.

    So, in seconds, at least what other processes took from it; only differences mean anything. OSError if it is gone.
    """
    ran, waited, *_ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(waited) / 1e9 - (cpu_seconds(pid) - int(ran) / 1e9)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process. OSError if it is gone."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
