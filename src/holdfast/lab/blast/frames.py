"""The messages of the hot path as raw bytes: control messages of a call, and PPP frames in canonical form.

A canonical data message is the 6-octet L2TP header without options, FF03, and a two-octet PPP protocol;
every other legal form is brought to it by `canonical`, so that the machines look at fixed offsets only. The
bytes of the control messages are those that `holdfast.wire` makes (a test holds them to it).
"""

from struct import Struct
from typing import Final

CONTROL: Final = Struct(">6H")
"""Flags, length, tunnel id, session id, Ns, Nr."""
CONTROL_FLAGS: Final = 0xC802
CONTROL_SIZE: Final = 12

_ICRQ_HEAD: Final = bytes.fromhex("800800000000000a80080000000e")
_ICRQ_SERIAL: Final = bytes.fromhex("800a0000000f")
_ICRQ_TAIL: Final = Struct(">H6sI")
ICRP_HEAD: Final = bytes.fromhex("800800000000000b80080000000e")
"""An ICRP as everybody sends it starts with this; the Assigned Session ID follows."""
ICRP_ID: Final = CONTROL_SIZE + len(ICRP_HEAD)
ICCN: Final = bytes.fromhex("800800000000000c800a0000001805f5e100800a0000001300000001")
"""100 Mb/s, synchronous framing."""

DATA_FLAGS: Final = b"\x00\x02"
DATA_HEAD: Final = Struct(">2sHH2s")
"""Flags, tunnel id, session id, and the PPP address and control octets."""

# Offsets in a canonical data message.
IDS: Final = slice(2, 6)
KIND: Final = slice(6, 11)
CODE: Final = 10
IDENTIFIER: Final = 11
LENGTH: Final = 12
BODY: Final = 14
MAGIC: Final = slice(14, 18)
IP: Final = 10

ADDRESS_CONTROL: Final = b"\xff\x03"
LCP: Final = b"\xc0\x21"
PAP: Final = b"\xc0\x23"
CHAP: Final = b"\xc2\x23"
IPCP: Final = b"\x80\x21"
IPV4: Final = b"\x00\x21"

REQUEST: Final = 1
ACK: Final = 2
NAK: Final = 3
REJECT: Final = 4

PPP_HEAD: Final = Struct(">BBH")
"""Code, identifier, length."""
U16: Final = Struct(">H")

LCP_MRU: Final = 1
LCP_ACCM: Final = 2
LCP_AUTH: Final = 3
LCP_MAGIC: Final = 5
LCP_PFC: Final = 7
LCP_ACFC: Final = 8
IPCP_ADDRESS: Final = 3

_LENGTH_BIT: Final = 0x40
_SEQUENCE_BIT: Final = 0x08
_OFFSET_BIT: Final = 0x02


def icrq(session_id: int, serial: int) -> bytes:
    """The body of an Incoming-Call-Request."""
    return _ICRQ_HEAD + _ICRQ_TAIL.pack(session_id, _ICRQ_SERIAL, serial)


def ppp(protocol: bytes, code: int, identifier: int, body: bytes) -> bytes:
    """A PPP control frame without address and control octets."""
    return protocol + PPP_HEAD.pack(code, identifier, 4 + len(body)) + body


def canonical(data: bytes) -> bytes | None:
    """A data message in canonical form, or None if it is not one at all."""
    flags, version = data[0], data[1]
    if version & 0x0F != 2:
        return None
    at = 2
    end = len(data)
    if flags & _LENGTH_BIT:
        end = min(end, int.from_bytes(data[2:4], "big"))
        at = 4
    ids = data[at : at + 4]
    at += 4
    if flags & _SEQUENCE_BIT:
        at += 4
    if flags & _OFFSET_BIT:
        at += 2 + int.from_bytes(data[at : at + 2], "big")
    payload = data[at:end]
    if payload[:2] == ADDRESS_CONTROL:
        payload = payload[2:]
    if payload[:1] and payload[0] & 1:
        payload = b"\x00" + payload
    if len(ids) < 4 or len(payload) < 2:
        return None
    return DATA_FLAGS + ids + ADDRESS_CONTROL + payload
