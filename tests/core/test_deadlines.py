"""One deadline for many machines."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.deadlines import Deadlines

settings = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 50))), max_size=60)


def test_a_deadline_moved_later_is_not_early() -> None:
    deadlines: Deadlines[int] = Deadlines()
    deadlines.set(1, 10)
    deadlines.set(1, 20)
    assert deadlines.next() == 20
    assert deadlines.due(19) == []
    assert deadlines.due(20) == [1]


def test_a_deadline_moved_earlier_is_not_late() -> None:
    deadlines: Deadlines[int] = Deadlines()
    deadlines.set(1, 20)
    deadlines.set(1, 10)
    assert deadlines.due(10) == [1]
    assert deadlines.due(30) == []


def test_a_deadline_taken_away_never_comes() -> None:
    deadlines: Deadlines[int] = Deadlines()
    deadlines.set(1, 10)
    deadlines.set(1, None)
    assert deadlines.next() is None
    assert len(deadlines) == 0


@given(settings, st.integers(0, 50))
def test_due_is_what_a_dictionary_says(moves: list[tuple[int, int | None]], now: int) -> None:
    deadlines: Deadlines[int] = Deadlines()
    plain: dict[int, int] = {}
    for key, at in moves:
        deadlines.set(key, at)
        plain.pop(key, None)
        if at is not None:
            plain[key] = at
    assert deadlines.next() == min(plain.values(), default=None)
    due = deadlines.due(now)
    assert sorted(due) == sorted(k for k, at in plain.items() if at <= now)
    assert [plain[k] for k in due] == sorted(plain[k] for k in due)
    assert deadlines.next() == min((at for at in plain.values() if at > now), default=None)


def test_a_deadline_that_moves_to_and_fro_costs_no_memory() -> None:
    deadlines: Deadlines[int] = Deadlines()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for now in range(0, 20_000, 10):  # a busy tunnel: retransmission in 1,000, else a HELLO in 60,000
            deadlines.set(1, now + 1_000)
            deadlines.next()
            deadlines.set(1, now + 60_000)
            assert deadlines.due(now) == []
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000
