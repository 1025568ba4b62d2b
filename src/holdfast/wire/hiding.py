"""Hiding of AVP values with a shared secret (RFC 2661 4.3).

A hidden value is its original length, the value and any padding, XORed with a chain of MD5 digests. Nothing
proves that the secret was right: a wrong one shows only as a length that does not fit (V2-39).
"""

from hashlib import md5
from struct import Struct
from typing import Final

from holdfast.core.errors import Malformed

BLOCK: Final = 16
_WORD: Final = Struct(">H")


def hide(avp_type: int, value: bytes, secret: bytes, vector: bytes, padding: bytes = b"") -> bytes:
    """The hidden form of `value`, 2 octets longer plus `padding`; `vector` is the Random Vector's."""
    plain = _WORD.pack(len(value)) + value + padding
    hidden = bytearray()
    mask = _first_mask(avp_type, secret, vector)
    for at in range(0, len(plain), BLOCK):
        block = _xor(plain[at : at + BLOCK], mask)
        hidden += block
        mask = _next_mask(secret, block)
    return bytes(hidden)


def unhide(avp_type: int, hidden: bytes, secret: bytes, vector: bytes) -> bytes:
    """The original value. Raises Malformed if its length does not fit, as with a wrong secret."""
    plain = bytearray()
    mask = _first_mask(avp_type, secret, vector)
    for at in range(0, len(hidden), BLOCK):
        block = hidden[at : at + BLOCK]
        plain += _xor(block, mask)
        mask = _next_mask(secret, block)
    room = len(plain) - _WORD.size
    if room < 0:
        raise Malformed("hidden AVP", 0, _WORD.size, len(plain))
    (length,) = _WORD.unpack_from(plain)
    if length > room:
        raise Malformed("original length of a hidden AVP", 0, length, room)
    return bytes(plain[_WORD.size : _WORD.size + length])


def _first_mask(avp_type: int, secret: bytes, vector: bytes) -> bytes:
    return md5(_WORD.pack(avp_type) + secret + vector, usedforsecurity=False).digest()


def _next_mask(secret: bytes, block: bytes) -> bytes:
    return md5(secret + block, usedforsecurity=False).digest()


def _xor(block: bytes, mask: bytes) -> bytes:
    """`block` XOR the first octets of `mask`; only octets that exist are hidden."""
    size = len(block)
    return (int.from_bytes(block) ^ int.from_bytes(mask[:size])).to_bytes(size)
