"""A received control message, and how a defect of it is answered."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from holdfast.wire.avp import Avp, EncodedAvp, RawAvp
from holdfast.wire.codes import Cdn, General, PeerError, StopCcn
from holdfast.wire.table import SPECS

T = TypeVar("T")


class Fault(msgspec.Struct, frozen=True, gc=False):
    """What makes a received message unacceptable: the error code to answer with, and the words."""

    error: General
    text: str


class Message(msgspec.Struct, frozen=True, gc=False):
    """A received message. `type` is a `Msg`, or the number of a type that is not known.

    `mandatory` is the M bit of its Message Type. `values` are those of the AVPs that were understood, by
    key; of one that may repeat, a list. `unknown` are those that were not. `bad` are the keys of those that
    were there but could not be read (T-37). `ignored` counts the AVPs left out; `fault` is the first defect
    that matters.
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
        found: T | None = value
        return found

    def need(self, avp: Avp[T]) -> T:
        """The AVP's value. Raises PeerError without it."""
        value = self.get(avp)
        if value is None:
            how = "malformed" if avp.key in self.bad else "without"
            raise self.answer(Fault(General.VENDOR_ERROR, f"{how} {avp}"))
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
            raise self.answer(self.fault)

    def answer(self, fault: Fault) -> PeerError:
        """How `fault` is answered in this message's scope: with CDN a session's, StopCCN a tunnel's."""
        spec = SPECS.get(self.type)
        if spec is None:
            return PeerError(StopCcn.GENERAL_ERROR, fault.error, f"message type {self.type}: {fault.text}")
        code = Cdn.GENERAL_ERROR if spec.session else StopCcn.GENERAL_ERROR
        return PeerError(code, fault.error, f"{spec.msg.name}: {fault.text}")

    def avps(self) -> list[EncodedAvp]:
        """The AVPs that were understood, encoded again, in the clear."""
        if not self.values:
            return []
        allowed = SPECS[self.type].allowed
        return [encoded for key in self.values for encoded in self._encoded(allowed[key])]

    def _encoded(self, avp: Avp[T]) -> list[EncodedAvp]:
        return [avp(value) for value in self.all(avp)]
