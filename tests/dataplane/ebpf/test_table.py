"""The fast packing of entries is `abi`'s, bit for bit; slots without a kernel."""

from mmap import mmap

import pytest

from dataplane.ebpf.rig import entry
from holdfast.dataplane.contract import BadEntry, Entry
from holdfast.dataplane.ebpf import abi
from holdfast.dataplane.ebpf.slots import WORDS, Slots
from holdfast.dataplane.ebpf.table import Packer, claimant

ENTRIES = [
    entry(1),
    entry(2, peer=("203.0.113.9", 40000), local=("198.51.100.1", 1702), mtu=1280, magic=0xFFFFFFFF),
    entry(3, acfc=True, pfc=True, with_length=True, echo=False, magic=0),
    entry(4, sequenced=True, prefix="2001:db8:7::/48"),
]


@pytest.mark.parametrize("clamp_mss", [False, True])
@pytest.mark.parametrize("one", ENTRIES, ids=lambda one: str(one.local_session))
def test_what_is_packed_fast_is_what_the_layout_says(one: Entry, clamp_mss: bool) -> None:
    ids, session, address, prefix, subscriber = Packer(clamp_mss=clamp_mss).elements(one, 77)
    assert abi.elements(one, 77, clamp_mss=clamp_mss) == (ids, session, address, prefix, subscriber)
    assert claimant(subscriber) == one.key


@pytest.mark.parametrize(
    "wrong",
    [{"address": "host"}, {"local": ("", 0)}, {"magic": -1}, {"mtu": 70000}, {"prefix": "::/128"}],
    ids=str,
)
def test_what_no_map_can_hold_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadEntry):
        Packer(clamp_mss=False).elements(entry(1, **wrong), 0)


def test_slots_are_given_in_turn_kept_and_given_again() -> None:
    memory = mmap(-1, 4096)
    slots = Slots(memory, 3)
    assert [slots.take(key) for key in (10, 11, 12, 13)] == [0, 1, 2, None]
    slots.leave(11)
    assert slots.take(13) is None
    assert slots.take(11) == 1
    slots.leave(11)
    slots.forget([11, 99])
    assert slots.take(13) == 1
    assert slots.to_zero == [1]
    after = Slots(memory, 3)
    after.adopt({10: 0})
    assert after.take(12) == 2
    after.forget_all_left()
    assert after.take(14) == 1
    assert [memory[8 * WORDS * slot] for slot in range(3)] == [10, 14, 12]
