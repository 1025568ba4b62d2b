"""A pool of IPv4 addresses: the one that has been free for longest goes first, in constant time.

A late packet for a session that is gone then meets nobody for as long as possible. Addresses never used come first,
in order; after them the released ones, oldest first. Memory grows with the addresses in use or once used, not with
the size of the range.
"""

from collections import deque
from collections.abc import Iterable

from holdfast.core.errors import LocalError


class AddressTaken(LocalError):
    """The address is not free."""


class AddressPool:
    """The addresses `first` to `last` (as integers, both included), less `excluded` ones."""

    __slots__ = ("_fresh", "_released", "_released_ahead", "_used", "first", "last", "name")

    def __init__(self, name: str, first: int, last: int, excluded: Iterable[int] = ()) -> None:
        self.name, self.first, self.last = name, first, last
        self._used: set[int] = {a for a in excluded if first <= a <= last}
        self._fresh = first
        self._released: deque[int] = deque()
        self._released_ahead: set[int] = set()

    def __contains__(self, address: int) -> bool:
        """Whether the address belongs to the pool, free or not."""
        return self.first <= address <= self.last

    @property
    def in_use(self) -> int:
        """Addresses that cannot be given out now."""
        return len(self._used)

    def allocate(self) -> int | None:
        """The address that has been free for longest; None if none is free."""
        used = self._used
        while self._fresh <= self.last:
            address = self._fresh
            self._fresh += 1
            if address in self._released_ahead:
                self._released_ahead.discard(address)
            elif address not in used:
                used.add(address)
                return address
        if not self._released:
            return None
        address = self._released.popleft()
        used.add(address)
        return address

    def take(self, address: int) -> None:
        """Reserve a certain address, before the first `allocate`. Raises AddressTaken."""
        if address in self._used:
            raise AddressTaken(f"{address} of pool {self.name}")
        self._used.add(address)

    def release(self, address: int) -> None:
        """Take an address back; one that is not in use is ignored."""
        if address in self._used:
            self._used.discard(address)
            self._released.append(address)
            if address >= self._fresh:
                self._released_ahead.add(address)
