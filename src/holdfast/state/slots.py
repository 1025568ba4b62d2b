"""Where each session's row is: the only index over sessions, kept in memory by the owner of the journal."""

from collections.abc import Iterable


class Slots:
    """Row numbers by tunnel id and session id. New rows go behind the last: writing is appending."""

    __slots__ = ("_by_tunnel", "_next")

    def __init__(self) -> None:
        self._by_tunnel: dict[int, dict[int, int]] = {}
        self._next = 1

    def find(self, tunnel_id: int, session_id: int) -> int:
        """The session's row, 0 if it has none."""
        sessions = self._by_tunnel.get(tunnel_id)
        return sessions.get(session_id, 0) if sessions else 0

    def of_tunnel(self, tunnel_id: int) -> Iterable[int]:
        """The rows of a tunnel's sessions."""
        return self._by_tunnel.get(tunnel_id, {}).values()

    @property
    def next(self) -> int:
        """The first row number that was never used."""
        return self._next

    def put(self, tunnel_id: int, session_id: int, slot: int) -> None:
        """The session is in row `slot`."""
        self._by_tunnel.setdefault(tunnel_id, {})[session_id] = slot
        self.reserve(slot)

    def reserve(self, slot: int) -> None:
        """Row `slot` is taken, by a session or by something that cannot be used."""
        if slot >= self._next:
            self._next = slot + 1

    def drop(self, tunnel_id: int, session_id: int) -> None:
        """The session has no row any more."""
        sessions = self._by_tunnel.get(tunnel_id)
        if sessions and sessions.pop(session_id, 0) and not sessions:
            del self._by_tunnel[tunnel_id]

    def drop_tunnel(self, tunnel_id: int) -> None:
        """None of the tunnel's sessions has a row any more."""
        self._by_tunnel.pop(tunnel_id, None)
