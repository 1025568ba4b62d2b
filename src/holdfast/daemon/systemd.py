"""What the node tells systemd and gets from it: readiness, watchdog, status, and the socket that outlives us.

Invariants: without systemd every call is a no-op; nothing here raises because systemd is slow, full or gone. The
protocol is sd_notify(3), sd_listen_fds(3) and sd_pid_notify_with_fds(3), plain datagrams and environment variables.
"""

import os
import socket
from array import array
from collections.abc import MutableMapping
from typing import Final

from holdfast.core.clock import Duration

UDP_SOCKET: Final = "udp"
"""Name of the node's UDP socket in the store."""

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START."""

Environment = MutableMapping[str, str]


class Notifier:
    """The way to the service manager. `connected` tells whether there is one."""

    __slots__ = ("_address", "_socket")

    def __init__(self, address: str) -> None:
        """`address` as in NOTIFY_SOCKET: a path, `@name` for an abstract socket, "" for no service manager."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    @property
    def connected(self) -> bool:
        """Whether anybody may be listening."""
        return self._socket is not None

    def ready(self, status: str = "") -> bool:
        """The node is up. Like all of these: False if the message could not be handed over."""
        return self._send("READY=1", _status(status))

    def stopping(self, status: str = "") -> bool:
        """The node is on its way down, and wants to be."""
        return self._send("STOPPING=1", _status(status))

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(_status(text))

    def watchdog(self) -> bool:
        """A sign of life."""
        return self._send("WATCHDOG=1")

    def extend_timeout(self, by: Duration) -> bool:
        """Start or stop will take up to `by` longer, from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={by}")

    def store(self, fd: int, name: str = UDP_SOCKET) -> bool:
        """Keep `fd` for our successor. Not polled: an error pending on the socket must not throw it out."""
        return self._send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", fds=[fd])

    def unstore(self, name: str = UDP_SOCKET) -> bool:
        """Forget what was stored under `name`."""
        return self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str, fds: list[int] | None = None) -> bool:
        if self._socket is None:
            return False
        message = "\n".join(filter(None, assignments)).encode()
        try:
            self._socket.sendmsg([message], _rights(fds), 0, self._address)
        except OSError:
            return False
        return True


def notifier(environment: Environment) -> Notifier:
    """The notifier that the environment asks for. Takes the variable away: our children are not the service."""
    return Notifier(environment.pop("NOTIFY_SOCKET", ""))


def watchdog_interval(environment: Environment, pid: int) -> Duration | None:
    """How often to give a sign of life, half of what systemd allows; None if it does not ask for any."""
    limit = environment.pop("WATCHDOG_USEC", "")
    whose = environment.pop("WATCHDOG_PID", str(pid))
    if whose != str(pid) or not limit.isdigit() or int(limit) == 0:
        return None
    return int(limit) // 2


def passed_fds(environment: Environment, pid: int, first: int = FIRST_FD) -> dict[str, list[int]]:
    """File descriptors handed to this process, by name, from socket activation or from the store.

    They are ours from now on, to adopt or to close, and are not inherited further. Names may repeat; what has none
    is called "unknown". They are numbered from `first`.
    """
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    whose = environment.pop("LISTEN_PID", "")
    if whose != str(pid) or not count.isdigit():
        return {}
    found: dict[str, list[int]] = {}
    for position in range(int(count)):
        fd = first + position
        try:
            os.set_inheritable(fd, False)
        except OSError:  # announced but not there
            continue
        name = names[position] if position < len(names) and names[position] else "unknown"
        found.setdefault(name, []).append(fd)
    return found


def _rights(fds: list[int] | None) -> list[tuple[int, int, bytes]]:
    """As ancillary data (socket.send_fds of Python 3.11 drops the address)."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds).tobytes())] if fds else []


def _status(text: str) -> str:
    """A newline would begin another assignment."""
    return f"STATUS={' '.join(text.split())}" if text else ""
