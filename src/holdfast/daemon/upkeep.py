"""What a node writes by the clock and waits for nowhere: tunnels' numbers, the ledger, its own record, second tries."""

from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.daemon.effects import Effect, Persist
from holdfast.daemon.identity import INTERVAL, Identity
from holdfast.daemon.ledger import Ledger
from holdfast.daemon.sessions import Sessions
from holdfast.protocol.endpoint import Endpoint

HINT_INTERVAL: Duration = 1 * SECOND
"""How far the recorded sequence numbers of a tunnel may lag; nobody waits for them."""


class Upkeep:
    """The node's writes of this kind, once it has begun."""

    def __init__(self, endpoint: Endpoint, identity: Identity, ledger: Ledger, sessions: Sessions) -> None:
        self._endpoint = endpoint
        self._identity = identity
        self._ledger = ledger
        self._sessions = sessions
        self._record_at: Instant | None = None
        self._hint_at: Instant = 0

    def begin(self, now: Instant) -> None:
        """From now on."""
        self._record_at = now

    def timer(self, now: Instant, out: list[Effect]) -> None:
        """Write what is due."""
        if self._record_at is not None and self._record_at <= now:
            self._record_at = now + INTERVAL
            self._identity.save(out)
            out.append(Persist(0, self._ledger.take()))
            self._sessions.save_again(out)
        if self._hints_wait and self._hint_at <= now:
            self._hint_at = now + HINT_INTERVAL
            out.append(Persist(0, self._endpoint.take_hints() + self._ledger.take()))

    def deadline(self) -> Instant | None:
        """When `timer` wants to be called next."""
        if self._hints_wait and (self._record_at is None or self._hint_at < self._record_at):
            return self._hint_at
        return self._record_at

    @property
    def _hints_wait(self) -> bool:
        return bool(self._endpoint.ctx.hints) or self._ledger.dirty
