"""The one UDP socket of the load generator.

Bound to a chosen local port; connected once the server's address is known, which halves the cost of a send
and keeps strangers out. Sends may block (a full device queue is not a loss); receives never do. A refused
datagram (ICMP) is counted and left to retransmission: a server that restarts must find its LAC again.
"""

import socket
from contextlib import suppress
from select import select

Address = tuple[str, int]

BUFFER = 16 << 20
_SO_RCVBUFFORCE = 33
_LARGEST = 2048


class Link:
    """Datagrams to and from one server."""

    __slots__ = ("_connected", "_recv", "_server", "_socket", "refused")

    def __init__(self, local: Address, server: Address) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        with suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        self._socket.bind(local)
        self._recv = self._socket.recv
        self._server = server
        self._connected = False
        self.refused = 0

    @property
    def local(self) -> Address:
        """The address that it is bound to."""
        host, port = self._socket.getsockname()
        return str(host), int(port)

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Put one datagram on the wire."""
        try:
            if self._connected:
                self._socket.send(data)
            else:
                self._socket.sendto(data, self._server)
        except ConnectionRefusedError:
            self.refused += 1

    def receive(self, most: int) -> list[bytes]:
        """What has arrived, at most that many datagrams; never waits."""
        batch: list[bytes] = []
        try:
            if not self._connected:
                data, source = self._socket.recvfrom(_LARGEST, socket.MSG_DONTWAIT)
                self._socket.connect(source)
                self._connected = True
                batch.append(data)
            recv, append = self._recv, batch.append
            for _ in range(most):
                append(recv(_LARGEST, socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        except ConnectionRefusedError:
            self.refused += 1
        return batch

    def wait(self, seconds: float) -> None:
        """Return when something has arrived, or after that time."""
        select([self._socket], [], [], max(seconds, 0.0))
