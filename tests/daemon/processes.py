"""A node as a real process on the loopback interface, watched through its log."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

LOOPBACK = "127.0.0.1"


def config_text(directory: Path, port: int, more: str = "", *, name: str = "lns1", role: str = "lns") -> str:
    """A configuration with everything in `directory`, and a data plane that needs no privilege."""
    return f"""
[node]
name = "{name}"
role = "{role}"
[paths]
run_dir = "{directory}/run"
state_dir = "{directory}/state"
[listen]
address = "{LOOPBACK}"
port = {port}
[log]
format = "json"
[dataplane]
kind = "null"
{more}
"""


class NodeProcess:
    """`holdfast run -c FILE`, or another command line that runs a node."""

    def __init__(
        self,
        config: Path,
        *command: str,
        environment: Mapping[str, str] | None = None,
        close_fds: bool = True,
    ) -> None:
        self.socket = str(config.parent / "run" / "control.sock")
        self.events: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [sys.executable, *(command or ("-m", "holdfast", "run", "-c", str(config)))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_environment(), **(environment or {})},
            close_fds=close_fds,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_for(self, event: str) -> Mapping[str, Any]:
        """Read the log up to the next event of that name."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = msgspec.json.decode(line)
            self.events.append(found)
            if found["event"] == event:
                return self.events[-1]
        raise AssertionError(f"the node ended without {event}: {self.events}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end: exit status, and what it still printed on both streams."""
        out, rest = self._process.communicate(timeout=30)
        return self._process.returncode, out.decode(), rest.decode()

    def close(self) -> None:
        """Kill the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def _environment() -> dict[str, str]:
    hidden = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC")
    return {key: value for key, value in os.environ.items() if key not in hidden}
