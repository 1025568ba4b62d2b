"""Sequence numbers: RFC 2661 5.8."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import seq

numbers = st.integers(0, 0xFFFF)


@pytest.mark.parametrize("ns", [0, 1, 15, 32784, 40000, 65535])
def test_V2_72_fifteen_and_the_32767_before_it_are_old(ns: int) -> None:
    assert seq.is_duplicate(ns, 15)


@pytest.mark.parametrize("ns", [16, 17, 1000, 32783])
def test_V2_72_what_follows_fifteen_is_new(ns: int) -> None:
    assert not seq.is_duplicate(ns, 15)


@given(numbers)
def test_V2_72_exactly_32768_numbers_are_old(last: int) -> None:
    edges = [seq.add(last, -32767), last]
    assert all(seq.is_duplicate(n, last) for n in edges)
    assert not any(seq.is_duplicate(n, last) for n in (seq.add(last, -32768), seq.succ(last)))


def test_V2_70_numbers_wrap() -> None:
    assert seq.succ(65535) == 0
    assert seq.add(65530, 10) == 4
    assert seq.add(4, -10) == 65530
    assert seq.distance(65530, 4) == 10


@given(numbers, st.integers(1, 32767))
def test_before_holds_for_a_half_of_the_circle(a: int, n: int) -> None:
    assert seq.before(a, seq.add(a, n))
    assert not seq.before(seq.add(a, n), a)
    assert not seq.before(a, a)


@given(numbers, st.integers(0, 100), st.integers(0, 0xFFFF))
def test_in_window_counts_both_ends(start: int, width: int, offset: int) -> None:
    assert seq.in_window(seq.add(start, offset), start, seq.add(start, width)) == (offset <= width)
