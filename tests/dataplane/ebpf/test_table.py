"""The fast packing of entries is `abi`'s, bit for bit; slots without a kernel."""

from mmap import mmap

import pytest

from dataplane.ebpf.rig import entry
from holdfast.dataplane.contract import BadEntry
from holdfast.dataplane.ebpf import abi
from holdfast.dataplane.ebpf.rows import FEW, pack, usable
from holdfast.dataplane.ebpf.slots import WORDS, Slots
from holdfast.dataplane.ebpf.table import claimant
from holdfast.records import Side

ENTRIES = [
    entry(1),
    entry(2, peer=("203.0.113.9", 40000), local=("198.51.100.1", 1702), mtu=1280, magic=0xFFFFFFFF),
    entry(3, acfc=True, pfc=True, with_length=True, echo=False, magic=0),
    entry(4, sequenced=True, prefix="2001:db8:7::/48"),
]


@pytest.mark.parametrize("clamp_mss", [False, True])
@pytest.mark.parametrize("count", [len(ENTRIES), 10 * FEW])
def test_what_is_packed_together_is_what_the_layout_says_of_each(count: int, clamp_mss: bool) -> None:
    entries = [ENTRIES[n % len(ENTRIES)] for n in range(count)]
    slots, traced = [7 * n for n in range(count)], {ENTRIES[1].key}
    rows = pack(entries, slots, clamp_mss=clamp_mss, traced=traced)
    each = [
        abi.elements(one, slot, clamp_mss=clamp_mss, traced=one.key in traced)
        for one, slot in zip(entries, slots, strict=True)
    ]
    assert [abi.Keyed(*of_one) for of_one in zip(*rows.columns(), strict=True)] == each
    assert [claimant(keyed.subscriber) for keyed in each] == [one.key for one in entries]


@pytest.mark.parametrize("count", [1, 10 * FEW])
@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "host"},
        {"address": "100.64.7"},
        {"local": ("", 0)},
        {"peer": ("192.0.2.1", 70_000)},
        {"magic": -1},
        {"mtu": 70_000},
        {"mtu": 67},
        {"peer_session": 0},
        {"key": 5},
        {"prefix": "::/128"},
        {"prefix": "2001:db8::1/64"},
        {"prefix": "2001:db8::/+6"},
        {"prefix": "ten/64"},
    ],
    ids=str,
)
def test_what_no_map_can_hold_is_refused_and_found(wrong: dict[str, object], count: int) -> None:
    entries = [entry(n) for n in range(1, count)] + [entry(count, **wrong), entry(count + 1)]
    good, _, error = usable(entries)
    assert good == entries[: count - 1]
    assert isinstance(error, BadEntry)
    assert f"{entries[count - 1].key:#x}" in str(error)


def test_an_entry_of_a_lac_is_not_for_maps_to_refuse() -> None:
    entries = [entry(1), entry(2, side=Side.LAC, local=("", 0)), entry(3)]
    assert usable(entries) == (entries, None, None)


def test_slots_are_given_in_turn_kept_and_given_again() -> None:
    memory = mmap(-1, 4096)
    slots = Slots(memory, 3)
    assert [slots.take(key) for key in (10, 11, 12, 13)] == [0, 1, 2, None]
    slots.settle()
    slots.leave(11)
    assert slots.take(13) is None
    assert slots.take(11) == 1
    slots.leave(11)
    slots.forget([11, 99])
    assert slots.take(13) == 1
    assert slots.to_zero == [1]
    slots.settle()
    after = Slots(memory, 3)
    after.adopt({10: 0})
    assert after.take(12) == 2
    after.forget_all_left()
    assert after.take(14) == 1
    after.settle()
    assert [memory[8 * WORDS * slot] for slot in range(3)] == [10, 14, 12]
