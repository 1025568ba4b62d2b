"""What an AVP is: how its value is laid out, its M and H bits, the messages it belongs to (RFC 2661 4.1).

An `Avp` is declared once, in `wire.dictionary`, and is all that anyone knows of it: calling it encodes a
value, `wire.messages` decodes by it, the generated documents list it.

Invariant: `Layout.decode` is given only values whose length lies in `Layout.sizes`, must use all of it, and
raises nothing but Malformed; `decode(encode(v)) == v` for every value that `encode` accepts.
"""

import struct
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, Generic, TypeVar

import msgspec

from holdfast.core.errors import LocalError, Malformed
from holdfast.wire.codes import Msg
from holdfast.wire.hiding import hide

T = TypeVar("T")

M_BIT: Final = 0x8000
H_BIT: Final = 0x4000
RESERVED_BITS: Final = 0x3C00
LENGTH_MASK: Final = 0x03FF

HEADER_LENGTH: Final = 6
MAX_VALUE: Final = LENGTH_MASK - HEADER_LENGTH
"""Longest value of an AVP: the ten bits of its length count the header (V2-180)."""

TEXT_LIMIT: Final = 250
"""Characters kept of a text for people; even in UTF-8's longest form they fit into one AVP."""

HEADER: Final = Struct(">HHH")


class Layout(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """How a value lies in its octets: `sizes` is the range of lengths that can be decoded."""

    name: str
    sizes: range
    decode: Callable[[bytes], T]
    encode: Callable[[T], bytes]


def fixed(name: str, size: int, decode: Callable[[bytes], T], encode: Callable[[T], bytes]) -> Layout[T]:
    """A layout of exactly `size` octets."""
    return Layout(name, range(size, size + 1), decode, encode)


def unsigned(size: int) -> Layout[int]:
    """An unsigned integer of `size` octets: 2, 4 or 8."""
    pack = Struct({2: ">H", 4: ">I", 8: ">Q"}[size]).pack
    return fixed(f"u{8 * size}", size, int.from_bytes, pack)


def octets(low: int = 0, high: int = MAX_VALUE) -> Layout[bytes]:
    """Octets as they are."""
    return Layout("octets", range(low, high + 1), bytes, bytes)


def ascii_text(low: int = 0, high: int = MAX_VALUE) -> Layout[str]:
    """ASCII text. Other octets are kept one to one, as Latin-1: a peer's name stays itself."""
    return Layout("ASCII", range(low, high + 1), _from_latin1, _to_latin1)


def utf8_text(low: int = 0, high: int = MAX_VALUE) -> Layout[str]:
    """Text in UTF-8; anything else is malformed."""
    return Layout("UTF-8", range(low, high + 1), _from_utf8, str.encode)


def flag() -> Layout[bool]:
    """No value: the AVP's presence says it."""
    return fixed("presence", 0, lambda _: True, lambda _: b"")


S = TypeVar("S", bound=msgspec.Struct)


def packed(layout: str, form: str, make: type[S]) -> Layout[S]:
    """A struct of integers. `form` is a `struct` format whose pad octets are reserved fields (F-89)."""
    codec = Struct(form)
    names = make.__struct_fields__

    def decode(value: bytes) -> S:
        return make(*codec.unpack(value))

    def encode(value: S) -> bytes:
        return codec.pack(*[getattr(value, name) for name in names])

    return fixed(layout, codec.size, decode, encode)


def advisory(text: bytes) -> str:
    """Text for people from a peer: what is not UTF-8 is replaced, what is too long is cut."""
    return text.decode("utf-8", "replace")[:TEXT_LIMIT]


def _from_latin1(value: bytes) -> str:
    return value.decode("latin-1")


def _to_latin1(value: str) -> bytes:
    return value.encode("latin-1")


def _from_utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as e:
        raise Malformed("its text, which is not UTF-8", e.start) from e


class EncodedAvp(msgspec.Struct, frozen=True, gc=False):
    """An AVP ready to be sent: `data` is the whole of it, header included, in the clear."""

    avp: "Avp[Any]"
    data: bytes


class RawAvp(msgspec.Struct, frozen=True, gc=False):
    """A peer's AVP that the dictionary does not know, or whose reserved bits are set (V2-20)."""

    flags: int
    vendor: int
    type: int
    value: bytes

    @property
    def mandatory(self) -> bool:
        """Whether the M bit is set."""
        return bool(self.flags & M_BIT)

    def __str__(self) -> str:
        return f"AVP {self.type}" if self.vendor == 0 else f"AVP {self.vendor}/{self.type}"


class Avp(Generic[T]):
    """One entry of the dictionary. Its `key` is unique: the type, with the vendor above it."""

    __slots__ = (
        "_head",
        "allowed",
        "hidable",
        "key",
        "layout",
        "mandatory",
        "name",
        "repeats",
        "required",
        "rfc",
        "sizes",
        "type",
        "valid",
        "vendor",
    )

    def __init__(
        self,
        type: int,
        name: str,
        layout: Layout[T],
        rfc: str,
        *,
        m: bool,
        h: bool = True,
        required: frozenset[Msg] = frozenset(),
        optional: frozenset[Msg] = frozenset(),
        repeats: bool = False,
        valid: Callable[[T], bool] | None = None,
        vendor: int = 0,
    ) -> None:
        """`m`: sent with the M bit. `h`: may be hidden. `valid`: what else a value must satisfy."""
        self.type = type
        self.vendor = vendor
        self.key = vendor << 16 | type
        self.name = name
        self.layout = layout
        self.sizes = layout.sizes
        self.rfc = rfc
        self.mandatory = m
        self.hidable = h
        self.required = required
        self.allowed = required | optional
        self.repeats = repeats
        self.valid = valid
        self._head = self.header(self.sizes.start) if len(self.sizes) == 1 else None

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        number = f"{self.type}" if self.vendor == 0 else f"{self.vendor}/{self.type}"
        return f"{self.name} ({number})"

    def __call__(self, value: T) -> EncodedAvp:
        """Encode `value`. Raises LocalError, which does not show it, for one that may not be sent."""
        try:
            data = self.layout.encode(value)
        except (struct.error, ValueError):
            raise LocalError(f"{self}: a value that cannot be encoded") from None
        if len(data) not in self.sizes:
            raise LocalError(f"{self}: a value of {len(data)} octets")
        if self.valid is not None and not self.valid(value):
            raise LocalError(f"{self}: a value that is out of range")
        return EncodedAvp(self, (self._head or self.header(len(data))) + data)

    def header(self, size: int, flags: int = 0) -> bytes:
        """The six octets before a value of `size` octets, with our M bit and `flags`."""
        m = M_BIT if self.mandatory else 0
        return HEADER.pack(m | flags | HEADER_LENGTH + size, self.vendor, self.type)

    def decode(self, value: bytes) -> T:
        """The value of a received AVP. Raises Malformed if it has a wrong length, layout or range."""
        if len(value) not in self.sizes:
            raise Malformed("its length", 0, self.sizes.start, len(value))
        decoded = self.layout.decode(value)
        if self.valid is not None and not self.valid(decoded):
            raise Malformed("its value", 0)
        return decoded


class Hiding(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Hide the AVPs `avps` of a message. `vector`, 16 random octets or more, is the Random Vector AVP's."""

    secret: bytes
    vector: bytes
    avps: frozenset[Avp[Any]]
    padding: bytes = b""

    def apply(self, encoded: EncodedAvp) -> bytes:
        """The AVP's octets, hidden if it is one of those. Raises LocalError if it must not be."""
        avp = encoded.avp
        if avp not in self.avps:
            return encoded.data
        if not avp.hidable:
            raise LocalError(f"{avp} must not be hidden")
        hidden = hide(avp.type, encoded.data[HEADER_LENGTH:], self.secret, self.vector, self.padding)
        if len(hidden) > MAX_VALUE:
            raise LocalError(f"{avp} is too long to be hidden")
        return avp.header(len(hidden), H_BIT) + hidden
