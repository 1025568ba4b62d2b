"""Packets of PPP's control protocols and their options (RFC 1661 sections 5 and 6).

Control packets are always sent with Address and Control fields and an uncompressed protocol number: every peer must
take that form, whatever was negotiated (RFC 1661 6.5, 6.6). What arrives may have either form.
"""

import struct
from enum import IntEnum
from typing import Final

from holdfast.core.errors import Malformed

HEAD: Final = struct.Struct(">HHBBH")
"""Address and Control, protocol, code, identifier, length."""

HEAD_SIZE: Final = 8
ADDRESS_CONTROL: Final = 0xFF03

MAX_PACKET: Final = 1500
"""Longest control packet that is looked at: what a peer may send before anything was agreed (RFC 1661 6.1)."""


class Code(IntEnum):
    """Packet codes of LCP; the NCPs share 1 to 7."""

    CONFIGURE_REQUEST = 1
    CONFIGURE_ACK = 2
    CONFIGURE_NAK = 3
    CONFIGURE_REJECT = 4
    TERMINATE_REQUEST = 5
    TERMINATE_ACK = 6
    CODE_REJECT = 7
    PROTOCOL_REJECT = 8
    ECHO_REQUEST = 9
    ECHO_REPLY = 10
    DISCARD_REQUEST = 11


def packet(protocol: int, code: int, identifier: int, body: bytes = b"") -> bytes:
    """A control packet as it follows the L2TP header."""
    return HEAD.pack(ADDRESS_CONTROL, protocol, code, identifier, len(body) + 4) + body


def split_options(options: bytes) -> list[bytes]:
    """The options of a Configure packet, each whole with its type and length octets. Raises Malformed."""
    found = []
    at, end = 0, len(options)
    while at < end:
        length = options[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end:
            raise Malformed("PPP option", at, max(length, 2), end - at)
        found.append(options[at : at + length])
        at += length
    return found


def quad(address: bytes) -> str:
    """Four octets as a dotted quad."""
    a, b, c, d = address
    return f"{a}.{b}.{c}.{d}"


def octets(address: str) -> bytes:
    """A dotted quad as four octets; "" is 0.0.0.0."""
    return bytes(map(int, address.split("."))) if address else bytes(4)
