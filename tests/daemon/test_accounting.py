"""Totals on their way into records: whose turn it is, what is written, and what is not."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.core.errors import LocalError
from holdfast.daemon.accounting import INTERVAL_S, STEP, STEP_S, Accounting
from holdfast.daemon.effects import Persist
from holdfast.dataplane.contract import UnknownSession
from holdfast.records import Counters, SessionRecord
from holdfast.records.writes import Recount
from state.samples import session


class Scene:
    """Sessions with records, a plane that says what they have counted, and a clock that the test moves."""

    def __init__(self, count: int) -> None:
        self.lines: dict[int, Any] = {key: self.line(key) for key in range(1, count + 1)}
        self.counted: dict[int, Counters] = {}
        self.written: list[SessionRecord] = []
        self.groups: list[int] = []
        self.faults: list[LocalError] = []
        self.broken = False
        self.next: tuple[float, Callable[[], object]] = (0, lambda: None)
        self.accounting = Accounting(self.lines, self, self, self.perform, self.faults.append)

    def line(self, key: int) -> Any:
        """A line as far as it is looked at."""
        line = SimpleNamespace(
            key=key, recorded=True, counter_base=Counters(), link=SimpleNamespace(record=object())
        )
        line.record = lambda ppp: replace(session(1, key), counter_base=line.counter_base)
        return line

    def counters(self, key: int) -> Counters:
        if self.broken:
            raise LocalError("no answer")
        if key not in self.counted:
            raise UnknownSession(str(key))
        return self.counted[key]

    def all_counters(self) -> dict[int, Counters]:
        if self.broken:
            raise LocalError("no answer")
        return dict(self.counted)

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        self.next = (delay, callback)
        return None

    def perform(self, effect: Persist) -> None:
        assert effect.lane == 0
        self.groups.append(len(effect.writes))
        for write in effect.writes:
            assert isinstance(write, Recount)
            self.written.append(write.record)

    def step(self) -> float:
        """What is next happens; returns how long it has waited."""
        delay, callback = self.next
        callback()
        return delay


def test_each_has_its_turn_a_few_at_a_time() -> None:
    scene = Scene(2 * STEP + 50)
    scene.counted = dict.fromkeys(scene.lines, Counters(1, 100, 2, 200))
    scene.accounting.begin()
    assert [scene.step() for _ in range(3)] == [INTERVAL_S, STEP_S, STEP_S]
    assert scene.groups == [STEP, STEP, 50]
    assert {record.counter_base for record in scene.written} == {Counters(1, 100, 2, 200)}
    assert scene.step() == INTERVAL_S


def test_only_what_has_moved_is_written() -> None:
    scene = Scene(3)
    scene.counted = dict.fromkeys(scene.lines, Counters(1, 100, 2, 200))
    scene.accounting.begin()
    scene.step()
    scene.counted[2] = Counters(2, 150, 2, 200)
    scene.step()
    scene.step()
    assert scene.groups == [3, 1]
    assert (scene.written[-1].local_id, scene.written[-1].counter_base) == (2, Counters(2, 150, 2, 200))


@pytest.mark.parametrize("why", ["no record yet", "no PPP", "does not forward", "ended meanwhile"])
def test_some_are_left_out(why: str) -> None:
    scene = Scene(1)
    scene.counted = {1: Counters(1, 100, 2, 200), 9: Counters(1, 1, 1, 1)}
    scene.accounting.begin()
    if why == "no record yet":
        scene.lines[1].recorded = False
    elif why == "no PPP":
        scene.lines[1].link.record = None
    elif why == "does not forward":
        del scene.counted[1]
    else:
        del scene.lines[1]
    scene.step()
    scene.accounting.flush()
    assert scene.written == []


def test_a_total_never_goes_backwards() -> None:
    scene = Scene(1)
    scene.lines[1].counter_base = Counters(5, 500, 5, 500)
    scene.counted = {1: Counters(1, 100, 9, 900)}
    scene.accounting.flush()
    assert scene.lines[1].counter_base == Counters(5, 500, 9, 900)


def test_a_plane_that_does_not_answer_is_told_of_and_asked_again() -> None:
    scene = Scene(1)
    scene.counted = {1: Counters(1, 100, 2, 200)}
    scene.broken = True
    scene.accounting.begin()
    scene.step()
    scene.accounting.flush()
    assert len(scene.faults) == 2
    scene.broken = False
    scene.step()
    assert scene.groups == [1]
