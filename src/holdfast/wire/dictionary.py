"""Every AVP that holdfast knows, each declared once: RFC 2661 4.4, 3145, 3308, 4951, 5515.

An entry's name is its RFC name; calling it encodes: `ASSIGNED_SESSION_ID(17)`. M is what we send (accel-ppp
drops a message whose known AVPs do not carry exactly the M bit of RFC 2661); of a peer's known AVP it is
not looked at. `required` and `optional` list the messages an AVP belongs to; the message table is made from
them.
"""

from struct import Struct
from typing import Any, Final, TypeVar

import msgspec

from holdfast.wire.avp import (
    TEXT_LIMIT,
    Avp,
    Layout,
    advisory,
    ascii_text,
    fixed,
    flag,
    octets,
    packed,
    unsigned,
    utf8_text,
)
from holdfast.wire.codes import Msg

T = TypeVar("T")

VERSION_1_0: Final = 0x0100
"""Protocol Version of L2TPv2: version 1, revision 0 (RFC 2661 4.4.3)."""

ASYNC_FRAMING: Final = 2
SYNC_FRAMING: Final = 1
ANALOG_BEARER: Final = 2
DIGITAL_BEARER: Final = 1
DEFAULT_WINDOW: Final = 4
"""Receive window of a peer that names none (RFC 2661 4.4.3)."""

ACCESS_LINE: Final = 3561
"""The vendor id of the access line AVPs: the DSL Forum (RFC 5515 5)."""


class ResultCode(msgspec.Struct, frozen=True, gc=False):
    """Why a tunnel or session ends: `StopCcn` or `Cdn`, `General`, words. Encoded as short as it can be."""

    result: int
    error: int = 0
    text: str = ""


class Q931Cause(msgspec.Struct, frozen=True, gc=False):
    """What the switched network said (RFC 2661 4.4.2)."""

    cause: int
    message: int
    text: str = ""


class PppDisconnect(msgspec.Struct, frozen=True, gc=False):
    """Why PPP ended (RFC 3145 2): `PppCause`, the protocol it speaks of or 0, `CauseDirection`, words."""

    cause: int
    protocol: int = 0
    direction: int = 0
    text: str = ""


class CallErrors(msgspec.Struct, frozen=True, gc=False):
    """Errors of a call's line since it began (RFC 2661 4.4.6)."""

    crc: int
    framing: int
    hardware_overruns: int
    buffer_overruns: int
    timeouts: int
    alignment: int


class Accm(msgspec.Struct, frozen=True, gc=False):
    """The LAC's async control character maps (RFC 2661 4.4.6)."""

    send: int
    receive: int


class FailoverCap(msgspec.Struct, frozen=True, gc=False):
    """What a side can survive (RFC 4951 5.1). Without `control` the recovery time is always 0 (F-9)."""

    control: bool
    data: bool
    recovery_time_ms: int = 0


class TunnelRecovery(msgspec.Struct, frozen=True, gc=False):
    """The tunnel to recover: its id at the sender of the AVP, and at the receiver (RFC 4951 5.2, F-87)."""

    recover_tunnel_id: int
    recover_remote_tunnel_id: int


class SuggestedSequence(msgspec.Struct, frozen=True, gc=False):
    """Ns and Nr with which the *receiver* of the AVP goes on after the reset (RFC 4951 5.3, F-43)."""

    ns: int
    nr: int


class SessionState(msgspec.Struct, frozen=True, gc=False):
    """A session's id at the sender of the AVP (0: not there) and at the receiver (RFC 4951 5.4, F-88)."""

    session_id: int
    remote_session_id: int


class ConnectSpeed(msgspec.Struct, frozen=True, gc=False):
    """A session, by its id at the receiver of the AVP, and its speeds; 0 in a query (RFC 5515 4)."""

    remote_session_id: int
    tx_bps: int = 0
    rx_bps: int = 0


_WORD = Struct(">H")
_CAUSE = Struct(">HB")
_DISCONNECT = Struct(">HHB")
_FAILOVER = Struct(">HI")
_C_BIT = 1
_D_BIT = 2


def _decode_result(value: bytes) -> ResultCode:
    (result,) = _WORD.unpack_from(value)
    if len(value) < 4:  # an odd octet of an error code is as good as none
        return ResultCode(result)
    (error,) = _WORD.unpack_from(value, 2)
    return ResultCode(result, error, advisory(value[4:]))


def _encode_result(code: ResultCode) -> bytes:
    if not code.error and not code.text:
        return _WORD.pack(code.result)
    return _WORD.pack(code.result) + _WORD.pack(code.error) + code.text[:TEXT_LIMIT].encode()


def _decode_q931(value: bytes) -> Q931Cause:
    cause, message = _CAUSE.unpack_from(value)
    return Q931Cause(cause, message, advisory(value[_CAUSE.size :]))


def _encode_q931(cause: Q931Cause) -> bytes:
    return _CAUSE.pack(cause.cause, cause.message) + cause.text[:TEXT_LIMIT].encode()


def _decode_disconnect(value: bytes) -> PppDisconnect:
    cause, protocol, direction = _DISCONNECT.unpack_from(value)
    return PppDisconnect(cause, protocol, direction, advisory(value[_DISCONNECT.size :]))


def _encode_disconnect(why: PppDisconnect) -> bytes:
    return _DISCONNECT.pack(why.cause, why.protocol, why.direction) + why.text[:TEXT_LIMIT].encode()


def _decode_failover(value: bytes) -> FailoverCap:
    bits, recovery_time_ms = _FAILOVER.unpack(value)
    control = bool(bits & _C_BIT)
    return FailoverCap(control, bool(bits & _D_BIT), recovery_time_ms if control else 0)


def _encode_failover(cap: FailoverCap) -> bytes:
    bits = (_C_BIT if cap.control else 0) | (_D_BIT if cap.data else 0)
    return _FAILOVER.pack(bits, cap.recovery_time_ms if cap.control else 0)


def _first_of_four(value: int) -> bytes:
    return bytes((value, 0, 0, 0))


def _is_octet(value: int) -> bool:
    return value <= 0xFF


def _c_or_d(cap: FailoverCap) -> bool:
    return cap.control or cap.data


_U16 = unsigned(2)
_U32 = unsigned(4)
_U64 = unsigned(8)
_LOW_OCTET: Layout[int] = fixed("u16, high octet reserved", 2, lambda value: value[1], _WORD.pack)
_PRESENCE = flag()
_RESULT = Layout("u16 result, u16 error, UTF-8", octets(2).sizes, _decode_result, _encode_result)
_Q931 = Layout("u16 cause, u8 message, text", octets(3).sizes, _decode_q931, _encode_q931)
_DISCONNECT_CAUSE = Layout(
    "u16 code, u16 protocol, u8 direction, UTF-8", octets(5).sizes, _decode_disconnect, _encode_disconnect
)
_FAILOVER_CAP = fixed("14 reserved bits, D, C, u32 ms", 6, _decode_failover, _encode_failover)
_RECOVERY = packed("4 reserved octets, u16 id, 2 reserved, u16 remote id", ">4xH2xH", TunnelRecovery)
_STATE = packed("4 reserved octets, u16 id, 2 reserved, u16 remote id", ">4xH2xH", SessionState)
_SEQUENCE = packed("2 reserved octets, u16 Ns, u16 Nr", ">2xHH", SuggestedSequence)
_ERRORS = packed("2 reserved octets, 6 x u32", ">2x6I", CallErrors)
_ACCM = packed("2 reserved octets, u32 send, u32 receive", ">2xII", Accm)
_SPEED = packed("2 reserved octets, u16 remote id, u32 tx, u32 rx", ">2xHII", ConnectSpeed)

_ANY = frozenset(Msg)
_SET_UP = frozenset({Msg.SCCRQ, Msg.SCCRP})
_SCCRQ = frozenset({Msg.SCCRQ})
_SCCRP = frozenset({Msg.SCCRP})
_REQUESTS = frozenset({Msg.ICRQ, Msg.OCRQ})
_ICRQ = frozenset({Msg.ICRQ})
_OCRQ = frozenset({Msg.OCRQ})
_CONNECTED = frozenset({Msg.ICCN, Msg.OCCN})
_ICCN = frozenset({Msg.ICCN})
_CALLS = frozenset({Msg.ICRQ, Msg.ICRP, Msg.OCRQ, Msg.OCRP})
_CDN = frozenset({Msg.CDN})

MESSAGE_TYPE = Avp(0, "Message Type", _U16, "2661 4.4.1", m=True, h=False, required=_ANY)
RANDOM_VECTOR = Avp(
    36, "Random Vector", octets(1), "2661 4.4.1", m=True, h=False, optional=_ANY, repeats=True
)

RESULT_CODE = Avp(1, "Result Code", _RESULT, "2661 4.4.2", m=True, h=False, required=_CDN | {Msg.STOPCCN})
Q931_CAUSE = Avp(12, "Q.931 Cause Code", _Q931, "2661 4.4.2", m=True, h=False, optional=_CDN)
PPP_DISCONNECT_CAUSE = Avp(
    46, "PPP Disconnect Cause Code", _DISCONNECT_CAUSE, "3145 2", m=False, optional=_CDN, repeats=True
)

PROTOCOL_VERSION = Avp(2, "Protocol Version", _U16, "2661 4.4.3", m=True, h=False, required=_SET_UP)
FRAMING_CAPABILITIES = Avp(3, "Framing Capabilities", _U32, "2661 4.4.3", m=True, required=_SET_UP)
BEARER_CAPABILITIES = Avp(4, "Bearer Capabilities", _U32, "2661 4.4.3", m=True, optional=_SET_UP)
TIE_BREAKER = Avp(5, "Tie Breaker", octets(8, 8), "2661 4.4.3", m=False, h=False, optional=_SCCRQ)
FIRMWARE_REVISION = Avp(6, "Firmware Revision", _U16, "2661 4.4.3", m=False, optional=_SET_UP)
HOST_NAME = Avp(7, "Host Name", ascii_text(1), "2661 4.4.3", m=True, h=False, required=_SET_UP)
VENDOR_NAME = Avp(8, "Vendor Name", utf8_text(), "2661 4.4.3", m=False, optional=_SET_UP)
ASSIGNED_TUNNEL_ID = Avp(
    9, "Assigned Tunnel ID", _U16, "2661 4.4.3", m=True, required=_SET_UP | {Msg.STOPCCN}, valid=bool
)
RECEIVE_WINDOW_SIZE = Avp(
    10, "Receive Window Size", _U16, "2661 4.4.3", m=True, h=False, optional=_SET_UP, valid=bool
)
CHALLENGE = Avp(11, "Challenge", octets(1), "2661 4.4.3", m=True, optional=_SET_UP)
CHALLENGE_RESPONSE = Avp(
    13, "Challenge Response", octets(16, 16), "2661 4.4.3", m=True, optional=_SCCRP | {Msg.SCCCN}
)

ASSIGNED_SESSION_ID = Avp(
    14, "Assigned Session ID", _U16, "2661 4.4.4", m=True, required=_CALLS | _CDN, valid=bool
)
CALL_SERIAL_NUMBER = Avp(15, "Call Serial Number", _U32, "2661 4.4.4", m=True, required=_REQUESTS)
MINIMUM_BPS = Avp(16, "Minimum BPS", _U32, "2661 4.4.4", m=True, required=_OCRQ)
MAXIMUM_BPS = Avp(17, "Maximum BPS", _U32, "2661 4.4.4", m=True, required=_OCRQ)
BEARER_TYPE = Avp(18, "Bearer Type", _U32, "2661 4.4.4", m=True, required=_OCRQ, optional=_ICRQ)
FRAMING_TYPE = Avp(19, "Framing Type", _U32, "2661 4.4.4", m=True, required=_CONNECTED | _OCRQ)
CALLED_NUMBER = Avp(21, "Called Number", ascii_text(), "2661 4.4.4", m=True, required=_OCRQ, optional=_ICRQ)
CALLING_NUMBER = Avp(22, "Calling Number", ascii_text(), "2661 4.4.4", m=True, optional=_ICRQ)
SUB_ADDRESS = Avp(23, "Sub-Address", ascii_text(), "2661 4.4.4", m=True, optional=_REQUESTS)
TX_CONNECT_SPEED = Avp(24, "(Tx) Connect Speed", _U32, "2661 4.4.4", m=True, required=_CONNECTED)
RX_CONNECT_SPEED = Avp(38, "Rx Connect Speed", _U32, "2661 4.4.4", m=False, optional=_CONNECTED)
PHYSICAL_CHANNEL_ID = Avp(25, "Physical Channel ID", _U32, "2661 4.4.4", m=False, optional=_ICRQ | {Msg.OCRP})
PRIVATE_GROUP_ID = Avp(37, "Private Group ID", octets(), "2661 4.4.4", m=False, optional=_ICCN)
SEQUENCING_REQUIRED = Avp(
    39, "Sequencing Required", _PRESENCE, "2661 4.4.4", m=True, h=False, optional=_CONNECTED
)

INITIAL_RECEIVED_CONFREQ = Avp(
    26, "Initial Received LCP CONFREQ", octets(), "2661 4.4.5", m=False, optional=_ICCN
)
LAST_SENT_CONFREQ = Avp(27, "Last Sent LCP CONFREQ", octets(), "2661 4.4.5", m=False, optional=_ICCN)
LAST_RECEIVED_CONFREQ = Avp(28, "Last Received LCP CONFREQ", octets(), "2661 4.4.5", m=False, optional=_ICCN)
PROXY_AUTHEN_TYPE = Avp(29, "Proxy Authen Type", _U16, "2661 4.4.5", m=False, optional=_ICCN)
PROXY_AUTHEN_NAME = Avp(30, "Proxy Authen Name", octets(), "2661 4.4.5", m=False, optional=_ICCN)
PROXY_AUTHEN_CHALLENGE = Avp(31, "Proxy Authen Challenge", octets(), "2661 4.4.5", m=False, optional=_ICCN)
PROXY_AUTHEN_ID = Avp(
    32, "Proxy Authen ID", _LOW_OCTET, "2661 4.4.5", m=False, optional=_ICCN, valid=_is_octet
)
PROXY_AUTHEN_RESPONSE = Avp(33, "Proxy Authen Response", octets(), "2661 4.4.5", m=False, optional=_ICCN)

CALL_ERRORS = Avp(34, "Call Errors", _ERRORS, "2661 4.4.6", m=True, required=frozenset({Msg.WEN}))
ACCM = Avp(35, "ACCM", _ACCM, "2661 4.4.6", m=True, required=frozenset({Msg.SLI}))

CONTROL_CONNECTION_DS = Avp(47, "Control Connection DS", _U16, "3308 3", m=False, optional=_SET_UP)
SESSION_DS = Avp(48, "Session DS", _U16, "3308 4", m=False, optional=_CALLS)

FAILOVER_CAPABILITY = Avp(
    76, "Failover Capability", _FAILOVER_CAP, "4951 5.1", m=False, optional=_SET_UP, valid=_c_or_d
)
TUNNEL_RECOVERY = Avp(77, "Tunnel Recovery", _RECOVERY, "4951 5.2", m=True, h=False, optional=_SCCRQ)
SUGGESTED_CONTROL_SEQUENCE = Avp(
    78, "Suggested Control Sequence", _SEQUENCE, "4951 5.3", m=False, optional=_SCCRP
)
FAILOVER_SESSION_STATE = Avp(
    79,
    "Failover Session State",
    _STATE,
    "4951 5.4",
    m=True,
    required=frozenset({Msg.FSQ, Msg.FSR}),
    repeats=True,
)

CONNECT_SPEED_UPDATE = Avp(
    97,
    "Connect Speed Update",
    _SPEED,
    "5515 6.1",
    m=False,
    required=frozenset({Msg.CSUN, Msg.CSURQ}),
    repeats=True,
)
CONNECT_SPEED_UPDATE_ENABLE = Avp(
    98, "Connect Speed Update Enable", _PRESENCE, "5515 6.2", m=False, optional=_ICRQ
)


def _access_line(type: int, name: str, section: str, layout: Layout[T]) -> Avp[T]:
    return Avp(type, name, layout, f"5515 {section}", m=False, optional=_ICRQ, vendor=ACCESS_LINE)


_LINE_ID = octets(2, 63)
_LINE_TYPE = fixed("u8, 3 reserved octets", 4, lambda value: value[0], _first_of_four)

AGENT_CIRCUIT_ID = _access_line(1, "Agent-Circuit-Id", "5.1", _LINE_ID)
AGENT_REMOTE_ID = _access_line(2, "Agent-Remote-Id", "5.2", _LINE_ID)
ACTUAL_RATE_UP = _access_line(129, "Actual-Data-Rate-Upstream", "5.3", _U64)
ACTUAL_RATE_DOWN = _access_line(130, "Actual-Data-Rate-Downstream", "5.4", _U64)
MINIMUM_RATE_UP = _access_line(131, "Minimum-Data-Rate-Upstream", "5.5", _U64)
MINIMUM_RATE_DOWN = _access_line(132, "Minimum-Data-Rate-Downstream", "5.6", _U64)
ATTAINABLE_RATE_UP = _access_line(133, "Attainable-Data-Rate-Upstream", "5.7", _U64)
ATTAINABLE_RATE_DOWN = _access_line(134, "Attainable-Data-Rate-Downstream", "5.8", _U64)
MAXIMUM_RATE_UP = _access_line(135, "Maximum-Data-Rate-Upstream", "5.9", _U64)
MAXIMUM_RATE_DOWN = _access_line(136, "Maximum-Data-Rate-Downstream", "5.10", _U64)
LOW_POWER_RATE_UP = _access_line(137, "Minimum-Data-Rate-Upstream-Low-Power", "5.11", _U64)
LOW_POWER_RATE_DOWN = _access_line(138, "Minimum-Data-Rate-Downstream-Low-Power", "5.12", _U64)
MAXIMUM_DELAY_UP = _access_line(139, "Maximum-Interleaving-Delay-Upstream", "5.13", _U32)
ACTUAL_DELAY_UP = _access_line(140, "Actual-Interleaving-Delay-Upstream", "5.14", _U32)
MAXIMUM_DELAY_DOWN = _access_line(141, "Maximum-Interleaving-Delay-Downstream", "5.15", _U32)
ACTUAL_DELAY_DOWN = _access_line(142, "Actual-Interleaving-Delay-Downstream", "5.16", _U32)
LOOP_ENCAPSULATION = _access_line(144, "Access-Loop-Encapsulation", "5.17", octets(3, 3))
ACCESS_LINE_TYPE = _access_line(145, "ANCP Access Line Type", "5.18", _LINE_TYPE)
IWF_SESSION = _access_line(254, "IWF-Session", "5.19", _U32)

ENTRIES: Final[tuple[Avp[Any], ...]] = tuple(e for e in list(globals().values()) if isinstance(e, Avp))
"""Every entry, in the order of declaration."""
