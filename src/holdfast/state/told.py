"""What we have told each peer to have received of it: the Nr of the last message on each tunnel, exact at every SIGKILL.

The journal has the same number up to a second late, which is what a power cut leaves. This file is the kernel's before
the message is: a table of 64 Ki places of four octets, by our tunnel id, with the peer's tunnel id and our Nr, in a
file of constant size beside the journal. Nobody waits for it, and nothing depends on it: without it, or where it does
not fit the record, the journal's number holds, and a restart takes longer to find out.

Invariants: a number is written before it is said; it is believed only for the tunnel that it was written for, and
only if it is a little further on than the record's.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Self

from msgspec.structs import replace

from holdfast.core import seq
from holdfast.records import TunnelRecord
from holdfast.state.beside import open_beside

PLACE: Final = 4
HIGHEST: Final = 0xFFFF
SIZE: Final = (HIGHEST + 1) * PLACE

MOST_BEHIND: Final = 4096
"""Further behind no record lags: what lies further on was told before the numbers were reset (RFC 4951 3.2.2)."""

Told = tuple[int, int]
"""The peer's tunnel id and our Nr; (0, 0) for nothing."""


def told_path(journal: Path) -> Path:
    """The table that belongs to a journal."""
    return journal.with_name(journal.name + ".told")


def in_message(data: bytes) -> bytes:
    """What a control message tells, as it is kept: the peer's tunnel id and Nr."""
    return data[4:6] + data[10:12]


def read_place(place: bytes) -> Told:
    """What a place holds."""
    return int.from_bytes(place[:2], "big"), int.from_bytes(place[2:4], "big")


def caught_up(records: Iterable[TunnelRecord], told: Callable[[int], Told]) -> list[TunnelRecord]:
    """The records with the Nr that was told last, where that is further on."""
    return [_caught_up(record, *told(record.local_id)) for record in records]


def _caught_up(record: TunnelRecord, peer_id: int, nr: int) -> TunnelRecord:
    if peer_id != record.peer_id or not 0 < seq.distance(record.nr, nr) <= MOST_BEHIND:
        return record
    return replace(record, nr=nr)


class Table:
    """The open table; one owner, who also owns the journal. `failures` counts what could not be written, or read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.failures = 0

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open or make the table; None where that is not possible: a full or read-only disk."""
        fd = open_beside(path, SIZE)
        return None if fd is None else cls(fd)

    def note(self, said: Mapping[int, bytes]) -> None:
        """The last message on each of these tunnels, by our tunnel id, is about to leave."""
        fd = self._fd
        for tunnel_id, data in said.items():
            if tunnel_id:
                try:
                    os.pwrite(fd, in_message(data), tunnel_id * PLACE)
                except OSError:
                    self.failures += 1  # the number before stays, which is true as well

    def caught_up(self, records: Iterable[TunnelRecord]) -> list[TunnelRecord]:
        """See `caught_up`."""
        try:
            table = os.pread(self._fd, SIZE, 0)
        except OSError:
            table = b""
            self.failures += 1
        return caught_up(records, lambda i: read_place(table[i * PLACE : (i + 1) * PLACE]))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
