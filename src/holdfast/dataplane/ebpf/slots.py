"""Slots: the places in which the programs count a session's packets, and whose each of them is.

The owners are kept in pinned memory that the daemon maps, with the packets that the daemon itself forwarded for a
session; a process that is killed loses none of it. A slot that its session has left stays its own until the session's
record is gone for good: a restart that finds the record again finds the counters too.

Invariants: a slot has one owner; slots at and above `high` were never used, so their counters are zero (a mark on those
that were, and belong to nobody, tells a successor). A slot that was given away is in `fresh`, and has its owner in memory
only from `settle` on: the caller has zeroed the counters of those in `to_zero` by then, and no packets of the owner can
have come. So whenever the process is killed, nobody inherits what another one has counted, or counts anew.
"""

from array import array
from collections import deque
from collections.abc import Collection, Iterable
from mmap import mmap
from typing import Final

from msgspec.structs import astuple

from holdfast.records import Counters

WORDS: Final = 5
"""Of 64 bits in a slot's memory: the owner's session key, then packets and octets from the peer, then to the peer."""
SLOT_SIZE: Final = WORDS * 8
"""Octets."""
NOBODY: Final = 2**64 - 1
"""The owner of a slot that was used and is free; no session key is as large. 0 is that of one that never was used."""


class Slots:
    """The slots of one set of maps. `by_key` has those of installed sessions."""

    def __init__(self, memory: mmap, count: int) -> None:
        self.count = count
        self.view = memoryview(memory).cast("Q")
        self.by_key: dict[int, int] = {}
        self.high = 0
        self.to_zero: list[int] = []
        self.fresh: set[int] = set()
        self._free: deque[int] = deque()
        self._left: dict[int, int] = {}
        self._unsettled: list[tuple[int, array[int]]] = []
        self._returned: list[int] = []

    def adopt(self, found: dict[int, int]) -> None:
        """Take over installed sessions (key to slot) from a predecessor, and whatever else it left behind."""
        self.by_key = found
        owners = array("Q", self.view[: self.count * WORDS].tobytes())[::WORDS]
        owned = dict(zip(owners, range(self.count), strict=True))
        self._left = {key: owned[key] for key in owned.keys() - found.keys() - {0, NOBODY}}
        taken = {*found.values(), *self._left.values()}
        self.high = max(max(taken, default=-1), owned.get(NOBODY, -1)) + 1  # dict() keeps the last
        if len(taken) < self.high:
            self._free.extend(slot for slot in range(self.high) if slot not in taken)

    def take(self, key: int) -> int | None:
        """A slot for a session that has none: its own of before if it still is, None if all are in use."""
        slot = self._left.pop(key, None)
        if slot is None:
            if self.high < self.count:
                slot = self.high
                self.high += 1
            elif self._free:
                slot = self._free.popleft()
                self.view[slot * WORDS + 1 : slot * WORDS + WORDS] = _ZEROS
                self.to_zero.append(slot)
            else:
                return None
            self._unsettled.append((slot, array("Q", (key,))))
            self.fresh.add(slot)
        self.by_key[key] = slot
        return slot

    def take_all(self, keys: Collection[int]) -> None:
        """A slot for each of these sessions that have none, as far as there are any (`take`)."""
        if len(keys) <= _FEW:
            for key in keys:
                self.take(key)
            return
        kept = [key for key in keys if key in self._left] if self._left else []
        fresh = [key for key in keys if key not in self._left] if kept else list(keys)
        first, room = self.high, self.count - self.high
        unused, others = fresh[:room], fresh[room:]
        self.high += len(unused)
        self._unsettled.append((first, array("Q", unused)))
        self.by_key.update(zip(unused, range(first, self.high), strict=True))
        self.fresh.update(range(first, self.high))
        for key in (*kept, *others):
            self.take(key)

    def give_back(self, key: int) -> None:
        """A session that has taken a slot cannot be installed; it keeps what it had before."""
        slot = self.leave(key)
        if slot is not None and slot in self.fresh:
            self.forget((key,))
            self._returned.append(slot)

    def resume(self, slot: int, total: Counters) -> None:
        """The session that has just taken this slot goes on counting from there; it is an LNS's."""
        at = slot * WORDS
        self.view[at] = NOBODY
        self.view[at + 1 : at + WORDS] = memoryview(array("Q", astuple(total)))

    def settle(self) -> None:
        """Every slot that was given away counts from where it shall: they are their sessions' now, and a successor's."""
        for first, keys in self._unsettled:
            self.view[first * WORDS : (first + len(keys)) * WORDS : WORDS] = memoryview(keys)
        for slot in self._returned:
            self.view[slot * WORDS] = NOBODY
        self._unsettled.clear()
        self._returned.clear()
        self.to_zero.clear()
        self.fresh.clear()

    def add(self, slot: int, more: Counters) -> None:
        """This, too, has been counted for its session."""
        for place, number in enumerate(astuple(more), slot * WORDS + 1):
            self.view[place] += number

    def leave(self, key: int) -> int | None:
        """A session is no longer installed; its slot is kept for it. Returns the slot, None if it had none."""
        slot = self.by_key.pop(key, None)
        if slot is not None:
            self._left[key] = slot
        return slot

    def forget(self, keys: Iterable[int]) -> None:
        """These sessions will never come back: what they left may be taken by others."""
        for key in keys:
            slot = self._left.pop(key, None)
            if slot is not None:
                self.view[slot * WORDS] = NOBODY
                self._free.append(slot)

    def forget_all_left(self) -> None:
        """No session that is not installed has a record."""
        self.forget(list(self._left))

    def close(self) -> None:
        """Let go of the memory."""
        self.view.release()


_FEW = 16
_ZEROS = memoryview(array("Q", [0] * (WORDS - 1)))
