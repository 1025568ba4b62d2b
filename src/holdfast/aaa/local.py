"""Users and pools from the configuration.

Invariants: an address is in use by one session at most, fixed ones included; a fixed address that lies in a pool's
range is never given out by the pool; a wrong password and an unknown user cannot be told apart, by time or by text.
"""

from collections.abc import Iterable
from hashlib import md5
from hmac import compare_digest
from typing import Final

import msgspec

from holdfast.aaa.pool import AddressPool, AddressTaken
from holdfast.core.auth import CHAP, PAP, Accept, Answer, Credentials, Reject
from holdfast.records import SessionRecord

DENIED: Final = Reject("authentication failed")
NO_ADDRESS: Final = Reject("no address is free", temporary=True)
IN_USE: Final = Reject("the user's address is in use", temporary=True)

_NOBODY: Final = b"\x00 nobody"
"""Compared with when the user is unknown, so that it takes as long."""


class User(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Who may connect. `address` is a fixed one; "" takes one from `pool`, by name; "" is the first pool."""

    name: str
    secret: bytes
    address: str = ""
    pool: str = ""


class LocalAuthenticator:
    """An `Authenticator` that has all it needs at hand and always answers at once."""

    __slots__ = ("_default", "_fixed", "_fixed_used", "_pools", "_users")

    def __init__(
        self, users: Iterable[User], pools: Iterable[tuple[str, int, int]], own_address: str = ""
    ) -> None:
        """`pools`: name, first and last address (as integers) of each; `own_address` is never given out."""
        self._users = {user.name: user for user in users}
        self._fixed = frozenset(user.address for user in self._users.values() if user.address)
        excluded = [number(address) for address in (*self._fixed, own_address) if address]
        self._pools = {name: AddressPool(name, first, last, excluded) for name, first, last in pools}
        self._default = next(iter(self._pools), "")
        self._fixed_used: set[str] = set()

    def authenticate(self, credentials: Credentials, held: str = "") -> Answer:
        """See `Authenticator`."""
        user = self._users.get(credentials.name)
        if not _proved(credentials, user.secret if user is not None else _NOBODY) or user is None:
            return DENIED
        if held:
            return Accept(user=user.name, address=held, pool=self._pool_holding(held))
        if user.address:
            if user.address in self._fixed_used:
                return IN_USE
            self._fixed_used.add(user.address)
            return Accept(user=user.name, address=user.address)
        pool = self._pools.get(user.pool or self._default)
        address = pool.allocate() if pool is not None else None
        if pool is None or address is None:
            return NO_ADDRESS
        return Accept(user=user.name, address=dotted(address), pool=pool.name)

    def release(self, pool: str, address: str) -> None:
        """See `Authenticator`."""
        if not pool:
            self._fixed_used.discard(address)
        elif pool in self._pools:
            self._pools[pool].release(number(address))

    def reserve(self, record: SessionRecord) -> str:
        """See `Authenticator`. Where the address belongs is what the configuration says now, not the record."""
        if record.aaa is None or record.ppp is None or not record.ppp.peer_ip:
            return ""
        address = record.ppp.peer_ip
        pool = self._pool_holding(address)
        if pool:
            self._pools[pool].take(number(address))
        elif address in self._fixed_used:
            raise AddressTaken(address)
        else:
            self._fixed_used.add(address)
        return pool

    def _pool_holding(self, address: str) -> str:
        """The pool that an address belongs to; "" for a fixed one, and for one that is of no pool any more."""
        if address in self._fixed:
            return ""
        return next((pool.name for pool in self._pools.values() if number(address) in pool), "")


def number(address: str) -> int:
    """A dotted quad as an integer."""
    a, b, c, d = address.split(".")
    return int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)


def dotted(address: int) -> str:
    """An integer as a dotted quad."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def _proved(credentials: Credentials, secret: bytes) -> bool:
    """Whether the credentials show knowledge of `secret` (RFC 1994 4.1; PAP: the secret itself)."""
    if credentials.method == CHAP:
        known = bytes((credentials.chap_id,)) + secret + credentials.challenge
        return compare_digest(md5(known, usedforsecurity=False).digest(), credentials.response)
    return credentials.method == PAP and compare_digest(secret, credentials.password)
