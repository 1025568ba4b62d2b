"""The datagrams of one turn, sent with as few system calls as their order allows.

In a storm many of them have one size and one destination, and most of what a datagram costs is its way through the
kernel: such ones leave as one send that the kernel cuts up (UDP_SEGMENT, Linux 4.18), where it can; elsewhere one by
one. Invariants: datagrams of one lane leave in the order in which they were added, and those of a session after what
its tunnel had said before: a peer drops PPP that overtakes the ICCN. What the tunnels are about to say is noted first.
"""

from collections.abc import Callable, Mapping, Sequence

from holdfast.daemon.effects import Address, Lane

MOST = 64
"""Datagrams of one send: what every kernel that knows UDP_SEGMENT takes."""

LEAST = 4
"""Fewer go one by one, so that a capture on this machine shows them as they are when there is no storm."""


class Bursts:
    """Collects datagrams until `flush`."""

    __slots__ = ("_groups", "_last_of_lane", "_latest", "_note", "_said", "_send", "_send_burst")

    def __init__(
        self,
        send: Callable[[bytes, Address], object],
        send_burst: Callable[[Sequence[bytes], Address], bool],
        note: Callable[[Mapping[Lane, bytes]], object],
    ) -> None:
        """`send_burst` sends datagrams of one size as one, or returns False. `note` hears the last one of each tunnel,
        before any leaves.
        """
        self._send = send
        self._send_burst = send_burst
        self._note = note
        self._said: dict[Lane, bytes] = {}
        self._groups: list[tuple[Address, list[bytes]]] = []
        self._latest: dict[tuple[Address, int], int] = {}
        self._last_of_lane: dict[Lane, int] = {}

    def add(self, lane: Lane, data: bytes, to: Address) -> None:
        """Add a datagram: to the group of its kind, unless something that it must not overtake is in a later one."""
        kind = (to, len(data))
        groups, last = self._groups, self._last_of_lane
        at = self._latest.get(kind, -1)
        tunnel = lane >> 32  # of a session key; of a tunnel's id, nobody
        if at < last.get(lane, 0) or at < last.get(tunnel, 0) or at < 0 or len(groups[at][1]) == MOST:
            at = self._latest[kind] = len(groups)
            groups.append((to, []))
        groups[at][1].append(data)
        last[lane] = at
        if not tunnel:
            self._said[lane] = data

    def flush(self) -> None:
        """Send everything."""
        if not self._groups:
            return
        groups, self._groups = self._groups, []
        self._latest.clear()
        self._last_of_lane.clear()
        if self._said:
            self._note(self._said)
            self._said.clear()
        for to, datagrams in groups:
            if len(datagrams) < LEAST or not self._send_burst(datagrams, to):
                for data in datagrams:
                    self._send(data, to)
