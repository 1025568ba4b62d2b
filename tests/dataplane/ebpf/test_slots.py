"""Slots over a piece of memory: whose they are, and that nobody counts from another one's packets."""

import mmap
from collections.abc import Iterator

import pytest

from holdfast.dataplane.ebpf.slots import WORDS, Slots
from holdfast.records import Counters

COUNT = 8


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, 8 * WORDS * COUNT) as made:
        yield made


def start(memory: mmap.mmap, found: dict[int, int]) -> Slots:
    """What the next process makes of it, which finds these sessions installed."""
    slots = Slots(memory, COUNT)
    slots.adopt(found)
    return slots


def test_a_slot_that_was_used_before_a_restart_is_zeroed_for_its_next_session(memory: mmap.mmap) -> None:
    slots = start(memory, {})
    assert [slots.take(key) for key in (11, 12, 13)] == [0, 1, 2]
    slots.settle()
    slots.leave(12)
    slots.leave(13)
    slots.forget([12, 13])
    slots.close()
    slots = start(memory, {11: 0})
    used = [slots.take(key) for key in range(21, 21 + COUNT - 1)]
    assert sorted(filter(None, used)) == list(range(1, COUNT))
    assert sorted(slots.to_zero) == [1, 2]
    slots.close()


def test_what_a_session_left_is_kept_for_it_over_a_restart(memory: mmap.mmap) -> None:
    slots = start(memory, {})
    slots.take(11)
    slots.take(12)
    slots.settle()
    slots.leave(12)
    slots.close()
    slots = start(memory, {11: 0})
    assert slots.take(12) == 1
    assert slots.to_zero == []
    slots.close()


def test_a_process_killed_before_it_zeroes_leaves_nobody_anothers_counters(memory: mmap.mmap) -> None:
    slots = start(memory, {})
    slots.take_all(range(11, 11 + COUNT))
    slots.settle()
    slots.leave(12)
    slots.forget([12])
    slots.take(21)
    assert slots.to_zero == [1]
    slots.close()
    slots = start(memory, {11: 0})
    slots.take(21)
    assert slots.to_zero == [1]
    slots.close()


def test_a_process_killed_while_a_session_goes_on_from_its_record_leaves_that_to_the_next(
    memory: mmap.mmap,
) -> None:
    slots = start(memory, {})
    slot = slots.take(11)
    assert slot is not None
    slots.resume(slot, Counters(1, 100, 2, 200))
    slots.close()
    slots = start(memory, {})
    assert slots.take(11) in slots.fresh, "so that it is told again where to go on"
    for key in range(21, 21 + COUNT):
        slots.take(key)
    assert not any(any(slots.view[at + 1 : at + WORDS]) for at in range(0, WORDS * COUNT, WORDS))
    slots.close()


def test_what_was_given_back_before_it_was_settled_is_nobodys(memory: mmap.mmap) -> None:
    slots = start(memory, {})
    slots.take(11)
    slots.take(12)
    slots.give_back(12)
    slots.settle()
    slots.close()
    slots = start(memory, {11: 0})
    slots.take_all(range(21, 21 + COUNT - 1))
    assert slots.to_zero == [1], "it has been used"
    slots.close()
