"""Decoding of control message bodies: as far as it can be taken, with the first defect that matters.

A defect of an optional AVP costs that AVP. A defect of a mandatory one, an unknown AVP with the M bit
(V2-21, V2-22) or a missing one (V2-28) is `Message.fault`; only a body whose AVPs cannot be told apart
raises Malformed. Whether a fault ends anything is for the caller; in a message that ends something anyway,
and in FSQ and FSR, nothing is one.

An AVP that we know but that does not belong in the message is recognised, so its M bit means nothing: it is
left out and counted. Of AVPs that may not repeat the first one wins (V2-31).
"""

from collections.abc import Mapping
from struct import Struct
from typing import Any, Final

from holdfast.core.errors import Malformed
from holdfast.wire.avp import (
    H_BIT,
    HEADER,
    HEADER_LENGTH,
    LENGTH_MASK,
    M_BIT,
    RESERVED_BITS,
    Avp,
    RawAvp,
)
from holdfast.wire.codes import General
from holdfast.wire.dictionary import ENTRIES, RANDOM_VECTOR
from holdfast.wire.hiding import unhide
from holdfast.wire.message import Fault, Message
from holdfast.wire.shapes import Shapes
from holdfast.wire.table import SPECS, MessageSpec

_MESSAGE_TYPE: Final = Struct(">HHHH")
_ALL_BUT_M: Final = 0xFFFF ^ M_BIT
_KNOWN: Final = frozenset(e.key for e in ENTRIES)
_NO_AVPS: Final[Mapping[int, Avp[Any]]] = {}
_NO_SHAPES: Final = Shapes(_NO_AVPS)


def decode(body: bytes | memoryview, secret: bytes = b"") -> Message:
    """A message from its body, which must not be empty (that is a ZLB). `secret` is for hidden AVPs.

    Raises Malformed if Message Type is not the first AVP, plain and of its length, or if an AVP does not fit.
    """
    body = bytes(body)
    end = len(body)
    at = _MESSAGE_TYPE.size
    if end < at:
        raise Malformed("Message Type", 0, at, end)
    flags, vendor, kind, number = _MESSAGE_TYPE.unpack_from(body)
    if flags & _ALL_BUT_M != at or vendor or kind:
        raise Malformed("Message Type, which comes first", 0, at, flags)
    spec = SPECS.get(number)
    shapes = _NO_SHAPES if spec is None else spec.shapes
    values: dict[int, Any] = {}
    odd: _OddAvps | None = None
    while at < end:
        start = at + HEADER_LENGTH
        shape = shapes[body[at:start]]
        if shape is not None:
            key, size, read, valid, repeats = shape
            stop = start + size
            if stop <= end and (repeats or key not in values):
                try:
                    value = read(body[start:stop])
                except Malformed:
                    pass  # what is wrong with it is told below, as for every AVP that is not plain
                else:
                    if valid is None or valid(value):
                        at = stop
                        if not repeats:
                            values[key] = value
                        elif key in values:
                            values[key].append(value)
                        else:
                            values[key] = [value]
                        continue
        if odd is None:
            odd = _OddAvps(values, _NO_AVPS if spec is None else spec.allowed, secret)
        at = odd.take(body, at)
    if spec is not None and odd is None and values.keys() >= spec.required:
        return Message(spec.msg, bool(flags & M_BIT), values)
    return _defective(number, bool(flags & M_BIT), spec, values, odd or _OddAvps(values, _NO_AVPS, secret))


def _defective(
    number: int, mandatory: bool, spec: MessageSpec | None, values: dict[int, Any], odd: "_OddAvps"
) -> Message:
    """A message that is not known, or not as it should be."""
    fault = odd.fault
    if spec is None:
        # of a message that we do not understand, only its own M bit matters (V2-27)
        fault = Fault(General.UNKNOWN_MANDATORY, "unknown and mandatory") if mandatory else None
    elif spec.forgiving:
        fault = None
    elif fault is None and spec.mandatory and (missing := spec.required - values.keys()):
        fault = Fault(General.VENDOR_ERROR, f"without {spec.names(missing)}")
    kind = number if spec is None else spec.msg
    return Message(kind, mandatory, values, tuple(odd.unknown), frozenset(odd.bad), odd.ignored, fault)


class _OddAvps:
    """The AVPs of a body that are not plain: hidden, repeated, unknown, malformed, or not of this message."""

    __slots__ = ("_allowed", "_secret", "_values", "_vector", "bad", "fault", "ignored", "unknown")

    def __init__(self, values: dict[int, Any], allowed: Mapping[int, Avp[Any]], secret: bytes) -> None:
        self._values = values
        self._allowed = allowed
        self._secret = secret
        self._vector = b""
        self.unknown: list[RawAvp] = []
        self.bad: set[int] = set()
        self.ignored = 0
        self.fault: Fault | None = None

    def take(self, body: bytes, at: int) -> int:
        """Look at the AVP at `at`; returns where the next one begins. Raises Malformed if it does not fit."""
        start = at + HEADER_LENGTH
        if start > len(body):
            raise Malformed("AVP header", at, HEADER_LENGTH, len(body) - at)
        flags, vendor, kind = HEADER.unpack_from(body, at)
        stop: int = at + (flags & LENGTH_MASK)
        if not start <= stop <= len(body):
            raise Malformed("AVP length", at, flags & LENGTH_MASK, len(body) - at)
        self._judge(RawAvp(flags, vendor, kind, body[start:stop]))
        return stop

    def _judge(self, raw: RawAvp) -> None:
        key = raw.vendor << 16 | raw.type
        if key not in _KNOWN or raw.flags & RESERVED_BITS:
            self.unknown.append(raw)
            self._leave_out(raw, General.UNKNOWN_MANDATORY, f"unknown {raw}")
            return
        avp = self._allowed.get(key)
        if avp is None or (key in self._values and not avp.repeats):
            self.ignored += 1
            return
        try:
            plain = self._reveal(avp, raw)
            value = avp.decode(plain)
        except Malformed as e:
            self.bad.add(key)
            fits = e.need == e.have
            error = General.BAD_VALUE if fits else General.WRONG_LENGTH
            self._leave_out(raw, error, f"malformed {avp}: {e.what}")
            return
        if not avp.repeats:
            self._values[key] = value
            return
        self._values.setdefault(key, []).append(value)
        if avp is RANDOM_VECTOR:
            self._vector = value

    def _reveal(self, avp: Avp[Any], raw: RawAvp) -> bytes:
        """The value in the clear. Raises Malformed if it is hidden but must not be, or cannot be read."""
        if not raw.flags & H_BIT:
            return raw.value
        if not avp.hidable:
            raise Malformed("it must not be hidden", 0)
        if not self._secret:
            raise Malformed("hidden, but no secret is shared", 0)
        if not self._vector:
            raise Malformed("hidden, but no Random Vector came before it", 0)
        return unhide(avp.type, raw.value, self._secret, self._vector)

    def _leave_out(self, raw: RawAvp, error: General, text: str) -> None:
        """Go on without an AVP. With the M bit that is a fault; the first one is kept."""
        self.ignored += 1
        if raw.mandatory and self.fault is None:
            self.fault = Fault(error, text)
