"""What two nodes without RFC 4951 say to each other again and again: whether an end by time-out has an excuse.

A message of one side need not outlast two outages of the other, if each time that it was said again fell into one of
them: who is back for the second time cannot know for how long it has been waiting. Nothing else excuses.
"""

import msgspec

from holdfast.core.clock import Instant
from holdfast.daemon.effects import Log
from holdfast.lab.sim.peer_host import CONTROL
from holdfast.lab.sim.peer_wire import HEADER_SIZE
from holdfast.lab.sim.world import OPPOSITE
from holdfast.records import Side


class Said(msgspec.Struct, gc=False, kw_only=True):
    """The message that a tunnel's other end was sent last: since when, and when a copy last came to a running node."""

    message: bytes
    first: Instant
    heard_at: Instant = -1


class Overheard:
    """Both directions of every tunnel, the tunnels' ids at both ends, and every restart."""

    def __init__(self) -> None:
        self._said: dict[tuple[Side, int], Said] = {}
        self._peer_ids: dict[tuple[Side, int], int] = {}
        self._restarts: dict[Side, list[Instant]] = {side: [] for side in Side}

    def restarted(self, side: Side, now: Instant) -> None:
        """A node is back."""
        self._restarts[side].append(now)

    def sent(self, to: Side, data: bytes, now: Instant) -> None:
        """A datagram has left for `to`, whether it gets there or not."""
        if message := _message(data):
            key = to, _tunnel(data)
            if (said := self._said.get(key)) is None or said.message != message:
                self._said[key] = Said(message=message, first=now)

    def came(self, to: Side, data: bytes, now: Instant) -> None:
        """A datagram has come while there was somebody to hear it."""
        message, said = _message(data), self._said.get((to, _tunnel(data)))
        if said is not None and said.message == message:
            said.heard_at = now

    def forgiven(self, side: Side, log: Log) -> int:
        """The tunnel that ends with this event for no fault of anybody's, by its id at `side`; 0: none."""
        if log.event not in ("tunnel.up", "tunnel.down"):
            return 0
        tunnel = int(str(log.fields["tunnel"]))
        if log.event == "tunnel.up":
            self._peer_ids[side, tunnel] = int(str(log.fields["peer_tunnel"]))
        elif log.fields["cause"] == "timeout":
            to = OPPOSITE[side]
            said = self._said.get((to, self._peer_ids.get((side, tunnel), 0)))
            *_, earlier, latest = (-1, -1, *self._restarts[to])
            if said is not None and said.first < earlier and said.heard_at < latest:
                return tunnel
        return 0


def _tunnel(data: bytes) -> int:
    return int.from_bytes(data[4:6], "big")


def _message(data: bytes) -> bytes:
    """What tells a control message from others, which is all but its Nr; nothing for a ZLB, or for data."""
    return data[6:10] + data[HEADER_SIZE:] if data[0] & CONTROL and len(data) > HEADER_SIZE else b""
