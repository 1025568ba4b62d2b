"""Whether we acknowledge what we have not seen, as overheard on the wire in front of somebody else's daemon.

That has to be done at times, since a peer that waits for too long gives up its tunnel. It is a fault as long as the
peer would have said the message again in time: within the longest interval of any peer after our restart, and before
the least patient one gives up what it said when we went away. Lost copies excuse, in the life in which they were lost.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.lab.sim.peer_sender import Sender
from holdfast.lab.sim.peer_tunnel import NUMBERS, Sent, Tunnel
from holdfast.lab.sim.peer_wire import Kind
from holdfast.protocol.resync import PATIENCE, RETRANSMISSION_CAP, SHORTEST_WAIT, STEP

Key: TypeAlias = tuple[int, int, bytes]
"""A message to us: our tunnel id, Ns and body."""

SLACK: Final[Duration] = SECOND // 2
"""A message and its answer may be under way."""


class Unseen:
    """`overestimate` is by how much at most we take an outage for longer than it was."""

    def __init__(self, peer: type[Sender], overestimate: Duration) -> None:
        self._in_turn = peer.retransmits != "each"
        self._tries = len(peer.intervals)
        self._overestimate = overestimate
        self._life = 0
        self._recorded: dict[int, int] = {}
        self._began: Instant = 0
        self._gone: Instant = 0
        self._may_wait_until: Instant = 0
        self._patience: Instant = 0
        self._came: set[Key] = set()
        self._failed: dict[Key, int] = {}
        self._told: dict[int, Instant] = {}
        self._acknowledged: set[Key] = set()

    def began(self, now: Instant, died: Instant | None, recorded: Mapping[int, int]) -> None:
        """We are back. `recorded` is the Nr of each tunnel: what lies before it was decided in another life."""
        self._recorded = dict(recorded)
        self._life += 1
        if died is None:
            died = now
        if self._life == 1 or died - self._began >= self._overestimate:
            self._gone = died  # a shorter life may have left no sign of itself
        self._began = now
        self._patience = self._gone + PATIENCE - SECOND - self._overestimate - SLACK
        self._may_wait_until = min(now + RETRANSMISSION_CAP, max(now + SHORTEST_WAIT, self._patience))

    def came(self, key: Key) -> None:
        """A message has arrived."""
        self._came.add(key)

    def failed(self, key: Key) -> None:
        """The network has lost a message to us, or keeps it."""
        self._failed[key] = self._life

    def told(self, tunnel: Tunnel, nr: int, now: Instant) -> Iterator[Sent]:
        """We tell the peer that we have had all before `nr`: what of it we should not have said yet."""
        for sent in tunnel.sent:
            if not _before(sent.ns, nr):
                return
            key = tunnel.remote if sent.kind is not Kind.SCCRQ else 0, sent.ns, sent.body
            if key in self._acknowledged:
                continue
            self._acknowledged.add(key)
            excused = key in self._came or self._failed.get(key) == self._life or tunnel.closing
            decided = tunnel.remote in self._recorded and _before(sent.ns, self._recorded[tunnel.remote])
            if not excused and not decided and self._hasty(tunnel, sent, now):
                yield sent
            self._told[tunnel.local] = now

    def _hasty(self, tunnel: Tunnel, sent: Sent, now: Instant) -> bool:
        """Who repeats in turn repeats what is behind the oldest once he is told that we have had that."""
        if self._in_turn and sent is not tunnel.sent[0]:
            return now < self._patience and now < self._told.get(tunnel.local, 0) + STEP - SLACK
        return sent.sends < self._tries and sent.due < self._may_wait_until - SLACK


def _before(ns: int, nr: int) -> bool:
    return 0 < (nr - ns) % NUMBERS < NUMBERS // 2
