"""The numbers that L2TP gives names to: message types, results, errors, PPP disconnect causes.

Each is declared once, with its text; logs, the command line and the generated documents take both from here.
`PeerError` is how a peer's fault travels: it says what the peer did and carries the answer to it.
"""

from enum import IntEnum
from typing import Self

from holdfast.core.errors import HoldfastError


class _Code(IntEnum):
    """An integer of the wire with its meaning in words."""

    text: str

    def __new__(cls, value: int, text: str = "") -> Self:
        member = int.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member


class Msg(IntEnum):
    """Control message types (RFC 2661 3.2, RFC 4951 4, RFC 5515 4)."""

    SCCRQ = 1
    SCCRP = 2
    SCCCN = 3
    STOPCCN = 4
    HELLO = 6
    OCRQ = 7
    OCRP = 8
    OCCN = 9
    ICRQ = 10
    ICRP = 11
    ICCN = 12
    CDN = 14
    WEN = 15
    SLI = 16
    FSQ = 21
    FSR = 22
    CSUN = 28
    CSURQ = 29


class StopCcn(_Code):
    """Why a control connection ends: the result code of a StopCCN (RFC 2661 4.4.2, RFC 3308 3)."""

    CLEAR_REQUEST = 1, "general request to clear the control connection"
    GENERAL_ERROR = 2, "general error, see the error code"
    ALREADY_EXISTS = 3, "control channel already exists"
    NOT_AUTHORISED = 4, "requester is not authorised to establish a control channel"
    UNSUPPORTED_VERSION = 5, "protocol version not supported, the error code is the highest one that is"
    SHUTTING_DOWN = 6, "requester is being shut down"
    FSM_ERROR = 7, "finite state machine error"
    CCDS_MISMATCH = 8, "control connection differentiated services mismatch"


class Cdn(_Code):
    """Why a session ends: the result code of a CDN (RFC 2661 4.4.2, RFC 3308 4)."""

    LOSS_OF_CARRIER = 1, "loss of carrier"
    GENERAL_ERROR = 2, "general error, see the error code"
    ADMINISTRATIVE = 3, "administrative reasons"
    NO_FACILITIES_TEMPORARY = 4, "no appropriate facilities at this time"
    NO_FACILITIES_PERMANENT = 5, "no appropriate facilities"
    INVALID_DESTINATION = 6, "invalid destination"
    NO_CARRIER = 7, "no carrier detected"
    BUSY = 8, "busy signal detected"
    NO_DIAL_TONE = 9, "no dial tone"
    NOT_IN_TIME = 10, "not established within the time allotted"
    NO_FRAMING = 11, "connected, but no appropriate framing was detected"
    SDS_MISMATCH = 12, "session differentiated services mismatch"


class General(_Code):
    """What went wrong in general: the error code beside a result (RFC 2661 4.4.2, RFC 3931 5.4.2)."""

    NONE = 0, "no general error"
    NO_CONTROL_CONNECTION = 1, "no control connection exists yet for this pair"
    WRONG_LENGTH = 2, "length is wrong"
    BAD_VALUE = 3, "a field is out of range, or a reserved field is not zero"
    NO_RESOURCES = 4, "insufficient resources now"
    INVALID_SESSION = 5, "the session id is invalid in this context"
    VENDOR_ERROR = 6, "vendor-specific error, see the text"
    TRY_ANOTHER = 7, "try another destination"
    UNKNOWN_MANDATORY = 8, "unknown AVP with the M bit set"
    TRY_ANOTHER_DIRECTED = 9, "try another destination, named in the text"


class PppCause(_Code):
    """Why PPP ended: the code of the PPP Disconnect Cause AVP (RFC 3145 3)."""

    NO_INFORMATION = 0, "no information available"
    ADMINISTRATIVE = 1, "administrative disconnect"
    NO_LCP_RENEGOTIATION = 2, "LCP renegotiation is disabled and no proxy LCP was sent"
    NORMAL = 3, "LCP Terminate-Request sent"
    ENCRYPTION_REFUSED = 4, "compulsory encryption was refused"
    LCP_TIMEOUT = 5, "LCP negotiation timed out"
    NO_LCP = 6, "no recognisable LCP packet was received"
    LOOPBACK = 7, "magic number error, link possibly looped back"
    ECHO_TIMEOUT = 8, "LCP echo timeout"
    MP_ENDPOINT = 9, "unexpected endpoint discriminator for the multilink bundle"
    MP_MRRU = 10, "unexpected MRRU for the multilink bundle"
    MP_SHORT_SEQUENCE = 11, "unexpected short sequence number option for the multilink bundle"
    CALLBACK_REFUSED = 12, "compulsory call-back was refused"
    AUTH_TIMEOUT = 13, "authentication timed out"
    MP_NAME = 14, "unexpected authenticated name for the multilink bundle"
    AUTH_PROTOCOL = 15, "no acceptable authentication protocol"
    AUTH_FAILED = 16, "authentication failed"
    NCP_TIMEOUT = 17, "NCP negotiation timed out"
    NO_NCP = 18, "no NCP available"
    NO_ADDRESS = 19, "no agreement on addresses"
    ADDRESS_NOT_PERMITTED = 20, "user not permitted to use any address"


class CauseDirection(_Code):
    """Whose side a PPP disconnect cause speaks of (RFC 3145 2); each cause gives 1 and 2 its own meaning."""

    GLOBAL = 0, "global error"
    AT_PEER = 1, "at peer"
    AT_LOCAL = 2, "at local"


class PeerError(HoldfastError):
    """A peer's fault. `code` and `error` answer it: a StopCCN ends its tunnel, a CDN its session."""

    def __init__(self, code: StopCcn | Cdn, error: General = General.NONE, text: str = "") -> None:
        super().__init__(code, error, text)
        self.code, self.error, self.text = code, error, text

    def __str__(self) -> str:
        scope = "StopCCN" if isinstance(self.code, StopCcn) else "CDN"
        return f"{self.text or self.code.text} ({scope} {self.code.value}/{self.error.value})"
