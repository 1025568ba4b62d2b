"""Control messages: which AVPs belong in each, encoding and decoding of their bodies (RFC 2661 4, 6; RFC 4951 4).

What is sent is strict: every mandatory AVP, none that does not belong, at most what the recovery rules allow. What is
received is taken as far as it can be: a defect of an optional AVP costs that AVP, the first defect that matters is
`Message.fault`, and only a body whose AVPs cannot be told apart raises Malformed.
"""

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final, TypeVar

import msgspec

from holdfast.core.errors import LocalError, Malformed
from holdfast.wire.avp import (
    H_BIT,
    HEADER,
    HEADER_LENGTH,
    LENGTH_MASK,
    M_BIT,
    RESERVED_BITS,
    Avp,
    EncodedAvp,
    Hiding,
    RawAvp,
)
from holdfast.wire.codes import Cdn, General, Msg, PeerError, StopCcn
from holdfast.wire.dictionary import (
    ENTRIES,
    FAILOVER_CAPABILITY,
    MESSAGE_TYPE,
    RANDOM_VECTOR,
    SUGGESTED_CONTROL_SEQUENCE,
    TIE_BREAKER,
    TUNNEL_RECOVERY,
)
from holdfast.wire.hiding import unhide

__all__ = [
    "MAX_FSS_PER_MESSAGE", "SPECS", "EncodedAvp", "Fault", "Hiding", "Message", "MessageSpec", "Msg", "RawAvp",
    "decode", "encode",
]  # fmt: skip

T = TypeVar("T")

MAX_FSS_PER_MESSAGE: Final = 64
"""Sessions per FSQ or FSR (T-36): 12 + 8 + 64 x 16 = 1044 octets, no fragment on a 1280-octet path."""


class MessageSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One row of the message table. `required` and `allowed` leave out Message Type, which every message begins with.

    `session`: a fault ends a session (CDN), not the tunnel (StopCCN). `mandatory`: the M bit of its Message Type.
    `forgiving`: nothing in it is a fault, because it ends something anyway, or because its RFC says so (F-86, T-31).
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


def _spec(
    msg: Msg,
    rfc: str,
    direction: str,
    *,
    session: bool = False,
    mandatory: bool = True,
    forgiving: bool = False,
) -> MessageSpec:
    entries = [e for e in ENTRIES if e is not MESSAGE_TYPE]
    head = bytearray(MESSAGE_TYPE(msg).data)
    if not mandatory:
        head[0] &= ~(M_BIT >> 8) & 0xFF
    return MessageSpec(
        msg=msg,
        rfc=rfc,
        direction=direction,
        session=session,
        mandatory=mandatory,
        forgiving=forgiving,
        required=frozenset(e.key for e in entries if msg in e.required),
        allowed={e.key: e for e in entries if msg in e.allowed},
        head=bytes(head),
    )


SPECS: Final[Mapping[int, MessageSpec]] = {
    s.msg.value: s
    for s in (
        _spec(Msg.SCCRQ, "2661 6.1", "initiator → responder"),
        _spec(Msg.SCCRP, "2661 6.2", "responder → initiator"),
        _spec(Msg.SCCCN, "2661 6.3", "initiator → responder"),
        _spec(Msg.STOPCCN, "2661 6.4", "either", forgiving=True),
        _spec(Msg.HELLO, "2661 6.5", "either"),
        _spec(Msg.OCRQ, "2661 6.9", "LNS → LAC", session=True),
        _spec(Msg.OCRP, "2661 6.10", "LAC → LNS", session=True),
        _spec(Msg.OCCN, "2661 6.11", "LAC → LNS", session=True),
        _spec(Msg.ICRQ, "2661 6.6", "LAC → LNS", session=True),
        _spec(Msg.ICRP, "2661 6.7", "LNS → LAC", session=True),
        _spec(Msg.ICCN, "2661 6.8", "LAC → LNS", session=True),
        _spec(Msg.CDN, "2661 6.12", "either", session=True, forgiving=True),
        _spec(Msg.WEN, "2661 6.13", "LAC → LNS", session=True),
        _spec(Msg.SLI, "2661 6.14", "LNS → LAC", session=True),
        _spec(Msg.FSQ, "4951 4.1", "either", mandatory=False, forgiving=True),
        _spec(Msg.FSR, "4951 4.2", "either", mandatory=False, forgiving=True),
        _spec(Msg.CSUN, "5515 4", "LAC → LNS", mandatory=False),
        _spec(Msg.CSURQ, "5515 4", "LNS → LAC", mandatory=False),
    )
}
"""The message table, by message type."""


def encode(msg: Msg, *avps: EncodedAvp, hiding: Hiding | None = None) -> bytes:
    """The body of a message: Message Type, then `avps` in their order. A ZLB has no body at all.

    With `hiding`, its Random Vector comes before them. Raises LocalError if the AVPs do not make such a message.
    """
    _check_shape(msg, tuple([e.avp for e in avps]))
    head = SPECS[msg].head
    if hiding is None:
        return head + b"".join([e.data for e in avps])
    return head + RANDOM_VECTOR(hiding.vector).data + b"".join([hiding.apply(e) for e in avps])


@lru_cache(maxsize=512)
def _check_shape(msg: Msg, avps: tuple[Avp[Any], ...]) -> None:
    """Whether these AVPs make such a message. We send few shapes, so each is looked at about once."""
    spec = SPECS[msg]
    present = {a.key for a in avps}
    for i, avp in enumerate(avps):
        if avp.key not in spec.allowed:
            raise LocalError(f"{avp} does not belong in {msg.name}")
        if not avp.repeats and avp in avps[:i]:
            raise LocalError(f"{avp} twice in {msg.name}")
    if missing := spec.required - present:
        raise LocalError(f"{msg.name} without {_names(spec, missing)}")
    if TUNNEL_RECOVERY.key in present and TIE_BREAKER.key not in present:
        raise LocalError("a recovery tunnel always has a tie breaker (RFC 4951 3.2.1)")
    if FAILOVER_CAPABILITY.key in present and present & {TUNNEL_RECOVERY.key, SUGGESTED_CONTROL_SEQUENCE.key}:
        raise LocalError("a recovery tunnel has no failover capability (RFC 4951 3.2.1)")


def _names(spec: MessageSpec, keys: frozenset[int]) -> str:
    return ", ".join(str(spec.allowed[k]) for k in sorted(keys))


class Fault(msgspec.Struct, frozen=True, gc=False):
    """What makes a received message unacceptable: the error code to answer with, and the words."""

    error: General
    text: str


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A received message. `type` is a `Msg`, or the number of a type that we do not know.

    `mandatory` is the M bit of its Message Type; `bad` holds the keys of AVPs that were there but could not be read;
    `ignored` counts the AVPs left out: unknown, malformed, repeated, or not of this message.
    """

    type: int
    mandatory: bool
    values: Mapping[int, Any]
    unknown: tuple[RawAvp, ...] = ()
    bad: frozenset[int] = frozenset()
    ignored: int = 0
    fault: Fault | None = None

    def __contains__(self, avp: Avp[Any]) -> bool:
        return avp.key in self.values

    def get(self, avp: Avp[T]) -> T | None:
        """The AVP's value, None without it; the first one of an AVP that may repeat."""
        value: Any = self.values.get(avp.key)
        if value is not None and avp.repeats:
            value = value[0]
        result: T | None = value
        return result

    def need(self, avp: Avp[T]) -> T:
        """The AVP's value. Raises PeerError without it."""
        value = self.get(avp)
        if value is None:
            what = "malformed" if avp.key in self.bad else "without"
            raise self.refuse(Fault(General.VENDOR_ERROR, f"{what} {avp}"))
        return value

    def all(self, avp: Avp[T]) -> list[T]:
        """Every value of an AVP, in the order of the message."""
        value: Any = self.values.get(avp.key)
        if value is None:
            return []
        return list(value) if avp.repeats else [value]

    def check(self) -> None:
        """Raise PeerError if the message has a fault."""
        if self.fault is not None:
            raise self.refuse(self.fault)

    def refuse(self, fault: Fault) -> PeerError:
        """The error that answers `fault` in the scope of this message: CDN for a session's, StopCCN for a tunnel's."""
        spec = SPECS.get(self.type)
        code = Cdn.GENERAL_ERROR if spec is not None and spec.session else StopCcn.GENERAL_ERROR
        name = spec.msg.name if spec is not None else f"message type {self.type}"
        return PeerError(code, fault.error, f"{name}: {fault.text}")

    def avps(self) -> list[EncodedAvp]:
        """The AVPs that were understood, encoded again in the clear."""
        return [e for key in self.values for e in self._encoded(SPECS[self.type].allowed[key])]

    def _encoded(self, avp: Avp[T]) -> list[EncodedAvp]:
        return [avp(value) for value in self.all(avp)]


_FIRST_AVP = Struct(">HHHH")
_NONE: Final[Mapping[int, Avp[Any]]] = {}


def decode(body: bytes | memoryview, secret: bytes = b"") -> Message:
    """A message from its body, which must not be empty (that is a ZLB). `secret` is for hidden AVPs.

    Raises Malformed if Message Type is not the first AVP, plain and of its length, or if an AVP does not fit.
    """
    body = bytes(body)
    end = len(body)
    if end < _FIRST_AVP.size:
        raise Malformed("Message Type", 0, _FIRST_AVP.size, end)
    flags, vendor, kind, number = _FIRST_AVP.unpack_from(body)
    if flags & ~M_BIT != _FIRST_AVP.size or vendor or kind:
        raise Malformed("Message Type, which must come first", 0)
    spec = SPECS.get(number)
    allowed = spec.allowed if spec is not None else _NONE
    values: dict[int, Any] = {}
    rest: _Irregular | None = None
    at = _FIRST_AVP.size
    while at < end:
        start = at + HEADER_LENGTH
        if start > end:
            raise Malformed("AVP header", at, HEADER_LENGTH, end - at)
        flags2, vendor, kind = HEADER.unpack_from(body, at)
        stop = at + (flags2 & LENGTH_MASK)
        if not start <= stop <= end:
            raise Malformed("AVP length", at, flags2 & LENGTH_MASK, end - at)
        key = vendor << 16 | kind
        avp = allowed.get(key)
        at = stop
        if (
            avp is not None
            and not flags2 & (H_BIT | RESERVED_BITS)
            and not avp.repeats
            and key not in values
            and stop - start in avp.sizes
        ):
            try:
                value = avp.layout.decode(body[start:stop])
            except Malformed:
                pass
            else:
                if avp.valid is None or avp.valid(value):
                    values[key] = value
                    continue
        if rest is None:
            rest = _Irregular(values, allowed, secret)
        rest.take(RawAvp(flags2, vendor, kind, body[start:stop]))
    return _message(number, bool(flags & M_BIT), spec, values, rest)


def _message(
    number: int, mandatory: bool, spec: MessageSpec | None, values: dict[int, Any], rest: "_Irregular | None"
) -> Message:
    fault = None if rest is None else rest.fault
    if spec is None:
        # of a message that we do not understand, only its own M bit matters (V2-27)
        fault = Fault(General.UNKNOWN_MANDATORY, "unknown mandatory message type") if mandatory else None
        number_or_msg = number
    else:
        number_or_msg = spec.msg
        if spec.forgiving:
            fault = None
        elif fault is None and spec.mandatory and not values.keys() >= spec.required:
            missing = spec.required - values.keys()
            fault = Fault(General.VENDOR_ERROR, f"without {_names(spec, missing)}")
    if rest is None:
        return Message(type=number_or_msg, mandatory=mandatory, values=values, fault=fault)
    return Message(
        type=number_or_msg,
        mandatory=mandatory,
        values=values,
        unknown=tuple(rest.unknown),
        bad=frozenset(rest.bad),
        ignored=rest.ignored,
        fault=fault,
    )


class _Irregular:
    """The rest of a body: AVPs that are hidden, repeated, unknown, malformed or not of this message."""

    __slots__ = ("allowed", "bad", "fault", "ignored", "secret", "unknown", "values", "vector")

    def __init__(self, values: dict[int, Any], allowed: Mapping[int, Avp[Any]], secret: bytes) -> None:
        self.values = values
        self.allowed = allowed
        self.secret = secret
        self.vector = b""
        self.unknown: list[RawAvp] = []
        self.bad: set[int] = set()
        self.ignored = 0
        self.fault: Fault | None = None

    def take(self, raw: RawAvp) -> None:
        key = raw.vendor << 16 | raw.type
        if key not in KNOWN or raw.flags & RESERVED_BITS:
            self.unknown.append(raw)
            self.leave(raw, General.UNKNOWN_MANDATORY, f"unknown {raw}")
            return
        avp = self.allowed.get(key)
        if avp is None or (key in self.values and not avp.repeats):
            self.ignored += 1
            return
        try:
            value = avp.decode(self.plain(avp, raw))
        except Malformed as e:
            self.bad.add(key)
            wrong_length = len(raw.value) not in avp.sizes and not raw.flags & H_BIT
            self.leave(
                raw, General.WRONG_LENGTH if wrong_length else General.BAD_VALUE, f"malformed {avp}: {e.what}"
            )
            return
        if not avp.repeats:
            self.values[key] = value
            return
        self.values.setdefault(key, []).append(value)
        if avp is RANDOM_VECTOR:
            self.vector = value

    def plain(self, avp: Avp[Any], raw: RawAvp) -> bytes:
        """The AVP's value in the clear. Raises Malformed if it is hidden and must not be, or cannot be read."""
        if not raw.flags & H_BIT:
            return raw.value
        if not avp.hidable:
            raise Malformed(f"{avp} must not be hidden", 0)
        if not self.secret or not self.vector:
            raise Malformed("hidden without " + ("a Random Vector" if self.secret else "a shared secret"), 0)
        return unhide(avp.type, raw.value, self.secret, self.vector)

    def leave(self, raw: RawAvp, error: General, text: str) -> None:
        """Leave an AVP out: with the M bit that is a fault, and the first one counts."""
        if not raw.mandatory:
            self.ignored += 1
        elif self.fault is None:
            self.fault = Fault(error, text)


KNOWN: Final = frozenset(e.key for e in ENTRIES)
