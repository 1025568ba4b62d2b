"""What a subscriber would try: an address, a ping, a TCP connection. Blocking, for tests and drills.

A probe leaves by a device, or from a source address: whatever the routes of its namespace say about other traffic.
"""

import fcntl
import socket
import struct
import subprocess
import time
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread

from holdfast.core.errors import LocalError
from holdfast.lab.netns import entered
from holdfast.lab.process import fork, spawn, stop

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFDSTADDR = 0x8917
_IFF_UP = 1
_CHUNK = 1 << 16
_PARTS = 16


class ProbeFailed(LocalError):
    """What came through was not what was sent, or not in time."""


def address_of(namespace: str, device: str, *, far: bool = False) -> str:
    """The IPv4 address of a device that is up, "" while there is none; `far`: of a point-to-point link's other end."""
    request = struct.pack("16s24x", device.encode())
    with entered(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            flags: int = struct.unpack_from("16xH", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[0]
            answer = fcntl.ioctl(sock, _SIOCGIFDSTADDR if far else _SIOCGIFADDR, request)
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24]) if flags & _IFF_UP else ""


_LATE_S = 20
"""An answer that has not come by then is lost: a laboratory on a busy machine may stand still for seconds."""


def ping(namespace: str, target: str, *, leave_by: str = "", count: int = 3, size: int = 56) -> int:
    """How many of `count` Echo-Requests were answered, however late. `leave_by` is a device or a source address."""
    by = ["-I", leave_by] if leave_by else []
    # of several requests, ping waits so long for one only: so each is a run of its own
    argv = ["ping", "-n", "-c", "1", "-W", f"{_LATE_S}", "-s", f"{size}", *by, target]
    with entered(namespace):
        answers = (subprocess.run(argv, capture_output=True, text=True, check=False) for _ in range(count))
        return sum(" bytes from " in answer.stdout for answer in answers)


class Pings:
    """Echo-Requests in the background, five a second, from construction until `close`."""

    def __init__(self, namespace: str, target: str, directory: Path, *, leave_by: str) -> None:
        """`leave_by` is a device or a source address; what ping says is kept in `directory`."""
        self._said = directory / f"ping-{target}-{leave_by}"
        self._said.unlink(missing_ok=True)
        argv = ["ping", "-n", "-i", "0.2", "-I", leave_by, target]
        self._process = spawn(argv, namespace, self._said)

    @property
    def last_answered(self) -> int:
        """The number of the latest request that was answered, 0 for none."""
        numbers = [line.partition("icmp_seq=")[2] for line in self._said.read_text().splitlines()]
        return max((int(number.split()[0]) for number in numbers if number), default=0)

    def close(self) -> None:
        """Ask no more."""
        stop(self._process)


class Transfer:
    """`exchange` in a process of its own, so slowly that it is under way when something happens to the path."""

    def __init__(
        self,
        server: str,
        address: str,
        client: str,
        directory: Path,
        *,
        leave_by: str,
        pause_s: float = 0.2,
    ) -> None:
        """With 16 pauses of `pause_s` on the way there, and as many on the way back."""
        self._said = directory / f"transfer-{leave_by}"

        def main() -> int:
            exchange(
                server,
                address,
                client,
                leave_by=leave_by,
                octets=_PARTS << 16,
                pause_s=pause_s,
                patience_s=90,
            )
            return 0

        self._process = fork(main, client, self._said)

    @property
    def running(self) -> bool:
        """Whether octets are still under way."""
        return self._process.poll() is None

    def finish(self) -> None:
        """Wait until everything has come back. Raises ProbeFailed if other octets came, or none."""
        if status := self._process.wait():
            raise ProbeFailed(f"a TCP transfer ended with status {status}: see {self._said}")

    def close(self) -> None:
        """Give it up, if it still runs."""
        stop(self._process)


def exchange(
    server: str,
    address: str,
    client: str,
    *,
    leave_by: str,
    octets: int = 1 << 20,
    pause_s: float = 0.0,
    patience_s: float = 20.0,
) -> None:
    """Send `octets` over one TCP connection from `client` (a namespace) to `server`, and the same back.

    After every 64 KiB each side pauses; `patience_s` is how long it waits for the next octet. Raises ProbeFailed.
    """
    with entered(server):
        listener = socket.create_server((address, 0))
    with entered(client):
        caller = socket.socket()
    with listener, caller:
        for sock in (listener, caller):
            sock.settimeout(patience_s)
        echo = Thread(target=_echo, args=(listener, pause_s), daemon=True)
        echo.start()
        if _is_address(leave_by):
            caller.bind((leave_by, 0))
        else:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, leave_by.encode())
        data = bytes(range(251)) * (octets // 251)
        try:
            caller.connect(listener.getsockname())
            _say(caller, data, pause_s)
            caller.shutdown(socket.SHUT_WR)
            if _all(caller) != data:
                raise ProbeFailed(f"TCP from {client} to {address}: other data came back")
        except OSError as e:
            raise ProbeFailed(f"TCP from {client} to {address}: {e}") from e
        echo.join()


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _echo(listener: socket.socket, pause_s: float) -> None:
    """Take one connection; say everything back once it is complete, so that neither side fills the other's buffers."""
    try:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(listener.gettimeout())
            _say(connection, _all(connection), pause_s)
    except OSError:
        return  # The caller waits for the answer, and says what is missing.


def _say(sock: socket.socket, data: bytes, pause_s: float) -> None:
    for at in range(0, len(data), _CHUNK):
        sock.sendall(data[at : at + _CHUNK])
        time.sleep(pause_s)


def _all(sock: socket.socket) -> bytes:
    received = bytearray()
    while chunk := sock.recv(_CHUNK):
        received += chunk
    return bytes(received)
