"""Tunnel and session ids."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.ids import IdPool, IdsExhausted


def pool(highest: int = 0xFFFF, remember: int = 1024, seed: int = 1) -> IdPool:
    return IdPool(Random(seed).randbytes, highest, remember)


def test_V2_97_ids_are_not_sequential_and_never_zero() -> None:
    ids = [p.allocate() for p in [pool()] for _ in range(500)]
    assert 0 not in ids
    assert len(set(ids)) == 500
    steps = {b - a for a, b in pairwise(ids)}
    assert len(steps) > 400


def test_V2_97_two_nodes_do_not_draw_the_same_ids() -> None:
    assert [pool(seed=1).allocate() for _ in range(4)] != [pool(seed=2).allocate() for _ in range(4)]


def test_F_70_a_freed_id_comes_back_last() -> None:
    p = pool(highest=20, remember=10)
    first = [p.allocate() for _ in range(10)]
    for i in first:
        p.free(i)
    assert not {p.allocate() for _ in range(10)} & set(first)
    assert p.allocate() == first[0], "the least recently used one, when nothing else is left"


def test_F_70_recent_ids_of_an_earlier_process_are_avoided() -> None:
    p = pool(highest=10)
    p.remember(range(1, 9))
    assert {p.allocate(), p.allocate()} == {9, 10}
    assert p.recent == list(range(1, 9))


def test_T_18_reserved_ids_are_not_handed_out() -> None:
    p = pool(highest=100)
    p.reserve(range(1, 100))
    assert p.allocate() == 100
    with pytest.raises(IdsExhausted):
        p.allocate()


def test_only_so_many_freed_ids_are_remembered() -> None:
    p = pool(remember=3)
    ids = [p.allocate() for _ in range(5)]
    for i in ids:
        p.free(i)
    assert p.recent == ids[2:]
    assert len(p) == 0


def test_peek_takes_nothing() -> None:
    p = pool()
    assert p.peek()
    assert len(p) == 0


def test_freeing_what_is_not_in_use_does_nothing() -> None:
    p = pool()
    p.free(17)
    assert p.recent == []


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 1000))
def test_an_id_in_use_is_never_handed_out(takes: list[bool], seed: int) -> None:
    p, used = pool(highest=30, remember=8, seed=seed), set[int]()
    for take in takes:
        if take and len(used) < 30:
            i = p.allocate()
            assert 0 < i <= 30
            assert i not in used
            used.add(i)
        elif used:
            i = used.pop()
            p.free(i)
    assert len(p) == len(used)


def test_an_id_to_avoid_is_given_only_if_there_is_no_other() -> None:
    drawn = iter([5, 5, 7])
    ids = IdPool(lambda n: next(drawn).to_bytes(n, "big"))
    assert ids.allocate(avoid=lambda i: i == 5) == 7
    assert pool().allocate(avoid=lambda i: True)
