"""The node's one UDP socket: opened so that a restart finds it again, and never shared.

Invariants: bound to the configured address and port, never an ephemeral one, and without address reuse (two
owners would silently take each other's packets). It stays unconnected: no ICMP error can end a tunnel. Outer
packets may be fragmented on the way (DF is off).
"""

import errno
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from holdfast.core.errors import LocalError
from holdfast.dataplane.inbox import Inbox
from holdfast.protocol.effects import Address

TAKEN_FOR_S = 5.0
"""How long a taken port is tried again: a dying predecessor is gone by then."""

_RETRY_S = 0.02

_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0
_SO_RCVBUFFORCE = 33
_SOL_UDP, _UDP_SEGMENT = 17, 103
_NO_SEGMENTS = frozenset((errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT))
_SO_MEMINFO, _MEMINFO_DROPS, _MEMINFO_WORDS = 55, 8, 9


class ListenError(LocalError):
    """The UDP socket cannot be had; the text says why and what to do."""


class UdpSocket:
    """A bound, non-blocking UDP socket that reports nothing but datagrams and counts the rest.

    `receive_buffer` is what the kernel granted, in octets. The failures are counted by errno.
    """

    __slots__ = (
        "_segments",
        "_sendto",
        "address",
        "receive_buffer",
        "receive_failures",
        "send_failures",
        "socket",
    )

    def __init__(self, sock: socket.socket, receive_buffer: int = 0) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._sendto = sock.sendto
        host, port = sock.getsockname()
        self.address: Address = (host, port)
        self.receive_buffer = _grow_receive_buffer(sock, receive_buffer)
        self._segments = True
        self.send_failures: dict[int, int] = {}
        self.receive_failures: dict[int, int] = {}

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self.socket.fileno()

    def read(self, inbox: Inbox) -> int:
        """Receive into `inbox`; fewer datagrams than it has slots means that nothing more has arrived."""
        try:
            return inbox.read(self.fileno())
        except OSError as e:  # an ICMP error, or a kernel short of memory: says nothing about any tunnel
            _count(self.receive_failures, e)
            return 0

    def send(self, data: bytes, to: Address) -> None:
        """Send a datagram. What cannot be sent is lost, as on the wire, and counted."""
        try:
            self._sendto(data, to)
        except OSError as e:
            _count(self.send_failures, e)

    def send_burst(self, datagrams: Sequence[bytes], to: Address) -> bool:
        """Send datagrams of one size with one call (UDP_SEGMENT, Linux 4.18). False: this kernel or path cannot."""
        if not self._segments:
            return False
        size = len(datagrams[0]).to_bytes(2, sys.byteorder)
        try:
            self.socket.sendmsg((b"".join(datagrams),), ((_SOL_UDP, _UDP_SEGMENT, size),), 0, to)
        except OSError as e:
            if e.errno in _NO_SEGMENTS:
                self._segments = False
                return False
            _count(self.send_failures, e)
        return True

    def drops(self) -> int:
        """Datagrams that the kernel dropped because the receive buffer was full."""
        return dropped(self.socket)

    def counters(self) -> dict[str, int]:
        """What the socket lost, by name."""
        lost = {"udp_receive_buffer_drops": self.drops()}
        for code, count in self.send_failures.items():
            lost[f"udp_send_{errno.errorcode.get(code, str(code)).lower()}"] = count
        for code, count in self.receive_failures.items():
            lost[f"udp_receive_{errno.errorcode.get(code, str(code)).lower()}"] = count
        return lost

    def close(self) -> None:
        """Give the port back."""
        self.socket.close()


def dropped(sock: socket.socket) -> int:
    """How many datagrams a socket's receive buffer had no room for."""
    info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * _MEMINFO_WORDS)
    return int(struct.unpack(f"={len(info) // 4}I", info)[_MEMINFO_DROPS])


def open_udp(
    address: Address,
    receive_buffer: int,
    *,
    taken_for_s: float = TAKEN_FOR_S,
    sleep: Callable[[float], None] = time.sleep,
) -> UdpSocket:
    """Bind to `address`; a taken port is tried again for `taken_for_s`. Raises ListenError."""
    tries = max(1, round(taken_for_s / _RETRY_S))
    while True:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
            sock.bind(address)
            return UdpSocket(sock, receive_buffer)
        except OSError as e:
            sock.close()
            tries -= 1
            if e.errno != errno.EADDRINUSE or tries <= 0:
                raise ListenError(_why(e, address)) from None
        sleep(_RETRY_S)


def adopt_udp(fds: Iterable[int], address: Address, receive_buffer: int) -> UdpSocket | None:
    """Of descriptors that a predecessor left behind, the socket bound to `address`; the others are closed."""
    adopted: UdpSocket | None = None
    for fd in fds:
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            continue
        ours = sock.family == socket.AF_INET and sock.type == socket.SOCK_DGRAM
        if adopted is None and ours and sock.getsockname() == address:
            adopted = UdpSocket(sock, receive_buffer)
        else:
            sock.close()
    return adopted


def _grow_receive_buffer(sock: socket.socket, wanted: int) -> int:
    """Ask for `wanted` octets, by force where allowed; return what was granted (the kernel counts double)."""
    if wanted:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def _count(failures: dict[int, int], error: OSError) -> None:
    code = error.errno or 0
    failures[code] = failures.get(code, 0) + 1


def _why(error: OSError, address: Address) -> str:
    host, port = address
    match error.errno:
        case errno.EADDRINUSE:
            return f"UDP port {port} on {host} is taken by {owner_of(address)}: stop it, or set listen.port"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine: set listen.address to one of `ip -4 addr`"
        case errno.EACCES:
            return (
                f"UDP port {port} needs CAP_NET_BIND_SERVICE: grant it, or set listen.port to 1024 or above"
            )
        case _:
            return f"UDP {host} port {port} cannot be opened: {error.strerror}"


def owner_of(address: Address, proc: Path = Path("/proc")) -> str:
    """Who holds a socket in the way of `address`, in words: a process with its id, as far as we may see."""
    inodes = {f"socket:[{inode}]" for inode in _holders(address, proc)}
    if not inodes:
        return "another process"
    for process in proc.glob("[0-9]*"):
        try:
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:  # it ended meanwhile, or it is not ours to look into
            continue
    return "a process of another user, or the kernel"


def _holders(address: Address, proc: Path) -> list[str]:
    """Inodes of the UDP sockets that a bind to `address` collides with."""
    host, port = address
    wildcard = "0" * 8
    local = struct.pack("=I", struct.unpack("!I", socket.inet_aton(host))[0])
    hexes = {wildcard, f"{struct.unpack('!I', local)[0]:08X}"}
    found = []
    for table in ("udp", "udp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            held_host, _, held_port = columns[1].rpartition(":")
            collides = table == "udp6" or host == "0.0.0.0" or held_host in hexes
            if int(held_port, 16) == port and collides:
                found.append(columns[9])
    return found
