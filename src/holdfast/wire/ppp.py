"""PPP frames inside L2TP: protocol numbers and framing (RFC 1661 2, RFC 1662 3; RFC 2661 5.3).

A payload is a PPP frame without flags, FCS or byte stuffing. Address and control (FF 03) and the first
octet of the protocol may have been compressed away; both forms are accepted at all times (V2-165).
"""

from enum import IntEnum
from typing import Final

from holdfast.core.errors import Malformed

ADDRESS_CONTROL: Final = b"\xff\x03"


class Protocol(IntEnum):
    """PPP protocol numbers (the registry of RFC 1661 2)."""

    IPV4 = 0x0021
    VJ_COMPRESSED = 0x002D
    VJ_UNCOMPRESSED = 0x002F
    MP = 0x003D
    IPV6 = 0x0057
    IPCP = 0x8021
    IPV6CP = 0x8057
    CCP = 0x80FD
    LCP = 0xC021
    PAP = 0xC023
    LQR = 0xC025
    CHAP = 0xC223


def split(payload: bytes | memoryview) -> tuple[int, int]:
    """The protocol of a frame and where its information starts. Raises Malformed if it is cut off."""
    size = len(payload)
    at = 2 if size > 1 and payload[0] == 0xFF and payload[1] == 0x03 else 0
    if size <= at:
        raise Malformed("PPP protocol", at, 1, size - at)
    first = payload[at]
    if first & 1:
        return first, at + 1
    if size < at + 2:
        raise Malformed("PPP protocol", at, 2, size - at)
    return first << 8 | payload[at + 1], at + 2


def frame(protocol: int, information: bytes, *, acfc: bool = False, pfc: bool = False) -> bytes:
    """A frame to send; `acfc` and `pfc`: what the peer agreed to receive compressed (never for LCP)."""
    head = protocol.to_bytes(1 if pfc and protocol < 0x100 and protocol & 1 else 2)
    return head + information if acfc else ADDRESS_CONTROL + head + information
