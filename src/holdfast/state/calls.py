"""What the peers call the sessions that are being set up: such a session has no record yet, and its end after a restart
can be told in full only with the peer's id for it.

A table of 64 Ki places of eight octets in a file of constant size beside the journal; a call's place follows from our
ids of it. Nobody waits for it. A place has the last call that came to it: one that was overwritten meanwhile is not
found, and what is found is the call that was asked for.

Invariant: a call is written before its id of ours is said (LNS), and before the call is answered for (LAC).
"""

from pathlib import Path
from struct import Struct
from typing import Final

import msgspec

from holdfast.state.beside import Beside

PLACES: Final = 1 << 16
_PLACE: Final = Struct(">HHHH")
"""Our tunnel id, our session id, the peer's tunnel id, the peer's session id."""

SIZE: Final = PLACES * _PLACE.size
_SPREAD: Final = 40503
"""Odd, and 64 Ki by the golden ratio: the sessions of one tunnel and of the next do not share places."""


def calls_path(journal: Path) -> Path:
    """The table that belongs to a journal."""
    return journal.with_name(journal.name + ".calls")


def _at(tunnel_id: int, session_id: int) -> int:
    return (tunnel_id * _SPREAD + session_id) % PLACES * _PLACE.size


class Calls(msgspec.Struct, frozen=True):
    """The table as the last process left it."""

    table: bytes = b""

    def peer_session(self, tunnel_id: int, session_id: int, peer_tunnel: int) -> int:
        """What the peer called a session of ours, 0 if that is not known."""
        at = _at(tunnel_id, session_id)
        if len(self.table) < at + _PLACE.size:
            return 0
        *ids, found = _PLACE.unpack_from(self.table, at)
        return found if ids == [tunnel_id, session_id, peer_tunnel] else 0


class CallTable(Beside):
    """The open table."""

    size = SIZE

    def left(self) -> Calls:
        """What is there."""
        return Calls(self.read())

    def note(self, tunnel_id: int, session_id: int, peer_tunnel: int, peer_session: int) -> None:
        """A call has both its ids."""
        self.write(_PLACE.pack(tunnel_id, session_id, peer_tunnel, peer_session), _at(tunnel_id, session_id))
