"""What the kernel routes where, read back with plain rtnetlink requests (RFC 3549): no library, under a
millisecond.

Only what the TUN device needs to know: IPv4 unicast routes through one device, and rules by source prefix.
The kernel filters routes by device itself (NETLINK_GET_STRICT_CHK, Linux 4.20), so a full Internet table
costs nothing.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from holdfast.core.errors import LocalError

MAIN_TABLE = 254
OUR_PROTOCOL = 76
"""Marks our routes and rules (rtm_protocol, `proto 76` in `ip route`): only those are ever removed."""

_RTM_GETROUTE, _RTM_GETRULE = 26, 34
_NLM_F_REQUEST, _NLM_F_DUMP = 0x001, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12
_RTN_UNICAST, _FR_ACT_TO_TBL = 1, 1
_RTA_DST, _RTA_OIF, _RTA_TABLE = 1, 4, 15
_FRA_SRC, _FRA_TABLE, _FRA_PROTOCOL = 2, 15, 21
_HEADER = struct.Struct("=IHHII")
_RTMSG = struct.Struct(
    "=8BI"
)  # family, dst_len, src_len, tos, table, protocol, scope, type (or action), flags
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE = 1 << 16


class RoutingError(LocalError):
    """The kernel would not say what it routes."""


class Route(msgspec.Struct, frozen=True, gc=False, order=True):
    """An IPv4 prefix that leads to the device, in one routing table."""

    prefix: str
    table: int = MAIN_TABLE


class Rule(msgspec.Struct, frozen=True, gc=False, order=True):
    """Packets from `source` are looked up in `table`."""

    source: str
    table: int


def routes_through(index: int) -> dict[Route, int]:
    """The unicast routes through a device, with the protocol that set each. Raises RoutingError."""
    request = (
        _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        + _ATTRIBUTE.pack(8, _RTA_OIF)
        + struct.pack("=I", index)
    )
    found: dict[Route, int] = {}
    for head, attributes in _dump(_RTM_GETROUTE, request):
        _, length, _, _, table, protocol, _, kind, _ = head
        if kind == _RTN_UNICAST and _number(attributes.get(_RTA_OIF)) == index:
            table = _number(attributes.get(_RTA_TABLE)) or table
            found[Route(_prefix(attributes.get(_RTA_DST), length), table)] = protocol
    return found


def rules() -> dict[Rule, int]:
    """The rules that choose a table by source prefix, with the protocol that set each. Raises RoutingError."""
    found: dict[Rule, int] = {}
    for head, attributes in _dump(_RTM_GETRULE, _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        _, _, length, _, table, _, _, action, _ = head
        if action == _FR_ACT_TO_TBL and length:
            table = _number(attributes.get(_FRA_TABLE)) or table
            found[Rule(_prefix(attributes.get(_FRA_SRC), length), table)] = (
                attributes.get(_FRA_PROTOCOL) or b"\0"
            )[0]
    return found


_Message = tuple[tuple[int, ...], dict[int, bytes]]


def _dump(kind: int, request: bytes) -> Iterator[_Message]:
    """Every object that a dump returns: its fixed part and its attributes."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
            with suppress(OSError):  # older kernels send everything, and we choose
                kernel.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            flags = _NLM_F_REQUEST | _NLM_F_DUMP
            kernel.send(_HEADER.pack(_HEADER.size + len(request), kind, flags, 1, 0) + request)
            while True:
                for type_, body in _messages(kernel.recv(_RECEIVE)):
                    if type_ == _NLMSG_DONE:
                        return
                    if type_ == _NLMSG_ERROR:
                        raise RoutingError(
                            f"rtnetlink refuses to list routes: error {-struct.unpack_from('=i', body)[0]}"
                        )
                    yield _RTMSG.unpack_from(body), dict(_attributes(body[_RTMSG.size :]))
    except OSError as error:
        raise RoutingError(f"rtnetlink: {error.strerror}") from error


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += max(length + 3 & ~3, _HEADER.size)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += max(length + 3 & ~3, _ATTRIBUTE.size)


def _number(value: bytes | None) -> int:
    return struct.unpack("=I", value)[0] if value and len(value) == 4 else 0


def _prefix(address: bytes | None, length: int) -> str:
    return f"{socket.inet_ntoa(address or bytes(4))}/{length}"
