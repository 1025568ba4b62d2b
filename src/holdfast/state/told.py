"""What we have told each peer to have received of it: the Nr of the last message on each tunnel, exact at every SIGKILL.

The journal has the same number up to a second late, which is what a power cut leaves. This file is the kernel's before
the message is: a table of 64 Ki places of four octets, by our tunnel id, with the peer's tunnel id and our Nr, in a
file of constant size beside the journal. Nobody waits for it, and nothing depends on it: without it, or where it does
not fit the record, the journal's number holds, and a restart takes longer to find out.

The place of tunnel 0, which is nobody's, has when the process was last alive, in seconds of UTC: every second, where
the journal has it every few.

Invariants: a number is written before it is said; it is believed only for the tunnel that it was written for, and
only if it is a little further on than the record's.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from holdfast.core import seq
from holdfast.core.clock import SECOND
from holdfast.records import TunnelRecord
from holdfast.state.beside import Beside
from holdfast.state.saved import Saved

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


class Table(Beside):
    """The open table."""

    size = SIZE

    def note(self, said: Mapping[int, bytes]) -> None:
        """The last message on each of these tunnels, by our tunnel id, is about to leave. What cannot be written leaves
        the number before, which is true as well.
        """
        for tunnel_id, data in said.items():
            if tunnel_id:
                self.write(in_message(data), tunnel_id * PLACE)

    def alive(self, utc_us: int) -> None:
        """The process is alive."""
        self.write((utc_us // SECOND & 0xFFFFFFFF).to_bytes(PLACE, "big"), 0)

    def catch_up(self, saved: Saved) -> Saved:
        """What the journal holds with what is known more exactly here: see `caught_up`, and the last sign of life."""
        table = self.read()
        tunnels = caught_up(saved.tunnels, lambda i: read_place(table[i * PLACE : (i + 1) * PLACE]))
        alive_utc_us = int.from_bytes(table[:PLACE], "big") * SECOND
        return replace(saved, tunnels=tunnels, alive_utc_us=max(saved.alive_utc_us, alive_utc_us))
