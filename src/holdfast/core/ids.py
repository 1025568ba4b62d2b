"""Local tunnel and session ids: unpredictable (RFC 2661 9.1), never 0, not soon reused (RFC 4951 3.3).

Invariant: an id is handed out only if it is neither in use nor among the last `remember` that were freed, for as
long as the space allows; when it does not, the least recently used one goes first (F-70).
"""

from collections import deque
from collections.abc import Callable, Iterable

from holdfast.core.errors import LocalError

RandomBytes = Callable[[int], bytes]
"""Returns that many unpredictable bytes; injected, so that a simulation can be repeated from a seed."""

REMEMBERED = 1024
_TRIES = 64


class IdsExhausted(LocalError):
    """Every id of the space is in use."""


class IdPool:
    """Ids from 1 to `highest` for one space (all tunnels of a node, or the sessions of one tunnel)."""

    __slots__ = ("_highest", "_random", "_recent", "_recent_set", "_remember", "_used")

    def __init__(self, random: RandomBytes, highest: int = 0xFFFF, remember: int = REMEMBERED) -> None:
        self._random = random
        self._highest = highest
        self._remember = remember
        self._used: set[int] = set()
        self._recent: deque[int] | None = None
        self._recent_set: set[int] | None = None

    def __len__(self) -> int:
        """How many ids are in use."""
        return len(self._used)

    def reserve(self, ids: Iterable[int]) -> None:
        """Take ids that live in a record, before any new one is allocated (T-18)."""
        self._used.update(ids)

    def remember(self, ids: Iterable[int]) -> None:
        """Treat ids as recently freed, oldest first (from the endpoint record)."""
        for i in ids:
            self._note(i)

    @property
    def recent(self) -> list[int]:
        """Recently freed ids, oldest first."""
        return list(self._recent or ())

    def freed_recently(self, i: int) -> bool:
        """Whether `i` is among the remembered ids."""
        return self._recent_set is not None and i in self._recent_set

    def allocate(self, avoid: Callable[[int], bool] = lambda i: False) -> int:
        """A fresh id, and if that can be had none to `avoid`. Raises IdsExhausted."""
        used, recent = self._used, self._recent_set or ()
        width = 2 if self._highest <= 0xFFFF else 4
        for _ in range(_TRIES):
            i = int.from_bytes(self._random(width), "big")
            if 0 < i <= self._highest and i not in used and i not in recent and not avoid(i):
                used.add(i)
                return i
        i = self._fallback()
        used.add(i)
        return i

    def peek(self) -> int:
        """An id that is free now, not taken: for a refusal, which needs one that names nothing (RFC 2661 4.4.4)."""
        i = self.allocate()
        self._used.discard(i)
        return i

    def free(self, i: int) -> None:
        """Give an id back; it is not handed out again soon."""
        if i in self._used:
            self._used.discard(i)
            self._note(i)

    def _note(self, i: int) -> None:
        if self._recent is None or self._recent_set is None:
            self._recent, self._recent_set = deque(), set()
        if i in self._recent_set:
            self._recent.remove(i)
        self._recent.append(i)
        self._recent_set.add(i)
        if len(self._recent) > self._remember:
            self._recent_set.discard(self._recent.popleft())

    def _fallback(self) -> int:
        """The space is nearly full: any free id that is not recent, else the least recently used one."""
        recent = self._recent_set or set()
        start = int.from_bytes(self._random(4), "big") % self._highest
        for k in range(self._highest):
            i = (start + k) % self._highest + 1
            if i not in self._used and i not in recent:
                return i
        lru = next((i for i in self._recent or () if i not in self._used), None)
        if lru is None:
            raise IdsExhausted(f"all {self._highest} ids are in use")
        return lru
