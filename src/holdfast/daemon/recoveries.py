"""The recoveries that operators can look at: the running ones and the last of those that are over.

One recovery is everything that was tried to bring a tunnel back after one failure, whatever the methods; its steps are
kept as facts, so many at most of each. `why` puts them into words.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from holdfast.core.clock import MILLISECOND, Instant
from holdfast.daemon.effects import INFO, WARNING, Log
from holdfast.daemon.proofs import Proof
from holdfast.daemon.views import ChoiceView, RecoveryView, StepView
from holdfast.protocol.effects import Cause, Recovery, RecoveryPhase
from holdfast.protocol.recovery import RECOVERY_ENDPOINT, REMOTE_ENDPOINT
from holdfast.protocol.settings import Method
from holdfast.protocol.silent import ROLE as SILENT
from holdfast.protocol.tunnel import Tunnel

OFF = Method.OFF.value

KEPT = 1000
"""Recoveries that are remembered after their end."""

FIRST_STEPS, LAST_STEPS = 8, 24
"""Steps of one recovery that are remembered; one in between is counted."""


class RecoveryState(msgspec.Struct, gc=False, kw_only=True):
    """One recovery so far. Durations count from its start, in milliseconds; `ended` counts sessions by their cause.

    `choice` is how the method was chosen; None if the peer chose.
    """

    tunnel_id: int
    peer_name: str
    host_name: str
    role: str
    phase: RecoveryPhase
    started_at: Instant
    started_utc_us: int
    choice: ChoiceView | None = None
    control_recovered_ms: int | None = None
    receive_settled_ms: int | None = None
    synchronised_ms: int | None = None
    sessions_before: int = 0
    sessions: int = 0
    stale_cleared: int = 0
    attempts: int = 0
    reason: str = ""
    proof: Proof | None = None
    first_steps: list[StepView] = []
    last_steps: deque[StepView] = msgspec.field(default_factory=lambda: deque(maxlen=LAST_STEPS))
    steps_left_out: int = 0
    ended: dict[Cause, int] = {}

    def add(self, step: StepView) -> None:
        """One more step."""
        if len(self.first_steps) < FIRST_STEPS:
            self.first_steps.append(step)
            return
        if len(self.last_steps) == LAST_STEPS:
            self.steps_left_out += 1
        self.last_steps.append(step)

    @property
    def steps(self) -> list[StepView]:
        """What is remembered of its steps, in order."""
        return [*self.first_steps, *self.last_steps]


class Recoveries:
    """Recoveries by tunnel, oldest first. `choice_of` tells why a tunnel is recovered by its method."""

    def __init__(self, utc_us: Callable[[], int], choice_of: Callable[[Tunnel], ChoiceView]) -> None:
        self._utc_us = utc_us
        self._choice_of = choice_of
        self._before: dict[int, tuple[Tunnel, int]] = {}
        self._running: dict[int, RecoveryState] = {}
        self._over: deque[RecoveryState] = deque(maxlen=KEPT)
        self._ended: dict[int, RecoveryState] = {}
        self._ended_at: Instant | None = None

    def expect(self, tunnels: Iterable[Tunnel]) -> None:
        """These are about to be recovered. One that is given up at once is gone when that is told."""
        self._before = {tunnel.local_id: (tunnel, len(tunnel.by_peer)) for tunnel in tunnels}

    def note(self, news: Recovery, tunnel: Tunnel | None, now: Instant) -> RecoveryState:
        """Take in a step of a recovery. A remote endpoint's begins with its reset."""
        state = self._running.get(news.tunnel_id)
        if state is None or (
            news.role == state.role == REMOTE_ENDPOINT and news.phase is RecoveryPhase.RESET
        ):
            self.forget(news.tunnel_id, now)
            state = self._running[news.tunnel_id] = self._begin(news, tunnel, now)
        elapsed_ms = (now - state.started_at) // MILLISECOND
        state.add(StepView(elapsed_ms, news.role, news.phase.value, news.text))
        previous, state.phase, state.role = state.phase, news.phase, news.role
        state.reason = news.text
        if tunnel is not None:
            state.sessions = len(tunnel.by_peer)
        match news.phase:
            case RecoveryPhase.CONFIRMED:
                state.control_recovered_ms = elapsed_ms
                state.receive_settled_ms = None if news.role == SILENT else elapsed_ms
            case RecoveryPhase.SYNCHRONISED:
                state.synchronised_ms = elapsed_ms
                if news.role == SILENT:
                    state.receive_settled_ms = elapsed_ms
                state.stale_cleared = news.stale
                self.forget(news.tunnel_id, now)
            case RecoveryPhase.FAILED | RecoveryPhase.FELL_BACK:
                state.attempts -= previous is RecoveryPhase.REFUSED  # no other followed on the refused one
                if news.phase is RecoveryPhase.FAILED:
                    self.forget(news.tunnel_id, now)
            case RecoveryPhase.STARTED | RecoveryPhase.RETRIED | RecoveryPhase.REFUSED:
                state.attempts += 1
            case RecoveryPhase.RESET if news.role == REMOTE_ENDPOINT:
                state.attempts += 1
            case _:
                pass
        return state

    def _begin(self, news: Recovery, tunnel: Tunnel | None, now: Instant) -> RecoveryState:
        ours = news.role in (RECOVERY_ENDPOINT, SILENT)
        count = len(tunnel.by_peer) if tunnel is not None else 0
        if tunnel is None and news.tunnel_id in self._before:
            tunnel, count = self._before[news.tunnel_id]
        return RecoveryState(
            tunnel_id=news.tunnel_id,
            peer_name=news.peer_name,
            host_name=tunnel.peer_host_name if tunnel is not None else "",
            role=news.role,
            phase=news.phase,
            started_at=now,
            started_utc_us=self._utc_us(),
            choice=self._choice_of(tunnel) if ours and tunnel is not None else None,
            sessions_before=count,
        )

    def session_down(self, tunnel_id: int, cause: Cause, now: Instant) -> None:
        """A session has ended. That is a part of the story while its tunnel is being recovered, and by the input that
        ended the recovery.
        """
        state = self._running.get(tunnel_id)
        if state is None and self._ended_at == now:
            state = self._ended.get(tunnel_id)
        if state is not None:
            state.ended[cause] = state.ended.get(cause, 0) + 1

    def forget(self, tunnel_id: int, now: Instant) -> None:
        """A recovery is over, one way or the other."""
        state = self._running.pop(tunnel_id, None)
        if state is None:
            return
        if self._ended_at != now:
            self._ended_at, self._ended = now, {}
        self._ended[tunnel_id] = state
        self._over.append(state)

    def latest(self, tunnel_id: int) -> RecoveryState | None:
        """The running recovery of a tunnel, or the last one that is remembered."""
        running = self._running.get(tunnel_id)
        if running is not None:
            return running
        return next((state for state in reversed(self._over) if state.tunnel_id == tunnel_id), None)

    def is_running(self, state: RecoveryState) -> bool:
        """Whether this recovery is under way."""
        return self._running.get(state.tunnel_id) is state

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._running)

    def views(self) -> Iterator[RecoveryView]:
        """For `show recoveries`, those that are over first."""
        for state in (*self._over, *self._running.values()):
            yield view(state)


def log_of(news: Recovery) -> Log:
    """A step of a recovery as a log event."""
    failed = news.phase in (RecoveryPhase.FAILED, RecoveryPhase.REFUSED)
    event = "recovery." + news.phase.value
    if news.phase is RecoveryPhase.CONFIRMED:
        event = "tunnel.recovered"
    fields: dict[str, object] = {
        "tunnel": news.tunnel_id,
        "peer": news.peer_name,
        "role": news.role,
        "phase": news.phase.value,
        "method": _method(news.role),
        "stale": news.stale,
        "text": news.text,
    }
    return Log(event, fields, WARNING if failed else INFO)


def _method(role: str) -> str:
    return "silent" if role == SILENT else "rfc4951"


def view(state: RecoveryState) -> RecoveryView:
    """One row of `show recoveries`."""
    proof = state.proof
    return RecoveryView(
        tunnel_id=state.tunnel_id,
        peer_name=state.peer_name,
        role=state.role,
        method=OFF if state.choice is not None and state.choice.method == OFF else _method(state.role),
        state=state.phase.value,
        started_utc_us=state.started_utc_us,
        control_recovered_ms=state.control_recovered_ms,
        receive_settled_ms=state.receive_settled_ms,
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
