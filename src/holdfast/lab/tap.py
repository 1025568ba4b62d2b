"""Who said which control message on the wire: read in this process, from one interface, as often as one likes.

Unlike `lab.capture` it keeps no file and no data packets: it answers what passed since it was asked last.
"""

import socket
import struct
from collections.abc import Iterator

import msgspec

from holdfast.lab.capture import Operation, attach
from holdfast.lab.netns import entered
from holdfast.lab.topology import WIRE
from holdfast.wire.codes import Msg
from holdfast.wire.header import parse_control

_CONTROL_ONLY: tuple[Operation, ...] = (
    (0x28, 0, 0, 12),  # ldh [12]: Ethernet type
    (0x15, 0, 10, 0x0800),  # IPv4, else drop
    (0x30, 0, 0, 23),  # ldb [23]: protocol
    (0x15, 0, 8, 17),  # UDP, else drop
    (0x28, 0, 0, 20),  # ldh [20]: flags and fragment offset
    (0x45, 6, 0, 0x1FFF),  # a later fragment: drop
    (0xB1, 0, 0, 14),  # ldxb 4*([14]&0xf): header length
    (0x48, 0, 0, 16),  # ldh [x+16]: destination port
    (0x15, 0, 3, 1701),  # L2TP's, else drop
    (0x50, 0, 0, 22),  # ldb [x+22]: first octet of the L2TP header
    (0x45, 0, 1, 0x80),  # T bit, else drop
    (0x06, 0, 0, 0xFFFF),  # keep
    (0x06, 0, 0, 0),  # drop
)

_SO_TIMESTAMPNS = 35
_TIME = struct.Struct("@ll")
_ETHERNET = 14
_SOURCE = slice(_ETHERNET + 12, _ETHERNET + 16)
_TARGET = slice(_ETHERNET + 16, _ETHERNET + 20)
_FRAGMENT = slice(_ETHERNET + 6, _ETHERNET + 8)
_LATER_FRAGMENT = 0x1FFF
_CONTROL = 0x80
"""The T bit, in the first octet of the L2TP header."""

_MESSAGE_TYPE = slice(6, 8)
"""Where the value of the first AVP is, which every message but a ZLB begins with."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """One control message: from which address to which; `type` is its Message Type (a `Msg`), 0 for a ZLB.

    `at_ns` is when the kernel saw it (CLOCK_REALTIME).
    """

    source: str
    target: str
    type: int
    tunnel_id: int
    session_id: int
    ns: int
    nr: int
    at_ns: int = 0


class Tap:
    """Listens on one interface (the LAC's and the LNS's common wire) from construction until `close`."""

    def __init__(self, namespace: str, interface: str = WIRE) -> None:
        with entered(namespace):
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        attach(self._sock, interface, _CONTROL_ONLY)

    def take(self) -> list[Said]:
        """What was said since the last time, in order."""
        said: list[Said] = []
        while True:
            try:
                frame, [(_, _, time)], _, _ = self._sock.recvmsg(0xFFFF, socket.CMSG_SPACE(_TIME.size))
            except BlockingIOError:
                return said
            seconds, ns = _TIME.unpack(time)
            said += read(frame, seconds * 1_000_000_000 + ns)

    def close(self) -> None:
        """Listen no longer."""
        self._sock.close()


def read(frame: bytes, at_ns: int) -> Iterator[Said]:
    """The control messages of an Ethernet frame of L2TP, none if it is data or a later fragment.

    Several datagrams that were sent as one (UDP_SEGMENT) are seen here as one.
    """
    if int.from_bytes(frame[_FRAGMENT]) & _LATER_FRAGMENT:
        return
    rest = frame[_ETHERNET + 4 * (frame[_ETHERNET] & 0xF) + 8 :]
    while rest and rest[0] & _CONTROL:
        header = parse_control(rest)
        body, rest = rest[12 : header.end], rest[header.end :]
        yield Said(
            source=socket.inet_ntoa(frame[_SOURCE]),
            target=socket.inet_ntoa(frame[_TARGET]),
            type=int.from_bytes(body[_MESSAGE_TYPE]),
            tunnel_id=header.tunnel_id,
            session_id=header.session_id,
            ns=header.ns,
            nr=header.nr,
            at_ns=at_ns,
        )


def count(said: list[Said], message: Msg, source: str) -> int:
    """How many of these are such a message from there."""
    return sum(one.type == message and one.source == source for one in said)
