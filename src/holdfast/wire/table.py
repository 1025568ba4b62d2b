"""The message table: which AVPs belong in each control message (RFC 2661 6, RFC 4951 4, RFC 5515 4).

Made from the dictionary, where each AVP says where it belongs; what is said here is only what concerns the
message as a whole. The rows V2-50…V2-66 of the requirements are this table.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.wire.avp import M_BIT, Avp
from holdfast.wire.codes import Msg
from holdfast.wire.dictionary import ENTRIES, MESSAGE_TYPE
from holdfast.wire.shapes import Shapes

MAX_FSS: Final = 64
"""Sessions per FSQ or FSR (T-36): 12 + 8 + 64 x 16 = 1044 octets, no fragment on a 1280-octet path."""


class MessageSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One message. `required` and `allowed` leave out Message Type, with which every message begins.

    `session`: a fault ends a session (CDN), not the tunnel (StopCCN). `mandatory`: the M bit of its Message
    Type. `forgiving`: nothing in it is a fault: it ends something anyway, or its RFC says so (F-86, T-31).
    `head` is its encoded Message Type; `shapes` is where a decoder looks its AVPs up.
    """

    msg: Msg
    rfc: str
    direction: str
    session: bool
    mandatory: bool
    forgiving: bool
    required: frozenset[int]
    allowed: Mapping[int, Avp[Any]]
    head: bytes
    shapes: Shapes

    def names(self, keys: frozenset[int]) -> str:
        """The names of some of its AVPs, for people."""
        return ", ".join(str(self.allowed[key]) for key in sorted(keys))


_BOTH = "either"
_OPEN = "initiator → responder"
_REPLY = "responder → initiator"
_TO_LNS = "LAC → LNS"
_TO_LAC = "LNS → LAC"


def _row(
    msg: Msg,
    rfc: str,
    direction: str,
    *,
    session: bool = False,
    mandatory: bool = True,
    forgiving: bool = False,
) -> MessageSpec:
    entries = [e for e in ENTRIES if e is not MESSAGE_TYPE]
    allowed = {e.key: e for e in entries if msg in e.allowed}
    head = bytearray(MESSAGE_TYPE(msg).data)
    if not mandatory:
        head[0] ^= M_BIT >> 8
    return MessageSpec(
        msg=msg,
        rfc=rfc,
        direction=direction,
        session=session,
        mandatory=mandatory,
        forgiving=forgiving,
        required=frozenset(e.key for e in entries if msg in e.required),
        allowed=allowed,
        head=bytes(head),
        shapes=Shapes(allowed),
    )


_ROWS = (
    _row(Msg.SCCRQ, "2661 6.1", _OPEN),
    _row(Msg.SCCRP, "2661 6.2", _REPLY),
    _row(Msg.SCCCN, "2661 6.3", _OPEN),
    _row(Msg.STOPCCN, "2661 6.4", _BOTH, forgiving=True),
    _row(Msg.HELLO, "2661 6.5", _BOTH),
    _row(Msg.OCRQ, "2661 6.9", _TO_LAC, session=True),
    _row(Msg.OCRP, "2661 6.10", _TO_LNS, session=True),
    _row(Msg.OCCN, "2661 6.11", _TO_LNS, session=True),
    _row(Msg.ICRQ, "2661 6.6", _TO_LNS, session=True),
    _row(Msg.ICRP, "2661 6.7", _TO_LAC, session=True),
    _row(Msg.ICCN, "2661 6.8", _TO_LNS, session=True),
    _row(Msg.CDN, "2661 6.12", _BOTH, session=True, forgiving=True),
    _row(Msg.WEN, "2661 6.13", _TO_LNS, session=True),
    _row(Msg.SLI, "2661 6.14", _TO_LAC, session=True),
    _row(Msg.FSQ, "4951 4.1", _BOTH, mandatory=False, forgiving=True),
    _row(Msg.FSR, "4951 4.2", _BOTH, mandatory=False, forgiving=True),
    _row(Msg.CSUN, "5515 4.1", _TO_LNS, mandatory=False),
    _row(Msg.CSURQ, "5515 4.2", _TO_LAC, mandatory=False),
)

SPECS: Final[Mapping[int, MessageSpec]] = {row.msg.value: row for row in _ROWS}
"""The table, by message type."""
