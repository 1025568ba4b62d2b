"""The receive path's shortcut: the six octets of an AVP's header say all that decoding its value needs.

Peers send the same few headers for ever, so each is taken apart once and then found by its octets. Only the
plain case has a shape: an AVP that belongs in the message, in the clear, of a length that it may have.
Everything else is told apart at leisure (`wire.decoding`).

Invariant: the number of shapes is bounded whatever peers send, for only short values are remembered.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from holdfast.wire.avp import H_BIT, HEADER, HEADER_LENGTH, LENGTH_MASK, RESERVED_BITS, Avp
from holdfast.wire.dictionary import RANDOM_VECTOR

Shape: TypeAlias = tuple[int, int, Callable[[bytes], Any], Callable[[Any], bool] | None, bool]
"""`(key, octets of value, decode, valid, repeats)` of an AVP, as its `Avp` has them."""

REMEMBERED_LENGTH: Final = 64
"""Values longer than this are rare; remembering their lengths too would let a peer fill memory."""


class Shapes(dict[bytes, Shape | None]):
    """Shapes of one message's AVPs by header octets. `shapes[octets]` never fails: None for no shape."""

    __slots__ = ("_allowed",)

    def __init__(self, allowed: Mapping[int, Avp[Any]]) -> None:
        super().__init__()
        self._allowed = allowed

    def __missing__(self, octets: bytes) -> Shape | None:
        if len(octets) < HEADER_LENGTH:
            return None
        flags, vendor, kind = HEADER.unpack(octets)
        avp = self._allowed.get(vendor << 16 | kind)
        size = (flags & LENGTH_MASK) - HEADER_LENGTH
        if avp is None or avp is RANDOM_VECTOR or flags & (H_BIT | RESERVED_BITS) or size not in avp.sizes:
            return None
        shape = (avp.key, size, avp.layout.decode, avp.valid, avp.repeats)
        if size <= REMEMBERED_LENGTH:
            self[octets] = shape
        return shape
