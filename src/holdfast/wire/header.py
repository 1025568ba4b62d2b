"""L2TPv2 message headers (RFC 2661 3.1, 5.3, 8.1).

Invariants: what is parsed lies within the datagram; octets after Length are not part of the message (V2-5);
reserved bits are 0 when sent and ignored when received (V2-2); a data message names a tunnel and a session,
neither of them 0, so a control message whose T bit was lost meets no session (V2-189).
"""

from struct import Struct
from typing import Final, NamedTuple

from holdfast.core.errors import Malformed

T: Final = 0x8000
L: Final = 0x4000
S: Final = 0x0800
O: Final = 0x0200  # noqa: E741 - the RFC's own name
P: Final = 0x0100
VERSION_MASK: Final = 0x000F

CONTROL: Final = T | L | S | 2
CONTROL_LENGTH: Final = 12
DATA: Final = 2
DATA_WITH_LENGTH: Final = L | 2
DATA_LENGTH: Final = 6

_CONTROL_MASK: Final = T | L | S | O | VERSION_MASK
_SIX_WORDS: Final = Struct(">HHHHHH")
_FOUR_WORDS: Final = Struct(">HHHH")
_THREE_WORDS: Final = Struct(">HHH")
_WORD: Final = Struct(">H")


class ControlHeader(NamedTuple):
    """A control message's header. The ids are the recipient's; the body (its AVPs) is octets 12 to `end`."""

    tunnel_id: int
    session_id: int
    ns: int
    nr: int
    end: int


def is_control(data: bytes) -> bool:
    """Whether the T bit is set. False for an empty datagram."""
    return bool(data) and data[0] >= 0x80


def version(data: bytes) -> int:
    """The protocol version that a datagram claims, -1 if it is too short to claim one."""
    return data[1] & 0x0F if len(data) > 1 else -1


def parse_control(data: bytes) -> ControlHeader:
    """The header of a control message. Raises Malformed. The body is `data[CONTROL_LENGTH:header.end]`.

    The P bit means nothing in a control message and is ignored; without L and S, or with O, it is not one.
    """
    if len(data) < CONTROL_LENGTH:
        raise Malformed("control header", 0, CONTROL_LENGTH, len(data))
    flags, end, tunnel_id, session_id, ns, nr = _SIX_WORDS.unpack_from(data)
    if flags != CONTROL and flags & _CONTROL_MASK != CONTROL:
        raise Malformed("control flags", 0, CONTROL, flags)
    if not CONTROL_LENGTH <= end <= len(data):
        raise Malformed("control length", 2, end, len(data))
    return ControlHeader(tunnel_id, session_id, ns, nr, end)


def control_header(tunnel_id: int, session_id: int, ns: int, nr: int, body_len: int) -> bytes:
    """The header for a body of `body_len` octets; both ids are the peer's, 0 while unknown."""
    return _SIX_WORDS.pack(CONTROL, CONTROL_LENGTH + body_len, tunnel_id, session_id, ns, nr)


def parse_data(data: bytes | memoryview) -> tuple[int, int, int, int, int]:
    """A data message as `(tunnel_id, session_id, payload_start, payload_end, ns)`; `ns` is -1 without one.

    Nr is not looked at (V2-6). Raises Malformed.
    """
    have = len(data)
    if have < DATA_LENGTH:
        raise Malformed("data header", 0, DATA_LENGTH, have)
    flags, tunnel_id, session_id = _THREE_WORDS.unpack_from(data)
    if flags == DATA:
        if tunnel_id == 0 or session_id == 0:
            raise Malformed("data ids", 2)
        return tunnel_id, session_id, DATA_LENGTH, have, -1
    return _parse_data(data, flags, have)


def _parse_data(data: bytes | memoryview, flags: int, have: int) -> tuple[int, int, int, int, int]:
    """The general form: optional Length, Ns and Nr, Offset Size with its pad."""
    if flags & (T | VERSION_MASK) != DATA:
        raise Malformed("data flags", 0, DATA, flags)
    start = DATA_LENGTH + (2 if flags & L else 0) + (4 if flags & S else 0) + (2 if flags & O else 0)
    if have < start:
        raise Malformed("data header", 0, start, have)
    end, at = have, 2
    if flags & L:
        _, end, tunnel_id, session_id = _FOUR_WORDS.unpack_from(data)
        at = 4
        if not start <= end <= have:
            raise Malformed("data length", 2, end, have)
    else:
        _, tunnel_id, session_id = _THREE_WORDS.unpack_from(data)
    if tunnel_id == 0 or session_id == 0:
        raise Malformed("data ids", at)
    ns = -1
    if flags & S:
        (ns,) = _WORD.unpack_from(data, at + 4)
    if flags & O:
        (pad,) = _WORD.unpack_from(data, start - 2)
        start += pad
        if start > end:
            raise Malformed("data offset", start, pad, end)
    return tunnel_id, session_id, start, end, ns


def data_header(tunnel_id: int, session_id: int) -> bytes:
    """The plain header, without Length and sequence numbers, that we send. The ids are the peer's."""
    return _THREE_WORDS.pack(DATA, tunnel_id, session_id)


def sequenced_data_header(tunnel_id: int, session_id: int, ns: int) -> bytes:
    """The header of a session with data sequencing; Nr is reserved there and sent as 0 (RFC 2661 5.4)."""
    return _THREE_WORDS.pack(DATA | S, tunnel_id, session_id) + _WORD.pack(ns) + b"\0\0"
