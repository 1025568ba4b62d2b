"""Starts the helper on the core side and talks to it over its pipes."""

import subprocess
import sys

import msgspec

from holdfast.core.errors import LocalError
from holdfast.lab.blast.core_task import Report, Task


class CoreSideFailed(LocalError):
    """The helper could not start or did not report."""


class CoreSide:
    """A running helper. `command` goes before the one that starts it (`ip netns exec core`, `ssh …`)."""

    def __init__(self, task: Task, command: tuple[str, ...] = ()) -> None:
        """Start it and wait until it is ready. Raises CoreSideFailed."""
        self._process = subprocess.Popen(
            [*command, sys.executable, "-m", "holdfast.lab.blast.core_side"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._write(msgspec.json.encode(task))
        if self._read() != b"ready":
            self._process.kill()
            raise CoreSideFailed("the helper on the core side did not start")

    def go(self) -> None:
        """Begin now."""
        self._write(b"go")

    def report(self) -> Report:
        """Wait for its end. Raises CoreSideFailed."""
        line = self._read()
        self._process.wait()
        if not line:
            raise CoreSideFailed("the helper on the core side ended without a report")
        return msgspec.json.decode(line, type=Report)

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()
