"""Proof of forwarding: after a restart every recovered session has to show that its subscriber is still there.

Once a tunnel is recovered its sessions are asked with LCP echoes, at the pace of the whole node. Anything that comes
from the subscriber proves its session; one that stays silent is ended, and its peer told. A session is judged only
while its peer acknowledges control messages: a tunnel in doubt puts the question off and starts the count anew.

Invariant: a session is either expected (its tunnel is not recovered yet), pending, or decided, once.
"""

from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec

from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.daemon.effects import INFO, WARNING, Effect, Log
from holdfast.daemon.line import Line
from holdfast.protocol.pace import ECHOES_PER_TICK, TICK

TRIES: Final = 8
INTERVAL: Duration = 3 * SECOND
"""Eight questions three seconds apart: a session ends after 24 s of silence, of which pppd needs seconds at worst (it
answers echoes between its other work), and at a loss of one packet in ten on the way there and back once in 600,000.
"""

HEAD_START: Duration = 1 * SECOND
"""What a recovered tunnel has for its control messages before its sessions are asked."""

NO_ANSWER: Final = "no answer to LCP echoes after the restart"


class Turn(Enum):
    """What a pending session's turn calls for."""

    ASK = 1
    END = 2


class Proof(msgspec.Struct, gc=False, kw_only=True):
    """How far the sessions of one recovered tunnel have shown that they forward.

    `silent` were ended because they did not answer, `ended` otherwise (by either side); `off`: nobody asks, because
    echoes are off.
    """

    tunnel_id: int
    peer_name: str
    began_at: Instant
    off: bool = False
    pending: int = 0
    proved: int = 0
    silent: int = 0
    ended: int = 0
    took_ms: int = 0

    @property
    def state(self) -> str:
        """As `show recoveries` has it."""
        return "off" if self.off else "pending" if self.pending else "done"


class Proofs:
    """The sessions that have still to be proved, and the pace at which they are asked."""

    def __init__(self) -> None:
        self._expected: dict[int, list[Line]] = {}
        self._pending: dict[int, Proof] = {}
        self._tries: dict[int, int] = {}
        self._fresh: deque[tuple[Instant, int]] = deque()
        self._asked: deque[tuple[Instant, int]] = deque()
        self._turn_at: Instant = 0
        self._tunnels = self._proved = self._silent = self._ended = 0
        self._complete = False

    def expect(self, line: Line) -> None:
        """A session has been restored from its record."""
        self._expected.setdefault(line.tunnel_id, []).append(line)

    def begin(
        self, tunnel_id: int, lines: Mapping[int, Line], now: Instant, out: list[Effect]
    ) -> Proof | None:
        """A tunnel is recovered: its sessions are due. None if that is known already, or there are none."""
        expected = self._expected.pop(tunnel_id, None)
        if expected is None:
            return None
        proof = Proof(tunnel_id=tunnel_id, peer_name=expected[0].tunnel.peer.name, began_at=now)
        proof.off = not any(line.link.config.echo_interval for line in expected)
        if proof.off:
            return proof
        self._tunnels += 1
        for line in expected:
            if lines.get(line.key) is not line:
                continue
            proof.pending += 1
            self._pending[line.key] = proof
            self._fresh.append((now + HEAD_START, line.key))
        for line in expected:
            if line.link.heard:
                self.heard(line.key, now, out)
        return proof

    @property
    def waiting(self) -> bool:
        """Whether any session is pending."""
        return bool(self._pending)

    def heard(self, key: int, now: Instant, out: list[Effect]) -> None:
        """Something has come from a session's subscriber."""
        proof = self._settle(key)
        if proof is not None:
            proof.proved += 1
            self._proved += 1
            self._report(proof, now, out)

    def over(self, key: int, *, silent: bool, now: Instant, out: list[Effect]) -> None:
        """A session has ended; `silent`: because it did not answer."""
        proof = self._settle(key)
        if proof is None:
            return
        if silent:
            proof.silent += 1
            self._silent += 1
        else:
            proof.ended += 1
            self._ended += 1
        self._report(proof, now, out)

    def forget(self, tunnel_id: int) -> None:
        """A tunnel has ended before it was recovered."""
        self._expected.pop(tunnel_id, None)

    def complete(self, out: list[Effect]) -> None:
        """No other tunnel of the restart will follow."""
        self._complete = True
        self._report_node(out)

    def _settle(self, key: int) -> Proof | None:
        proof = self._pending.pop(key, None)
        if proof is not None:
            proof.pending -= 1
            self._tries.pop(key, None)
        return proof

    def take(self, lines: Mapping[int, Line], now: Instant) -> list[tuple[Line, Turn]]:
        """The sessions whose turn it is, no more than one tick allows."""
        turns: list[tuple[Line, Turn]] = []
        if now < self._turn_at:
            return turns
        while len(turns) < ECHOES_PER_TICK and (key := self._next(now)) is not None:
            line = lines[key]
            if line.tunnel.suspect:
                self._tries[key] = 0
            else:
                asked = self._tries.get(key, 0)
                self._tries[key] = asked + 1
                turns.append((line, Turn.ASK if asked < TRIES else Turn.END))
            self._asked.append((now + INTERVAL, key))
        if turns:
            self._turn_at = now + TICK
        return turns

    def _next(self, now: Instant) -> int | None:
        for queue in (self._fresh, self._asked):
            while queue and queue[0][0] <= now:
                if (key := queue.popleft()[1]) in self._pending:
                    return key
        return None

    def deadline(self) -> Instant | None:
        """When `take` wants to be called next."""
        if not self._pending:
            return None
        at = min(queue[0][0] for queue in (self._fresh, self._asked) if queue)
        return max(self._turn_at, at)

    def _report(self, proof: Proof, now: Instant, out: list[Effect]) -> None:
        if proof.pending:
            return
        proof.took_ms = (now - proof.began_at) // MILLISECOND
        fields: dict[str, object] = {
            "tunnel": proof.tunnel_id,
            "peer": proof.peer_name,
            "proved": proof.proved,
            "silent": proof.silent,
            "ended": proof.ended,
            "took_ms": proof.took_ms,
        }
        out.append(Log("recovery.proved", fields, WARNING if proof.silent else INFO))
        self._report_node(out)

    def _report_node(self, out: list[Effect]) -> None:
        """Every session of the restart is decided: said once."""
        if not self._complete or self._pending or not self._tunnels:
            return
        fields: dict[str, object] = {
            "tunnels": self._tunnels,
            "proved": self._proved,
            "silent": self._silent,
            "ended": self._ended,
        }
        self._tunnels = 0
        out.append(Log("node.proved", fields, WARNING if self._silent else INFO))
