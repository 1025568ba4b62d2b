"""Arithmetic on 16-bit sequence numbers (RFC 2661 section 5.8). Ns and Nr are compared nowhere else.

Invariant: of the 65,536 values, `last` and the 32,767 before it are old; the 32,768 after it are new.
"""

MODULUS = 0x10000
HALF = 0x8000


def succ(a: int) -> int:
    """The number after `a`."""
    return (a + 1) & 0xFFFF


def add(a: int, n: int) -> int:
    """`a` moved by `n` (which may be negative), modulo 2^16."""
    return (a + n) & 0xFFFF


def distance(start: int, end: int) -> int:
    """How many steps forward from `start` to `end`: 0…65535."""
    return (end - start) & 0xFFFF


def is_duplicate(ns: int, last: int) -> bool:
    """Whether `ns` is `last`, the last number received in order, or one of the 32,767 before it."""
    return (last - ns) & 0xFFFF < HALF


def before(a: int, b: int) -> bool:
    """Whether `a` comes before `b` (by at most 32,767 steps)."""
    return a != b and (b - a) & 0xFFFF < HALF


def in_window(n: int, start: int, end: int) -> bool:
    """Whether `n` lies in `start`…`end`, both included, going forward."""
    return (n - start) & 0xFFFF <= (end - start) & 0xFFFF
