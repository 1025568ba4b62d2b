"""Control messages as somebody else's daemon reads and writes them: a codec that shares nothing with `wire`.

It knows RFC 2661 as far as four daemons need it, and keeps the M bit of every AVP, which some of them look at.
"""

from enum import IntEnum
from hashlib import md5
from struct import pack, unpack_from
from typing import Final, NamedTuple

FLAGS: Final = 0xC802
HEADER_SIZE: Final = 12
MANDATORY: Final = 0x8000


class Kind(IntEnum):
    """Message Type; a ZLB has none."""

    ZLB = 0
    SCCRQ = 1
    SCCRP = 2
    SCCCN = 3
    STOPCCN = 4
    HELLO = 6
    ICRQ = 10
    ICRP = 11
    ICCN = 12
    CDN = 14


class Attr(IntEnum):
    """Attribute Type."""

    MESSAGE_TYPE = 0
    RESULT_CODE = 1
    PROTOCOL_VERSION = 2
    FRAMING_CAPABILITIES = 3
    BEARER_CAPABILITIES = 4
    TIE_BREAKER = 5
    FIRMWARE = 6
    HOST_NAME = 7
    VENDOR_NAME = 8
    TUNNEL_ID = 9
    WINDOW = 10
    CHALLENGE = 11
    RESPONSE = 13
    SESSION_ID = 14
    CALL_SERIAL = 15
    FRAMING_TYPE = 19
    CALLED_NUMBER = 21
    CALLING_NUMBER = 22
    TX_SPEED = 24
    RX_SPEED = 38


OPTIONAL: Final = frozenset((Attr.TIE_BREAKER, Attr.FIRMWARE, Attr.VENDOR_NAME, Attr.RX_SPEED))
"""Attributes whose M bit must be 0 (RFC 2661 4.4); of all others that are known it must be 1."""


class Avp(NamedTuple):
    """An attribute of a message."""

    vendor: int
    attr: int
    mandatory: bool
    value: bytes

    @property
    def known(self) -> bool:
        """Whether RFC 2661 has it."""
        return self.vendor == 0 and self.attr <= 39


class Heard(NamedTuple):
    """A control message. `kind` is a number, known or not."""

    tunnel: int
    session: int
    ns: int
    nr: int
    kind: int
    mandatory: bool
    avps: tuple[Avp, ...]

    def value(self, attr: Attr) -> bytes:
        """An attribute's octets; none without it."""
        return next((a.value for a in self.avps if a.vendor == 0 and a.attr == attr), b"")

    def number(self, attr: Attr) -> int:
        """An attribute's value; 0 without it."""
        return int.from_bytes(self.value(attr), "big")


def read(data: bytes) -> Heard:
    """A control message from its datagram. Ours are well-formed; anything else is an error of the simulation."""
    flags, size, tunnel, session, ns, nr = unpack_from(">HHHHHH", data)
    if flags != FLAGS or size != len(data):
        raise ValueError(f"no control message: {data.hex()}")
    avps = []
    at = HEADER_SIZE
    while at < size:
        head, vendor, attr = unpack_from(">HHH", data, at)
        end = at + (head & 0x03FF)
        avps.append(Avp(vendor, attr, bool(head & MANDATORY), data[at + 6 : end]))
        at = end
    if not avps:
        return Heard(tunnel, session, ns, nr, Kind.ZLB, True, ())
    kind = avps.pop(0)
    number = int.from_bytes(kind.value, "big")
    return Heard(tunnel, session, ns, nr, number, kind.mandatory, tuple(avps))


def header(tunnel: int, session: int, ns: int, nr: int, body: bytes) -> bytes:
    """A message with its header."""
    return pack(">HHHHHH", FLAGS, HEADER_SIZE + len(body), tunnel, session, ns, nr) + body


def data_header(tunnel: int, session: int) -> bytes:
    """What stands before a PPP frame."""
    return pack(">HHH", 2, tunnel, session)


def avp(attr: Attr, value: bytes) -> bytes:
    """An attribute, with the M bit that RFC 2661 wants."""
    m = 0 if attr in OPTIONAL else MANDATORY
    return pack(">HHH", m | 6 + len(value), 0, attr) + value


def u16(attr: Attr, value: int) -> bytes:
    """An attribute of two octets."""
    return avp(attr, pack(">H", value))


def u32(attr: Attr, value: int) -> bytes:
    """An attribute of four octets."""
    return avp(attr, pack(">I", value))


def message(kind: Kind, *avps: bytes) -> bytes:
    """The body of a message."""
    return u16(Attr.MESSAGE_TYPE, kind) + b"".join(avps)


def response(kind: Kind, secret: bytes, challenge: bytes) -> bytes:
    """What `kind` answers to a challenge (RFC 2661 5.1.1)."""
    return avp(Attr.RESPONSE, md5(bytes((kind,)) + secret + challenge, usedforsecurity=False).digest())
