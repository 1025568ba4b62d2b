"""Errors by whose fault they are.

`Malformed`: bytes that are not what they claim. `LocalError`: our bug, our configuration, our resources; it never
looks like a peer's fault. What a peer did wrong *in the protocol* is `wire.codes.PeerError`, which carries its
answer. No error is told apart by its text.
"""


class HoldfastError(Exception):
    """The root of every error that this package raises on purpose."""


class Malformed(HoldfastError):
    """Bytes that cannot be decoded: `what` was read at `offset`, needing `need` octets (or a value that fits)."""

    def __init__(self, what: str, offset: int, need: int = 0, have: int = 0) -> None:
        super().__init__(what, offset, need, have)
        self.what, self.offset, self.need, self.have = what, offset, need, have

    def __str__(self) -> str:
        return f"{self.what} at offset {self.offset}: needs {self.need}, has {self.have}"


class LocalError(HoldfastError):
    """Something on our own side: a misuse, a bad configuration, an exhausted resource."""
