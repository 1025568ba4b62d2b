"""Processes of the lab: started inside a namespace, in a session of their own, ended by their own process id only."""

import faulthandler
import gc
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from holdfast.lab.netns import entered


class Process(Protocol):
    """What a started process can be asked, whether it was spawned or forked. The status of a killed one is -9."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def poll(self) -> int | None:
        """Its status if it has ended, else None."""

    def wait(self) -> int:
        """Its status, once it has ended."""

    def kill(self) -> None:
        """SIGKILL."""


def spawn(
    argv: Sequence[str],
    namespace: str,
    stderr: Path,
    *,
    piped: bool = False,
    environment: Mapping[str, str] = {},
) -> "subprocess.Popen[bytes]":
    """Start a process in a namespace. Its stderr is appended to a file; `piped` gives it standard input and output.

    `environment` is what it has besides ours.

    Nothing runs between fork and exec: the parent enters the namespace, starts the child, and comes back.
    """
    pipe = subprocess.PIPE if piped else subprocess.DEVNULL
    with open(stderr, "ab") as errors, entered(namespace):
        return subprocess.Popen(
            argv,
            stdin=pipe,
            stdout=pipe if piped else errors,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )


def stop(process: Process) -> None:
    """Kill a process if it still runs, and collect it."""
    if process.poll() is None:
        process.kill()
    process.wait()
    if isinstance(process, subprocess.Popen):
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


class Forked:
    """A child process that `fork` has made."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its status if it has ended, else None."""
        return self._collect(os.WNOHANG)

    def wait(self) -> int:
        """Its status, once it has ended."""
        while (status := self._collect(0)) is None:
            pass
        return status

    def kill(self) -> None:
        """SIGKILL, unless it was collected: then its id may be another's by now."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def _collect(self, options: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status


def fork(main: Callable[[], int], namespace: str, stderr: Path) -> Forked:
    """Run `main` in a child of this process, in a namespace. What this one has imported need not be imported again.

    Its output is appended to a file, `main` returns its status. No other thread of this process may hold a lock that
    `main` needs.
    """
    with open(stderr, "ab") as errors, entered(namespace), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: see above
        pid = os.fork()
        if pid == 0:
            _live(main, errors.fileno())
        return Forked(pid)


def _live(main: Callable[[], int], output: int) -> NoReturn:
    """The child's life. Nothing of the parent's is closed, collected or flushed on the way out."""
    status = 1
    try:
        os.setsid()
        gc.freeze()
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warnings.resetwarnings()
        status = main()
    except BaseException:  # noqa: BLE001 - the end of the process, whatever it is
        traceback.print_exc()
    finally:
        os._exit(status)
