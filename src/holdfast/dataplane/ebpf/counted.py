"""What the sessions of a pinned set have counted, read without the rest of it: before another set, or plane, takes over.

Of the maps of older layouts these are the only ones that are ever read, and of those layouts only that are named in
`abi.COUNTED_ALIKE`.
"""

import mmap
import os

from holdfast.dataplane.ebpf import abi, counters, syscall
from holdfast.dataplane.ebpf.slots import SLOT_SIZE
from holdfast.dataplane.ebpf.syscall import BpfError, MapType
from holdfast.records import Counters


class Counted:
    """The counters of a set and its slots' owners."""

    def __init__(self, directory: str) -> None:
        """Raises BpfError if they are not there, or not of the shape that they should have."""
        self._counters = syscall.get_pinned(f"{directory}/map_counters")
        try:
            slots = syscall.get_pinned(f"{directory}/map_slots")
            try:
                self._memory = mmap.mmap(slots, _size(directory, self._counters, slots))
            finally:
                os.close(slots)
        except BaseException:
            os.close(self._counters)
            raise

    def read(self) -> dict[int, Counters]:
        """Every session's, by key. Raises BpfError."""
        count = syscall.map_info(self._counters).max_entries
        with memoryview(self._memory) as octets, octets[: count * SLOT_SIZE].cast("Q") as words:
            return counters.of_owners(self._counters, words)

    def close(self) -> None:
        """Let go of them."""
        self._memory.close()
        os.close(self._counters)


def counted_in(directory: str) -> Counted | None:
    """What is counted in the set that is pinned in a directory; None if that cannot be read."""
    layout = os.path.basename(directory)[1:]
    if not (layout.isdecimal() and int(layout) in abi.COUNTED_ALIKE):
        return None
    try:
        return Counted(directory)
    except BpfError:
        return None


def _size(directory: str, counting: int, slots: int) -> int:
    """The octets of the slots' memory. Raises BpfError."""
    have, owners = syscall.map_info(counting), syscall.map_info(slots)
    expected = (MapType.PERCPU_ARRAY, abi.COUNTERS_SIZE, MapType.ARRAY, SLOT_SIZE, have.max_entries)
    if (have.kind, have.value_size, owners.kind, owners.value_size, owners.max_entries) != expected:
        raise BpfError("reading", f"{directory}/map_counters", 0, "it is of another shape")
    return -(-have.max_entries * SLOT_SIZE // mmap.PAGESIZE) * mmap.PAGESIZE
