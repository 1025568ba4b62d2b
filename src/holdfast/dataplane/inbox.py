"""Datagrams of one batch, received with one system call into memory that is allocated once.

Python's own `recvfrom_into` costs a call, an address string and a tuple for each datagram; `recvmmsg(2)`
costs one call for a batch, and a source stays eight octets of its `sockaddr_in` until somebody needs it.

Invariants: slot i begins at i * slot_size of `buffer`; only the first `count` slots, and of those the first
`lengths[i]` octets, mean anything; a datagram longer than a slot keeps its true length (MSG_TRUNC).
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterable
from errno import EAGAIN, EINTR

SLOTS = 64
SLOT_SIZE = 4096  # an MTU of 1,500, reassembled from outer fragments, with room for longer control messages

_SOCKADDR = struct.Struct("=H2s4s8x")  # sockaddr_in; its first eight octets tell sources apart
_WORD = struct.Struct("=Q")
_MMSGHDR = 64  # sizeof(struct mmsghdr) on every 64-bit Linux
_KNOWN_SOURCES = 4096

_recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
_recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]


def source_word(address: tuple[str, int]) -> int:
    """An IPv4 address and port as the integer that `Inbox.sources` holds for it."""
    packed = _SOCKADDR.pack(
        socket.AF_INET, address[1].to_bytes(2, "big"), socket.inet_pton(socket.AF_INET, address[0])
    )
    word: int = _WORD.unpack_from(packed)[0]
    return word


class Inbox:
    """Receives batches of datagrams from an IPv4 UDP socket."""

    __slots__ = ("_all_lengths", "_all_sources", "_headers", "_headers_at", "_iovecs", "_known", "_names",
                 "buffer", "count", "lengths", "slot_size", "slots", "sources", "starts", "view")  # fmt: skip

    def __init__(self, slots: int = SLOTS, slot_size: int = SLOT_SIZE) -> None:
        self.slots, self.slot_size = slots, slot_size
        self.buffer = bytearray(slots * slot_size)
        self.view = memoryview(self.buffer)
        self.starts = tuple(range(0, slots * slot_size, slot_size))
        self.count = 0
        self.lengths: list[int] = []
        self.sources: list[int] = []
        self._known: dict[int, tuple[str, int]] = {}
        self._names = bytearray(16 * slots)
        self._iovecs = bytearray(16 * slots)
        self._headers = bytearray(_MMSGHDR * slots)
        self._headers_at = _address_of(self._headers)
        self._all_lengths = memoryview(self._headers).cast("I")[14 :: _MMSGHDR // 4]
        self._all_sources = memoryview(self._names).cast("Q")[::2]
        self._lay_out()

    def _lay_out(self) -> None:
        """Point every message header at its name, its one iovec, and that at its slot."""
        headers, iovecs = memoryview(self._headers).cast("Q"), memoryview(self._iovecs).cast("Q")
        names_at, iovecs_at, buffer_at = (_address_of(b) for b in (self._names, self._iovecs, self.buffer))
        for i in range(self.slots):
            headers[i * 8 : i * 8 + 4] = memoryview(
                struct.pack("=4Q", names_at + 16 * i, 16, iovecs_at + 16 * i, 1)
            ).cast("Q")
            iovecs[i * 2], iovecs[i * 2 + 1] = buffer_at + self.starts[i], self.slot_size

    def read(self, fd: int) -> int:
        """Receive what waits on the socket, at most `slots` datagrams; fewer than that means it is empty now.

        Raises OSError.
        """
        count: int = _recvmmsg(fd, self._headers_at, self.slots, socket.MSG_DONTWAIT | socket.MSG_TRUNC, None)
        if count < 0:
            error = ctypes.get_errno()
            if error not in (EAGAIN, EINTR):
                raise OSError(error, os.strerror(error))
            count = 0
        self._hold(count)
        return count

    def fill(self, datagrams: Iterable[tuple[bytes, tuple[str, int]]]) -> int:
        """Hold these datagrams, as if they had been received; returns how many (at most `slots`)."""
        count = 0
        for (data, source), start in zip(datagrams, self.starts, strict=False):
            held = data[: self.slot_size]
            self.view[start : start + len(held)] = held
            self._all_lengths[count] = len(data)
            self._all_sources[count] = source_word(source)
            count += 1
        self._hold(count)
        return count

    def _hold(self, count: int) -> None:
        self.count = count
        self.lengths = self._all_lengths[:count].tolist()
        self.sources = self._all_sources[:count].tolist()

    def datagram(self, i: int) -> bytes:
        """A copy of datagram `i`, cut to the slot's size."""
        start = self.starts[i]
        return bytes(self.view[start : start + min(self.lengths[i], self.slot_size)])

    def source(self, i: int) -> tuple[str, int]:
        """Where datagram `i` came from."""
        word = self.sources[i]
        known = self._known.get(word)
        if known is None:
            if len(self._known) >= _KNOWN_SOURCES:  # forged sources cost no memory
                self._known.clear()
            _, port, host = _SOCKADDR.unpack(_WORD.pack(word) + bytes(8))
            known = self._known[word] = (socket.inet_ntoa(host), int.from_bytes(port, "big"))
        return known


def _address_of(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
