"""A subscriber that this node runs: whether it should be connected, and when it calls again.

The owner carries out the effects (places the call, runs the PPP link) and tells what became of them. A set-up that
step I of a recovery has purged is tried again at once, once; any other loss waits 1…60 s, longer each time, by
chance, so that many subscribers do not call as one (T-23).

Invariants: `state` follows the table; at most one call exists at a time; `deadline` is set in WAITING only.
"""

from enum import Enum
from typing import Final, TypeAlias

import msgspec

from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.core.errors import LocalError
from holdfast.core.ids import RandomBytes

SHORTEST_WAIT: Final[Duration] = 1 * SECOND
LONGEST_WAIT: Final[Duration] = 60 * SECOND


class State(Enum):
    """Value: what it means."""

    IDLE = "not to be connected"
    WAITING = "waits until the next call is due"
    CALLING = "the call is being set up"
    LINKING = "PPP is being negotiated"
    ONLINE = "connected"
    CLOSING = "the call is being ended"


class Input(Enum):
    """What may happen."""

    UP = "told to connect"
    DOWN = "told to disconnect"
    DUE = "the next call is due"
    CONNECTED = "the call is set up"
    NETWORK_UP = "PPP is open"
    NETWORK_DOWN = "PPP negotiates anew"
    LOST_RETRY_NOW = "the call is gone; call at once"
    LOST_RETRY = "the call is gone; call later"
    LOST = "the call is gone and not to be placed again"


_LOST: Final = {
    Input.LOST_RETRY_NOW: State.CALLING,
    Input.LOST_RETRY: State.WAITING,
    Input.LOST: State.IDLE,
}
_CALL: Final = {Input.UP: None, Input.DOWN: State.CLOSING, **_LOST}

TABLE: Final[dict[State, dict[Input, State | None]]] = {
    State.IDLE: {Input.UP: State.CALLING, Input.DOWN: None, **dict.fromkeys(_LOST)},
    State.WAITING: {
        Input.UP: State.CALLING,
        Input.DOWN: State.IDLE,
        Input.DUE: State.CALLING,
        **dict.fromkeys(_LOST),
    },
    State.CALLING: {Input.CONNECTED: State.LINKING, **_CALL},
    State.LINKING: {Input.NETWORK_UP: State.ONLINE, Input.NETWORK_DOWN: None, **_CALL},
    State.ONLINE: {Input.NETWORK_DOWN: State.LINKING, Input.NETWORK_UP: None, **_CALL},
    State.CLOSING: {
        Input.UP: None,
        Input.DOWN: None,
        Input.CONNECTED: None,
        Input.NETWORK_UP: None,
        Input.NETWORK_DOWN: None,
        **_LOST,
    },
}
"""`TABLE[state][input]`: the next state, None to stay. A pair that is missing cannot happen: LocalError."""


class Loss(Enum):
    """How a call came to its end."""

    PURGED = "the set-up was purged in step I of a recovery"
    FAILED = "the call could not be set up, or has ended"


class PlaceCall(msgspec.Struct, frozen=True, gc=False):
    """Place a call; then say `connected` or `lost`."""


class HangUp(msgspec.Struct, frozen=True, gc=False):
    """End the PPP link and the call in an orderly way; then say `lost`."""


Effect: TypeAlias = PlaceCall | HangUp


class Subscriber:
    """One subscriber's will and patience."""

    __slots__ = (
        "_auto",
        "_hurried",
        "_random",
        "_wanted",
        "attempts",
        "deadline",
        "last_error",
        "name",
        "state",
    )

    def __init__(self, name: str, auto: bool, random: RandomBytes) -> None:
        """`auto`: call again whenever a connection is lost; otherwise only until one was made."""
        self.name = name
        self.state = State.IDLE
        self.deadline: Instant | None = None
        self.attempts = 0
        """Calls that have failed since the last success."""
        self.last_error = ""
        self._auto = auto
        self._random = random
        self._wanted = False
        self._hurried = False

    def restore(self) -> None:
        """A record says that it is connected: nothing is to be done."""
        self.state = State.ONLINE
        self._wanted = True

    def up(self, now: Instant) -> list[Effect]:
        """It is to be connected."""
        self._wanted = True
        return self._step(Input.UP, now)

    def down(self, now: Instant) -> list[Effect]:
        """It is not to be connected."""
        self._wanted = False
        return self._step(Input.DOWN, now)

    def connected(self, now: Instant) -> list[Effect]:
        """The call is set up."""
        return self._step(Input.CONNECTED, now)

    def network_up(self, now: Instant) -> list[Effect]:
        """PPP is open."""
        effects = self._step(Input.NETWORK_UP, now)
        self.attempts = 0
        self.last_error = ""
        self._hurried = False
        return effects

    def network_down(self, now: Instant) -> list[Effect]:
        """PPP negotiates anew on the same call."""
        return self._step(Input.NETWORK_DOWN, now)

    def lost(self, loss: Loss, text: str, now: Instant) -> list[Effect]:
        """The call failed or ended, for a reason that `text` gives."""
        if self.state is State.ONLINE and not self._auto:
            self._wanted = False
        self.last_error = text
        if not self._wanted:
            return self._step(Input.LOST, now)
        if loss is Loss.PURGED and not self._hurried:
            self._hurried = True
            return self._step(Input.LOST_RETRY_NOW, now)
        return self._step(Input.LOST_RETRY, now)

    def tunnel_up(self, now: Instant) -> list[Effect]:
        """What calls were waiting for is there: do not wait any longer."""
        if self.state is not State.WAITING:
            return []
        self.attempts = 0
        return self._step(Input.DUE, now)

    def timer(self, now: Instant) -> list[Effect]:
        """The deadline may have come."""
        if self.deadline is None or now < self.deadline:
            return []
        return self._step(Input.DUE, now)

    def _step(self, what: Input, now: Instant) -> list[Effect]:
        """The one place where `state` changes."""
        moves = TABLE[self.state]
        if what not in moves:
            raise LocalError(f"subscriber {self.name}: {what.name} in {self.state.name}")
        state = moves[what]
        if state is None:
            return []
        self.state, self.deadline = state, None
        if state is State.CALLING:
            return [PlaceCall()]
        if state is State.CLOSING:
            return [HangUp()]
        if state is State.WAITING:
            self.deadline = now + self._patience()
            self.attempts += 1
        elif state is State.IDLE:
            self.attempts = 0
        return []

    def _patience(self) -> Duration:
        """By chance between the shortest wait and a bound that doubles with every failure."""
        bound = min(LONGEST_WAIT, SHORTEST_WAIT << min(self.attempts + 1, 6))
        chance = int.from_bytes(self._random(4), "big")
        return SHORTEST_WAIT + (bound - SHORTEST_WAIT) * chance // 0xFFFFFFFF
