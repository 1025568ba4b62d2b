"""The bpf(2) system call for real: maps, batches, refusals. Needs a kernel that lets us."""

import errno
import os
import struct
from collections.abc import Callable, Iterator

import pytest

from holdfast.dataplane.ebpf import syscall
from holdfast.dataplane.ebpf.features import no_maps
from holdfast.dataplane.ebpf.syscall import BpfError, MapType

REASON = no_maps()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"bpf(2): {REASON}")

COUNT = 1000
MakeMap = Callable[..., int]


@pytest.fixture
def make() -> Iterator[MakeMap]:
    made: list[int] = []

    def one(kind: MapType, entries: int = COUNT, *, flags: int = 0) -> int:
        made.append(syscall.create_map(kind, 4, 8, entries, flags=flags, name="test"))
        return made[-1]

    yield one
    for fd in made:
        os.close(fd)


def packed(numbers: range) -> tuple[bytearray, bytearray]:
    """Keys, and values that are their doubles."""
    keys = bytearray(struct.pack(f"={len(numbers)}I", *numbers))
    return keys, bytearray(struct.pack(f"={len(numbers)}Q", *(2 * number for number in numbers)))


def unpacked(keys: bytearray, values: bytearray, count: int) -> dict[int, int]:
    return dict(
        zip(struct.unpack_from(f"={count}I", keys), struct.unpack_from(f"={count}Q", values), strict=True)
    )


def test_an_element_is_set_found_and_removed(make: MakeMap) -> None:
    fd = make(MapType.HASH)
    assert syscall.lookup(fd, b"abcd", 8) is None
    syscall.update(fd, b"abcd", b"12345678")
    assert syscall.lookup(fd, b"abcd", 8) == b"12345678"
    assert syscall.delete(fd, b"abcd")
    assert not syscall.delete(fd, b"abcd")


def test_a_batch_fills_a_map_that_gives_back_all_of_it(make: MakeMap) -> None:
    fd = make(MapType.HASH)
    syscall.update_batch(fd, *packed(range(COUNT)), COUNT)
    found = syscall.lookup_batch(fd, 4, 8, COUNT)
    assert unpacked(*found) == {number: 2 * number for number in range(COUNT)}


def test_a_batch_of_deletions_passes_over_what_is_not_there(make: MakeMap) -> None:
    fd = make(MapType.HASH)
    syscall.update_batch(fd, *packed(range(10)), 10)
    keys = bytearray(struct.pack("=7I", 77, 1, 2, 78, 3, 3, 79))
    syscall.delete_batch(fd, keys, 4, 7)
    left = unpacked(*syscall.lookup_batch(fd, 4, 8, COUNT))
    assert sorted(left) == [0, 4, 5, 6, 7, 8, 9]


def test_empty_batches_and_empty_maps_are_nothing_special(make: MakeMap) -> None:
    fd = make(MapType.HASH)
    syscall.update_batch(fd, bytearray(), bytearray(), 0)
    syscall.delete_batch(fd, bytearray(), 4, 0)
    assert syscall.lookup_batch(fd, 4, 8, COUNT)[2] == 0


def test_a_per_cpu_value_is_as_wide_as_all_cpus_together(make: MakeMap) -> None:
    fd = make(MapType.PERCPU_ARRAY, 8)
    stride = syscall.value_stride(MapType.PERCPU_ARRAY, 8)
    assert stride == 8 * syscall.possible_cpus()
    every = struct.pack("=Q", 5) * syscall.possible_cpus()
    syscall.update(fd, struct.pack("=I", 3), every)
    keys, values, count = syscall.lookup_batch(fd, 4, stride, 8, limit=4)
    assert (count, bytes(values[3 * stride : 4 * stride])) == (4, every)
    assert struct.unpack("=4I", keys) == (0, 1, 2, 3)


def test_a_map_says_its_shape(make: MakeMap) -> None:
    info = syscall.map_info(make(MapType.HASH, 77))
    assert (info.kind, info.key_size, info.value_size, info.max_entries) == (MapType.HASH, 4, 8, 77)
    assert info.name == "test"


def test_a_full_map_refuses_and_says_what_would_help(make: MakeMap) -> None:
    fd = make(MapType.HASH, 4)
    with pytest.raises(BpfError, match=r"dataplane\.max_sessions") as refused:
        syscall.update_batch(fd, *packed(range(100)), 100)
    assert refused.value.code == errno.E2BIG


def test_what_is_not_pinned_is_named(tmp_path: os.PathLike[str]) -> None:
    path = f"{tmp_path}/nothing"
    with pytest.raises(BpfError, match=path) as refused:
        syscall.get_pinned(path)
    assert refused.value.code in (errno.ENOENT, errno.EPERM)
