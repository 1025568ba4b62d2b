"""A journal in virtual time: it answers and fails as `state.Journal` does, and writes to a `Disk`.

Invariants: one commit at a time takes everything that waits, in the order of submission; it is on the disk all at
once, a moment before anybody hears of it. After a failed commit records are refused, deletions are kept and owed, and
the disk is tried once a second. What a crash finds uncommitted or owed is lost.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.core.clock import MILLISECOND, SECOND, Duration
from holdfast.daemon.runner import Done
from holdfast.lab.sim.host import Disk
from holdfast.lab.sim.loop import VirtualLoop
from holdfast.records.writes import Save, Write
from holdfast.state.errors import Fault, JournalError

FULL: Final = JournalError(Path("journal.db"), Fault.FULL)
LAZY_S: Final = 1.0
PROBE_S: Final = 1.0
NOTICE: Final = MILLISECOND
"""From the disk to the event loop: in between the process may die knowing nothing."""


class Luck(NamedTuple):
    """How one commit goes."""

    takes: Duration
    succeeds: bool


class VirtualJournal:
    """The journal of one process. `boundary` is called before anything that outlives the process."""

    def __init__(
        self,
        disk: Disk,
        loop: VirtualLoop,
        draw: Callable[[], Luck],
        boundary: Callable[[], None],
        on_health: Callable[[bool], None],
    ) -> None:
        self._disk, self._loop, self._draw = disk, loop, draw
        self._boundary, self._on_health = boundary, on_health
        self._waiting: list[tuple[Sequence[Write], Done | None]] = []
        self._owed: list[Write] = []
        self._busy = False
        self._lazy = False
        self._failing = False

    def submit(self, writes: Sequence[Write], done: Done | None) -> None:
        """As `state.Journal.submit`; who does not wait is written within a second."""
        self._boundary()
        if self._failing:
            self._turn_away([(writes, done)])
            return
        self._waiting.append((writes, done))
        if done is not None:
            self._commit()
        elif not self._lazy:
            self._lazy = True
            self._loop.call_later(LAZY_S, self._commit)

    @property
    def at_rest(self) -> bool:
        """Whether nobody waits, nothing is owed, and writing works."""
        waited_for = any(done is not None for _, done in self._waiting)
        return not (waited_for or self._owed or self._failing)

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to the disk, waited for or not."""
        return not self._waiting and not self._busy

    def _commit(self) -> None:
        if self._busy or self._failing or not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        self._busy, self._lazy = True, False
        luck = self._draw()
        self._loop.call_later(luck.takes / SECOND, lambda: self._finish(batch, luck.succeeds))

    def _finish(self, batch: list[tuple[Sequence[Write], Done | None]], succeeds: bool) -> None:
        self._boundary()
        self._busy = False
        if succeeds:
            self._disk.apply(write for writes, _ in batch for write in writes)
            self._answer(batch, None)
        else:
            self._failing = True
            self._on_health(False)
            self._turn_away([*batch, *self._waiting])
            self._waiting = []
            self._loop.call_later(PROBE_S, self._probe)
        self._commit()

    def _turn_away(self, batch: list[tuple[Sequence[Write], Done | None]]) -> None:
        self._owed += [write for writes, _ in batch for write in writes if not isinstance(write, Save)]
        self._answer(batch, FULL)

    def _answer(self, batch: list[tuple[Sequence[Write], Done | None]], error: JournalError | None) -> None:
        def tell() -> None:
            self._boundary()
            for _, done in batch:
                if done is not None:
                    done(error)

        if any(done is not None for _, done in batch):
            self._loop.call_later(NOTICE / SECOND, tell)

    def _probe(self) -> None:
        if not self._draw().succeeds:
            self._loop.call_later(PROBE_S, self._probe)
            return
        self._boundary()
        self._disk.apply(self._owed)
        self._owed = []
        self._failing = False
        self._on_health(True)
        self._commit()
