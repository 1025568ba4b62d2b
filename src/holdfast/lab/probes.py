"""What a subscriber would try: an address, a ping, a TCP connection. Blocking, for tests and drills.

A probe leaves by `device`, or from `source`: whatever the routes of its namespace say about other traffic.
"""

import fcntl
import socket
import struct
import subprocess
from threading import Thread

from holdfast.core.errors import LocalError
from holdfast.lab.netns import entered

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFDSTADDR = 0x8917
_IFF_UP = 1
_CHUNK = 1 << 16


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


def ping(namespace: str, target: str, *, leave_by: str = "", count: int = 3, size: int = 56) -> int:
    """How many of `count` Echo-Requests were answered. `leave_by` is a device or a source address."""
    by = ["-I", leave_by] if leave_by else []
    argv = ["ping", "-n", "-c", str(count), "-i", "0.2", "-W", "2", "-s", str(size), *by, target]
    with entered(namespace):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.count(" bytes from ")


def exchange(
    server: str, address: str, client: str, *, device: str = "", source: str = "", octets: int = 1 << 20
) -> None:
    """Send `octets` over one TCP connection from `client` (a namespace) to `server`, and the same back.

    Raises ProbeFailed.
    """
    with entered(server):
        listener = socket.create_server((address, 0))
    with entered(client):
        caller = socket.socket()
    with listener, caller:
        for sock in (listener, caller):
            sock.settimeout(20)
        echo = Thread(target=_echo, args=(listener,), daemon=True)
        echo.start()
        if device:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if source:
            caller.bind((source, 0))
        data = bytes(range(251)) * (octets // 251)
        try:
            caller.connect(listener.getsockname())
            caller.sendall(data)
            caller.shutdown(socket.SHUT_WR)
            if _all(caller) != data:
                raise ProbeFailed(f"TCP from {client} to {address}: other data came back")
        except OSError as e:
            raise ProbeFailed(f"TCP from {client} to {address}: {e}") from e
        echo.join()


def _echo(listener: socket.socket) -> None:
    """Take one connection; say everything back once it is complete, so that neither side fills the other's buffers."""
    try:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            connection.sendall(_all(connection))
    except OSError:
        return  # The caller waits for the answer, and says what is missing.


def _all(sock: socket.socket) -> bytes:
    received = bytearray()
    while chunk := sock.recv(_CHUNK):
        received += chunk
    return bytes(received)
