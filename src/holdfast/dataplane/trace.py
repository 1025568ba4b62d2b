"""Packets of a session that somebody traces, in one form on every plane: an outer IPv4 packet with its UDP datagram.

A plane in user space sees no outer headers; it writes plain ones, so their TTL and identification are not those of the
wire. Nothing here decides what becomes of a packet, and nothing raises because of one.
"""

from collections.abc import Callable
from socket import inet_aton
from struct import pack
from typing import Final, NamedTuple, TypeAlias

from holdfast.core.errors import Malformed
from holdfast.dataplane import ipv4
from holdfast.records import session_key
from holdfast.wire import header, ppp

HEADERS: Final = 28
"""Octets of IPv4, without options, and of UDP."""
NOWHERE: Final = ("", 0)
"""An address that is not known."""
_UDP: Final = 17
_IPV6_HEADER: Final = 40


class Seen(NamedTuple):
    """A packet that came from a session's peer or goes to it. `packet` may be cut short; `length` is what it had."""

    key: int
    at_ns: int
    """UTC."""
    to_peer: bool
    length: int
    packet: bytes


Sink: TypeAlias = Callable[[Seen], None]


def outer(datagram: bytes, source: tuple[str, int], to: tuple[str, int]) -> bytes:
    """The IPv4 packet in which a datagram travels, as far as that can be told; its UDP checksum is left out."""
    udp = pack(">HHHH", source[1], to[1], 8 + len(datagram) & 0xFFFF, 0)
    sender, receiver = (inet_aton(host or "0.0.0.0") for host, _ in (source, to))
    return ipv4.build(sender, receiver, _UDP, udp + datagram)


def claimed_session(datagram: bytes) -> int:
    """The key of the session that a data message says it is of, however wrong the rest; 0 for anything else."""
    if len(datagram) < header.DATA_LENGTH or header.is_control(datagram):
        return 0
    at = 4 if datagram[0] & header.L >> 8 else 2
    ids = datagram[at : at + 4]
    return session_key(ids[0] << 8 | ids[1], ids[2] << 8 | ids[3]) if len(ids) == 4 else 0


def decapsulated(seen: Seen) -> Seen | None:
    """The IP packet inside; None if there is none: PPP's own frames, or no proper data message."""
    at = (seen.packet[0] & 15) * 4 + 8 if seen.packet else 0
    missing = bytes(max(0, seen.length - len(seen.packet)))
    datagram = seen.packet[at:] + missing
    try:
        _, _, start, end, _ = header.parse_data(datagram)
        protocol, skipped = ppp.split(datagram[start:end])
    except Malformed:
        return None
    inner = datagram[start + skipped : end]
    if protocol == ppp.Protocol.IPV4:
        length = int.from_bytes(inner[2:4], "big")
    elif protocol == ppp.Protocol.IPV6:
        length = _IPV6_HEADER + int.from_bytes(inner[4:6], "big")
    else:
        return None
    length = min(length, len(inner)) or len(inner)
    there = len(seen.packet) - at - start - skipped
    return seen._replace(length=length, packet=inner[: min(length, max(0, there))])
