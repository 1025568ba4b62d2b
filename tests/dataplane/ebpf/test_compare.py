"""Comparing what the maps hold with what is wanted, over many sessions at once, without a kernel."""

from collections.abc import Mapping
from functools import partial

import pytest

from dataplane.ebpf.rig import entry
from holdfast.dataplane.contract import Entry
from holdfast.dataplane.ebpf import abi
from holdfast.dataplane.ebpf.compare import Compared, compare
from holdfast.dataplane.ebpf.rows import FEW, pack
from holdfast.dataplane.ebpf.table import Dump, Held

MANY = 3 * FEW
NONE: tuple[set[bytes], set[bytes]] = (set(), set())


def session(number: int, **changes: object) -> Entry:
    """With IPv6, but for every third."""
    prefix = "" if number % 3 == 0 else f"2001:db8:0:{number:x}::/64"
    return entry(number, **{"prefix": prefix, **changes})


WANT = {each.key: each for each in map(session, range(1, MANY + 1))}
SLOTS = {key: slot for slot, key in enumerate(WANT)}


def held(entries: Mapping[int, Entry], slots: Mapping[int, int] = SLOTS, **leads: dict[bytes, bytes]) -> Held:
    """Maps with these entries; `subscribers` and `prefixes` lead elsewhere besides ("" for nowhere)."""
    each = [abi.elements(one, slots[key]) for key, one in entries.items()]
    sessions = {keyed.ids: keyed.session for keyed in each}
    subscribers = {keyed.address: keyed.subscriber for keyed in each} | leads.get("subscribers", {})
    prefixes = {keyed.prefix: keyed.subscriber for keyed in each if keyed.prefix} | leads.get("prefixes", {})
    sizes = ((4, abi.SESSION_SIZE), (4, abi.SUBSCRIBER_SIZE), (abi.PREFIX_SIZE, abi.SUBSCRIBER_SIZE))
    dumps = []
    for pairs, (key_size, value_size) in zip((sessions, subscribers, prefixes), sizes, strict=True):
        rows = b"".join(key + value for key, value in pairs.items() if value)
        dumps.append(Dump(rows, key_size, value_size, [slots[key] for key in entries]))
    return Held(*dumps)


def compared(maps: Held, want: Mapping[int, Entry] = WANT, slots: Mapping[int, int] = SLOTS) -> Compared:
    return compare(maps, want, slots, partial(pack))


def elements(number: int) -> abi.Keyed:
    one = session(number)
    return abi.elements(one, SLOTS[one.key])


def test_maps_that_hold_what_is_wanted() -> None:
    assert compared(held(WANT)) == (set(), list(WANT.values()), NONE)


def test_the_order_does_not_matter() -> None:
    backwards = dict(reversed(WANT.items()))
    found = compared(held(backwards))
    assert (found.wrong, found.strays) == (set(), NONE)
    assert found.agreed == list(backwards.values())


@pytest.mark.parametrize(
    "change",
    [{"magic": 5}, {"mtu": 1400}, {"peer_session": 9}, {"address": "100.64.9.9"}, {"prefix": "2001:db8:9::/56"},
     {"peer": ("192.0.2.77", 1701)}, {"sequenced": True}],
    ids=str,
)  # fmt: skip
def test_one_session_that_is_held_otherwise(change: dict[str, object]) -> None:
    one = session(7)
    found = compared(held(WANT | {one.key: session(7, **change)}))
    assert found.wrong == {one.key}
    assert found.agreed == [each for each in WANT.values() if each != one]
    keyed, other = elements(7), abi.elements(session(7, **change), SLOTS[one.key])
    assert found.strays == ({other.address} - {keyed.address}, {other.prefix} - {keyed.prefix})


def test_a_session_with_the_counters_of_another_slot() -> None:
    one = session(7)
    assert compared(held(WANT), slots=SLOTS | {one.key: 99}).wrong == {one.key}


def test_a_session_that_is_not_held_is_wrong_if_it_has_a_slot() -> None:
    gone = session(7)
    others = {key: each for key, each in WANT.items() if key != gone.key}
    assert compared(held(others)) == ({gone.key}, list(others.values()), NONE)
    slots = {key: slot for key, slot in SLOTS.items() if key != gone.key}
    assert compared(held(others), slots=slots) == (set(), list(others.values()), NONE)


def test_a_session_that_nobody_wants_leaves_leads_astray() -> None:
    keyed, others = elements(7), {key: each for key, each in WANT.items() if key != session(7).key}
    found = compared(held(WANT), others)
    assert found == (set(), list(others.values()), ({keyed.address}, {keyed.prefix}))


def test_an_address_that_leads_nowhere_or_elsewhere() -> None:
    keyed, other = elements(7), elements(8)
    for leads in ({keyed.address: b""}, {keyed.address: other.subscriber}):
        found = compared(held(WANT, subscribers=leads))
        assert (found.wrong, found.strays) == ({session(7).key}, NONE)
    for leads in ({keyed.prefix: b""}, {keyed.prefix: other.subscriber}):
        assert compared(held(WANT, prefixes=leads)).wrong == {session(7).key}


def test_an_address_may_lead_to_the_younger_of_two_that_have_it() -> None:
    younger = session(8, address=session(7).address)
    want = WANT | {younger.key: younger}
    found = compared(held(want), want)
    assert (found.wrong, found.strays) == (set(), NONE)


def test_strays_of_both_kinds_are_found() -> None:
    stray, key = bytes((100, 64, 77, 77)), abi.prefix_key("2001:db8:77::/48")[0]
    found = compared(
        held(WANT, subscribers={stray: elements(7).subscriber}, prefixes={key: elements(7).subscriber})
    )
    assert found == (set(), list(WANT.values()), ({stray}, {key}))


def test_an_entry_that_no_map_can_hold_is_wrong_and_harms_no_other() -> None:
    bad = session(7, magic=1 << 32)
    found = compared(held(WANT), WANT | {bad.key: bad})
    assert found.wrong == {bad.key}
    assert len(found.agreed) == MANY - 1


def test_empty_maps() -> None:
    assert compared(held({}), slots={}) == (set(), [], NONE)
    assert compared(held({}), {}) == (set(), [], NONE)
