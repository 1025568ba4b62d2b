"""What the programs and the daemon have counted, added up over CPUs, for many sessions at once."""

import struct
from array import array
from collections.abc import Mapping
from operator import add
from typing import Final

from holdfast.dataplane.ebpf import abi, syscall
from holdfast.dataplane.ebpf.abi import Reason
from holdfast.dataplane.ebpf.slots import NOBODY, WORDS, Slots
from holdfast.dataplane.ebpf.syscall import MapType
from holdfast.records import Counters

FIELDS: Final = abi.COUNTERS_SIZE // 8
_slot = struct.Struct("=I")


def of_session(fd: int, slots: Slots, slot: int) -> Counters:
    """One slot's traffic. What came from the peer of an LNS went up."""
    stride = syscall.value_stride(MapType.PERCPU_ARRAY, abi.COUNTERS_SIZE)
    value = syscall.lookup(fd, _slot.pack(slot), stride)
    assert value is not None  # an array has every element
    by_cpu = abi.counted(value, 0, stride // abi.COUNTERS_SIZE)
    rx_packets, rx_bytes, tx_packets, tx_bytes = slots.view[slot * WORDS + 1 : (slot + 1) * WORDS]
    return Counters(
        by_cpu.up_packets + rx_packets,
        by_cpu.up_bytes + rx_bytes,
        by_cpu.down_packets + tx_packets,
        by_cpu.down_bytes + tx_bytes,
    )


def of_all(fd: int, slots: Slots) -> dict[int, Counters]:
    """The traffic of every installed session, by key."""
    if not slots.by_key:
        return {}
    rows = _rows(fd, slots.view, slots.high)
    return {key: rows[slot] for key, slot in slots.by_key.items()}


def of_owners(fd: int, memory: memoryview) -> dict[int, Counters]:
    """The traffic of every session that has a slot, installed or not, as the slots' memory says."""
    owners = array("Q", memory.tobytes())[::WORDS].tolist()
    rows = _rows(fd, memory, len(owners))
    return {owner: row for owner, row in zip(owners, rows, strict=True) if owner not in (0, NOBODY)}


def _rows(fd: int, memory: memoryview, count: int) -> list[Counters]:
    """The first so many slots."""
    stride = syscall.value_stride(MapType.PERCPU_ARRAY, abi.COUNTERS_SIZE)
    _, values, _ = syscall.lookup_batch(fd, 4, stride, count, limit=count)
    words = array("Q", bytes(memoryview(values)[: count * stride]))
    own = array("Q", memory[: count * WORDS].tobytes())
    step = stride // 8
    columns = []
    for field in range(FIELDS):
        total: list[int] | array[int] = own[field + 1 :: WORDS]
        for cpu in range(step // FIELDS):
            total = list(map(add, total, words[field + cpu * FIELDS :: step]))
        columns.append(total)
    return list(map(Counters, *columns))


def set_slots(fd: int, wanted: Mapping[int, Counters]) -> None:
    """Let slots go on counting from these values; a new owner's from nothing."""
    if not wanted:
        return
    stride = syscall.value_stride(MapType.PERCPU_ARRAY, abi.COUNTERS_SIZE)
    others = bytes(stride - abi.COUNTERS_SIZE)
    keys, values = bytearray(), bytearray()
    for slot, c in wanted.items():
        keys += _slot.pack(slot)
        values += struct.pack("=4Q", c.up_packets, c.up_bytes, c.down_packets, c.down_bytes) + others
    syscall.update_batch(fd, keys, values, len(wanted))


def reasons(fd: int) -> dict[Reason, int]:
    """What became of packets since the maps were made."""
    stride = syscall.value_stride(MapType.PERCPU_ARRAY, 8)
    _, values, _ = syscall.lookup_batch(fd, 4, stride, len(Reason), limit=len(Reason))
    words, step = array("Q", bytes(values)), stride // 8
    return {reason: sum(words[reason * step : (reason + 1) * step]) for reason in Reason}
