"""What sessions have counted goes into their records now and then, so that a plane that begins anew goes on from there.

Invariants: nobody waits for these writes, which ride along with others or go by themselves after a second; one step
looks at `STEP` sessions and writes those of them that have moved, so neither the event loop nor a commit grows with
their number; a total never goes backwards.

In the eBPF plane counters outlive the daemon, and these matter only after a reboot. In the others a daemon that is
killed takes with it what was counted since each session's turn: `INTERVAL_S`, and `STEP_S` more for every `STEP`
sessions. A planned stop writes everything.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Protocol

from holdfast.core.errors import LocalError
from holdfast.daemon.effects import Persist
from holdfast.daemon.line import Line
from holdfast.dataplane.contract import UnknownSession
from holdfast.records import Counters
from holdfast.records.writes import Recount

INTERVAL_S: Final = 10.0
STEP: Final = 100
STEP_S: Final = 0.1


class Plane(Protocol):
    """What is needed of the data plane."""

    def counters(self, key: int) -> Counters: ...
    def all_counters(self) -> dict[int, Counters]: ...


class Loop(Protocol):
    """What is needed of the event loop."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object: ...


class Accounting:
    """Keeps the totals in the records of a node's sessions young."""

    def __init__(
        self,
        lines: Mapping[int, Line],
        plane: Plane,
        loop: Loop,
        perform: Callable[[Persist], object],
        report: Callable[[LocalError], object],
    ) -> None:
        """`perform` carries out an effect; `report` hears of a data plane that does not answer."""
        self._lines, self._plane, self._loop = lines, plane, loop
        self._perform, self._report = perform, report
        self._turn: Iterator[int] = iter(())

    def begin(self) -> None:
        """Write from now on."""
        self._loop.call_later(INTERVAL_S, self._begin_turn)

    def flush(self) -> None:
        """Have everything written as it is now."""
        try:
            self._record(self._plane.all_counters().items())
        except LocalError as error:
            self._report(error)

    def _begin_turn(self) -> None:
        self._turn = iter(list(self._lines))
        self._step()

    def _step(self) -> None:
        keys = list(islice(self._turn, STEP))
        try:
            self._record(self._counted(keys))
        except LocalError as error:
            self._report(error)
        if len(keys) < STEP:
            self.begin()
        else:
            self._loop.call_later(STEP_S, self._step)

    def _counted(self, keys: Iterable[int]) -> Iterator[tuple[int, Counters]]:
        for key in keys:
            try:
                yield key, self._plane.counters(key)
            except UnknownSession:  # it does not forward yet, or not any more
                continue

    def _record(self, counted: Iterable[tuple[int, Counters]]) -> None:
        """Write the totals of those sessions that have a record, and have moved since it was written."""
        writes: list[Recount] = []
        for key, since in counted:
            line = self._lines.get(key)
            if line is None or not line.recorded or line.link.record is None:
                continue
            total = line.counter_base.at_least(since)
            if total != line.counter_base:
                line.counter_base = total
                writes.append(Recount(line.record(line.link.record)))
        if writes:
            self._perform(Persist(0, tuple(writes)))
