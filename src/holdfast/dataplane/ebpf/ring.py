"""The ring into which the programs put packets of traced sessions, read where it lies.

Invariants: one reader at a time; what was read is the kernel's again at once, so it is copied before.
"""

import mmap
import struct
import threading
from typing import Final, NamedTuple

from holdfast.dataplane.ebpf import abi, syscall

_HEADER: Final = 8
_BUSY, _DISCARDED = 1 << 31, 1 << 30
_ids_at, _host = abi.CAPTURE.codecs()
_fields = struct.Struct("=IQQHH")
_DATA_AT: Final = _ids_at.size + _host.size - abi.SNAP


class Capture(NamedTuple):
    """A packet (struct hf_capture)."""

    tunnel: int
    session: int
    at_ns: int
    """CLOCK_MONOTONIC."""
    to_peer: bool
    length: int
    packet: bytes


class Ring:
    """The ring of a BPF_MAP_TYPE_RINGBUF; `fd` is readable while packets wait. Whatever waits already is thrown away."""

    def __init__(self, fd: int) -> None:
        """The descriptor stays the caller's."""
        self.fd = fd
        self._size = syscall.map_info(fd).max_entries
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._produced = mmap.mmap(
            fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )  # the data come twice, so that none is in two parts
        self._consumed_at = memoryview(self._consumer).cast("Q")
        self._produced_at = memoryview(self._produced)[:8].cast("Q")
        self._data = memoryview(self._produced)[page:]
        self._lock = threading.Lock()
        self._consumed_at[0] = self._produced_at[0]

    def read(self, most: int) -> list[Capture]:
        """The next packets, at most so many."""
        found: list[Capture] = []
        at, end = self._consumed_at[0], self._produced_at[0]
        self._fence()
        while at < end and len(found) < most:
            start = at & (self._size - 1)
            (word,) = struct.unpack_from("=I", self._data, start)
            if word & _BUSY:
                break
            self._fence()
            size = word & ~_DISCARDED
            if word == size:
                found.append(self._capture(start + _HEADER))
            at += (_HEADER + size + 7) & ~7
            self._consumed_at[0] = at
        return found

    def _capture(self, at: int) -> Capture:
        tunnel, session = _ids_at.unpack_from(self._data, at)
        length, at_ns, _, captured, to_peer = _fields.unpack_from(self._data, at + _ids_at.size)
        start = at + _DATA_AT
        packet = bytes(self._data[start : start + captured])
        return Capture(tunnel, session, at_ns, bool(to_peer), length, packet)

    def _fence(self) -> None:
        """What is read from here on was written before what was read until here: a release, then an acquisition."""
        with self._lock:
            pass
        with self._lock:
            pass

    def close(self) -> None:
        """Let go of the memory."""
        for view in (self._consumed_at, self._produced_at, self._data):
            view.release()
        self._consumer.close()
        self._produced.close()


def missed(fd: int) -> int:
    """How many packets have found the ring full since the maps were made; `fd` is of the map `capturing`."""
    size = _DATA_AT + abi.SNAP
    stride = -(-size // 8) * 8
    values = syscall.lookup(fd, bytes(4), stride * syscall.possible_cpus())
    assert values is not None  # an array has every element
    return sum(
        _fields.unpack_from(values, cpu * stride + _ids_at.size)[2] for cpu in range(syscall.possible_cpus())
    )
