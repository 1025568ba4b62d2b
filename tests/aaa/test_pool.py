"""Address pools: constant time, the longest free address first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.aaa.pool import AddressPool, AddressTaken


def test_addresses_never_used_come_first_then_the_longest_free() -> None:
    pool = AddressPool("p", 10, 13)
    assert [pool.allocate() for _ in range(3)] == [10, 11, 12]
    pool.release(11)
    pool.release(10)
    assert [pool.allocate() for _ in range(4)] == [13, 11, 10, None]


def test_K_12_a_reserved_address_is_not_given_out() -> None:
    pool = AddressPool("p", 10, 12)
    pool.take(11)
    assert [pool.allocate() for _ in range(3)] == [10, 12, None]


def test_K_12_a_reserved_address_that_is_released_early_comes_last_and_once() -> None:
    pool = AddressPool("p", 10, 12)
    pool.take(11)
    pool.release(11)
    assert [pool.allocate() for _ in range(4)] == [10, 12, 11, None]


def test_taking_twice_is_refused() -> None:
    pool = AddressPool("p", 10, 12)
    pool.take(11)
    with pytest.raises(AddressTaken):
        pool.take(11)


def test_releasing_what_is_not_in_use_is_ignored() -> None:
    pool = AddressPool("p", 10, 11)
    pool.release(10)
    pool.release(99)
    assert [pool.allocate() for _ in range(3)] == [10, 11, None]


def test_excluded_addresses_are_never_given_out() -> None:
    assert [AddressPool("p", 10, 11, excluded=[10, 99]).allocate() for _ in range(1)] == [11]


def test_a_huge_pool_costs_nothing_until_it_is_used() -> None:
    pool = AddressPool("p", 0, 2**32 - 1)
    assert pool.allocate() == 0 and pool.in_use == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7))), st.sets(st.integers(0, 7)))
def test_no_address_is_ever_in_use_twice(steps: list[tuple[bool, int]], taken: set[int]) -> None:
    pool, used = AddressPool("p", 0, 7), set(taken)
    for address in taken:
        pool.take(address)
    for allocate, address in steps:
        if allocate:
            got = pool.allocate()
            assert (got is None) == (len(used) == 8)
            assert got not in used
            if got is not None:
                used.add(got)
        else:
            pool.release(address)
            used.discard(address)
        assert pool.in_use == len(used)
