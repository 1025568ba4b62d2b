"""What one subscriber does right through a kill: a ping every fifth of a second, and one TCP transfer.

The transfer is a download from the core, paced so that it lasts until it is told to end. Every octet is checked, and
the longest time in which none came is its longest stall.
"""

import re
import signal
import socket
import time
from pathlib import Path
from threading import Event, Thread

from holdfast.lab.netns import entered
from holdfast.lab.process import spawn, stop
from holdfast.lab.report import Ping, Transfer
from holdfast.lab.topology import CORE_ADDRESS, Topology

_PATTERN = bytes(range(251)) * 600
_CHUNK = 4 * 1024
_PAUSE_S = 0.02
_PATIENCE_S = 60.0
"""For the end of the transfer: TCP may sit out a retransmission interval that has doubled a few times."""

_SUMMARY = re.compile(rb"(\d+) packets transmitted, (\d+) received")


class Through:
    """From construction until `finish`; `source` is the subscriber's address."""

    def __init__(self, net: Topology, source: str, directory: Path) -> None:
        self._said = directory / "ping"
        argv = ["ping", "-n", "-q", "-i", "0.2", "-I", source, CORE_ADDRESS]
        self._ping = spawn(argv, net.lac, self._said)
        with entered(net.core):
            self._listener = socket.create_server((CORE_ADDRESS, 0))
        with entered(net.lac):
            self._caller = socket.socket()
        self._caller.bind((source, 0))
        for sock in (self._listener, self._caller):
            sock.settimeout(_PATIENCE_S)
        self._over = Event()
        self._sent = 0
        self._received = 0
        self._intact = True
        self._stall_s = 0.0
        self._error = ""
        self._threads = [Thread(target=target, daemon=True) for target in (self._serve, self._fetch)]
        for thread in self._threads:
            thread.start()

    @property
    def flowing(self) -> bool:
        """Whether the transfer has begun. What has failed will not, and says why at the end."""
        return self._received > 0 or self._error != ""

    def finish(self) -> tuple[Ping, Transfer]:
        """End both and say how they went."""
        self._over.set()
        self._ping.send_signal(signal.SIGINT)
        self._ping.wait(timeout=10)
        for thread in self._threads:
            thread.join(2 * _PATIENCE_S)
        summary = _SUMMARY.search(self._said.read_bytes())
        sent, received = (int(n) for n in summary.groups()) if summary else (0, 0)
        return Ping(sent=sent, received=received), Transfer(
            octets=self._received,
            complete=self._intact and not self._error and self._received == self._sent > 0,
            longest_stall_ms=round(self._stall_s * 1000, 1),
            error=self._error,
        )

    def close(self) -> None:
        """End what still runs."""
        self._over.set()
        stop(self._ping)
        self._listener.close()
        self._caller.close()

    def __enter__(self) -> "Through":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_PATIENCE_S)
                while not self._over.wait(_PAUSE_S):
                    connection.sendall(_expected(self._sent, _CHUNK))
                    self._sent += _CHUNK
        except OSError as e:
            self._error = self._error or f"sending: {e}"

    def _fetch(self) -> None:
        try:
            self._caller.connect(self._listener.getsockname())
            last = time.monotonic()
            while chunk := self._caller.recv(len(_PATTERN) - 251):
                now = time.monotonic()
                self._stall_s, last = max(self._stall_s, now - last), now
                self._intact = self._intact and chunk == _expected(self._received, len(chunk))
                self._received += len(chunk)
        except OSError as e:
            self._error = self._error or f"receiving: {e}"


def _expected(offset: int, octets: int) -> bytes:
    """The octets of the transfer from an offset on."""
    start = offset % 251
    return _PATTERN[start : start + octets]
