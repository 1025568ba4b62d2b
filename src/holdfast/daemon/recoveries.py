"""The recoveries that operators can look at: the running ones and the last of those that are over."""

from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from holdfast.core.clock import MILLISECOND, Instant
from holdfast.daemon.proofs import Proof
from holdfast.daemon.views import RecoveryView
from holdfast.protocol.effects import Recovery, RecoveryPhase
from holdfast.protocol.silent import ROLE as SILENT
from holdfast.protocol.tunnel import Tunnel

KEPT = 1000
"""Recoveries that are remembered after their end."""


class RecoveryState(msgspec.Struct, gc=False, kw_only=True):
    """One recovery so far. Durations count from its start, in milliseconds."""

    tunnel_id: int
    peer_name: str
    role: str
    phase: RecoveryPhase
    started_at: Instant
    started_utc_us: int
    control_recovered_ms: int = 0
    synchronised_ms: int = 0
    sessions: int = 0
    stale_cleared: int = 0
    attempts: int = 1
    reason: str = ""
    proof: Proof | None = None


class Recoveries:
    """Recoveries by tunnel, oldest first."""

    def __init__(self, utc_us: Callable[[], int]) -> None:
        self._utc_us = utc_us
        self._running: dict[int, RecoveryState] = {}
        self._over: deque[RecoveryState] = deque(maxlen=KEPT)

    def note(self, news: Recovery, tunnel: Tunnel | None, now: Instant) -> RecoveryState:
        """Take in a step of a recovery. A remote endpoint's begins with its reset."""
        state = self._running.get(news.tunnel_id)
        if state is None or state.role != news.role:
            state = RecoveryState(
                tunnel_id=news.tunnel_id,
                peer_name=news.peer_name,
                role=news.role,
                phase=news.phase,
                started_at=now,
                started_utc_us=self._utc_us(),
            )
            self._running[news.tunnel_id] = state
        elapsed_ms = (now - state.started_at) // MILLISECOND
        state.phase = news.phase
        state.reason = news.text
        if tunnel is not None:
            state.sessions = len(tunnel.by_peer)
        match news.phase:
            case RecoveryPhase.CONFIRMED:
                state.control_recovered_ms = elapsed_ms
            case RecoveryPhase.SYNCHRONISED:
                state.synchronised_ms = elapsed_ms
                state.stale_cleared = news.stale
                self.forget(news.tunnel_id)
            case RecoveryPhase.FAILED:
                self.forget(news.tunnel_id)
            case RecoveryPhase.RETRIED | RecoveryPhase.REFUSED:
                state.attempts += 1
            case _:
                pass
        return state

    def forget(self, tunnel_id: int) -> None:
        """A recovery is over, one way or the other."""
        state = self._running.pop(tunnel_id, None)
        if state is not None:
            self._over.append(state)

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._running)

    def views(self) -> Iterator[RecoveryView]:
        """For `show recoveries`, those that are over first."""
        for state in (*self._over, *self._running.values()):
            proof = state.proof
            yield RecoveryView(
                tunnel_id=state.tunnel_id,
                peer_name=state.peer_name,
                role=state.role,
                method="silent" if state.role == SILENT else "rfc4951",
                state=state.phase.value,
                started_utc_us=state.started_utc_us,
                control_recovered_ms=state.control_recovered_ms,
                synchronised_ms=state.synchronised_ms,
                sessions=state.sessions,
                stale_cleared=state.stale_cleared,
                attempts=state.attempts,
                reason=state.reason,
                proof=proof.state if proof is not None else "",
                proved=proof.proved if proof is not None else 0,
                silent_cleared=proof.silent if proof is not None else 0,
                unproved=proof.pending if proof is not None else 0,
                proved_ms=proof.took_ms if proof is not None else 0,
            )
