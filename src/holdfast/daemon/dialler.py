"""The LAC's initiative: keep the configured tunnels open and place the subscribers' calls on them.

The dialler decides and the node acts: `take` hands out what is to be done. Invariants: a subscriber has at most one
call; a tunnel that is lost is opened again after 1…60 s, longer each time it fails; calls spread evenly over the
tunnels of a peer, also while those are still being set up.
"""

from typing import TypeAlias

import msgspec

from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.core.deadlines import Deadlines
from holdfast.core.ids import RandomBytes
from holdfast.daemon.config_keys import Config
from holdfast.daemon.views import SubscriberView
from holdfast.protocol.effects import Cause
from holdfast.subscriber.subscriber import Effect as SubscriberEffect
from holdfast.subscriber.subscriber import Loss, PlaceCall, State, Subscriber

LONGEST_WAIT: Duration = 60 * SECOND
AT_ONCE = frozenset((Cause.PURGED, Cause.STALE))
"""A recovery took the session away: the subscriber calls again without waiting, once (T-23)."""


class OpenTunnel(msgspec.Struct, frozen=True, gc=False):
    """Open one more tunnel to a peer, then say `opening`."""

    peer_name: str


class Call(msgspec.Struct, frozen=True, gc=False):
    """Place a call for a subscriber on the tunnel that `pick` names, then say `placed` or `not_placed`."""

    name: str


class HangUp(msgspec.Struct, frozen=True, gc=False):
    """End a subscriber's call in an orderly way."""

    name: str
    key: int


Action: TypeAlias = OpenTunnel | Call | HangUp


class Trunk:
    """The tunnels to one peer. `load` counts the calls placed on each."""

    __slots__ = ("failures", "load", "wanted")

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.load: dict[int, int] = {}
        self.failures = 0


class Dialler:
    """All subscribers and trunks of a node; an LNS has none."""

    def __init__(self, config: Config, random: RandomBytes) -> None:
        self._random = random
        self._trunk_of = {s.name: s.tunnel for s in config.subscriber}
        self._auto = {s.name: s.auto for s in config.subscriber}
        self.subscribers = {s.name: Subscriber(s.name, s.auto, random) for s in config.subscriber}
        self._trunks = {p.name: Trunk(p.tunnels) for p in config.peer if p.connect}
        self._name_of: dict[int, str] = {}
        self._key_of: dict[str, int] = {}
        self._address: dict[str, str] = {}
        self._retries: Deadlines[str] = Deadlines()
        self._reopen: Deadlines[str] = Deadlines()
        self._todo: list[Action] = []
        self._stopped = False

    # What the node tells.

    def restored_tunnel(self, peer_name: str, tunnel_id: int) -> None:
        """A tunnel was loaded from its record."""
        trunk = self._trunks.get(peer_name)
        if trunk is not None:
            trunk.load[tunnel_id] = 0

    def restored_session(self, name: str, key: int, tunnel_id: int, address: str) -> bool:
        """A subscriber's session was loaded from its record. False: it is not configured any more."""
        subscriber = self.subscribers.get(name)
        if subscriber is None:
            return False
        subscriber.restore()
        self._bind(name, key, tunnel_id)
        self._address[name] = address
        return True

    def begin(self, now: Instant) -> None:
        """Everything recorded is known: open the tunnels that are missing, call for those that are not connected."""
        for peer_name, trunk in self._trunks.items():
            self._todo += [OpenTunnel(peer_name)] * (trunk.wanted - len(trunk.load))
        for name, subscriber in self.subscribers.items():
            if self._auto[name] and subscriber.state is State.IDLE:
                self._apply(name, subscriber.up(now))

    def opening(self, peer_name: str, tunnel_id: int) -> None:
        """A tunnel is being opened."""
        self._trunks[peer_name].load[tunnel_id] = 0

    def tunnel_up(self, peer_name: str, now: Instant) -> None:
        """A tunnel is open: those who wait for one need not wait any longer."""
        trunk = self._trunks.get(peer_name)
        if trunk is None:
            return
        trunk.failures = 0
        for name, subscriber in self.subscribers.items():
            if self._trunk_of[name] == peer_name and subscriber.state is State.WAITING:
                self._apply(name, subscriber.tunnel_up(now))

    def tunnel_down(self, peer_name: str, tunnel_id: int, now: Instant) -> None:
        """A tunnel is gone, or could not be opened."""
        trunk = self._trunks.get(peer_name)
        if trunk is None or trunk.load.pop(tunnel_id, None) is None or self._stopped:
            return
        bound = min(LONGEST_WAIT, SECOND << min(trunk.failures, 6))
        trunk.failures += 1
        wait = bound // 2 + int.from_bytes(self._random(4), "big") % (bound // 2 + 1)
        self._reopen.set(peer_name, now + wait)

    def placed(self, name: str, key: int, tunnel_id: int) -> None:
        """A subscriber's call has been placed."""
        self._bind(name, key, tunnel_id)

    def not_placed(self, name: str, text: str, now: Instant) -> None:
        """A subscriber's call could not even be placed."""
        self._lost(name, Loss.FAILED, text, now)

    def connected(self, name: str, now: Instant) -> None:
        """A subscriber's session is established; PPP begins."""
        self._apply(name, self.subscribers[name].connected(now))

    def opened(self, name: str, address: str, now: Instant) -> None:
        """A subscriber is online."""
        self._address[name] = address
        self._apply(name, self.subscribers[name].network_up(now))

    def renegotiates(self, name: str, now: Instant) -> None:
        """A subscriber's PPP is negotiated anew."""
        self._apply(name, self.subscribers[name].network_down(now))

    def lost(self, key: int, cause: Cause, text: str, now: Instant) -> None:
        """A session is gone; whether a subscriber had it is found out here."""
        name = self._name_of.pop(key, None)
        if name is None:
            return
        self._key_of.pop(name, None)
        self._address.pop(name, None)
        trunk = self._trunks.get(self._trunk_of[name])
        tunnel_id = key >> 32
        if trunk is not None and tunnel_id in trunk.load:
            trunk.load[tunnel_id] -= 1
        self._lost(name, Loss.PURGED if cause in AT_ONCE else Loss.FAILED, text or cause.value, now)

    def _lost(self, name: str, loss: Loss, text: str, now: Instant) -> None:
        if not self._stopped:
            self._apply(name, self.subscribers[name].lost(loss, text, now))

    def _bind(self, name: str, key: int, tunnel_id: int) -> None:
        self._name_of[key] = name
        self._key_of[name] = key
        load = self._trunks[self._trunk_of[name]].load
        if (
            tunnel_id in load
        ):  # a restored session may be in a tunnel that its subscriber would not take today
            load[tunnel_id] += 1

    # What operators tell.

    def up(self, name: str, now: Instant) -> bool:
        """Connect a subscriber. False: there is none of that name."""
        subscriber = self.subscribers.get(name)
        if subscriber is not None:
            self._apply(name, subscriber.up(now))
        return subscriber is not None

    def down(self, name: str, now: Instant) -> bool:
        """Disconnect a subscriber. False: there is none of that name."""
        subscriber = self.subscribers.get(name)
        if subscriber is not None:
            self._apply(name, subscriber.down(now))
        return subscriber is not None

    def stop(self) -> None:
        """No more calls and no more tunnels."""
        self._stopped = True
        self._todo.clear()

    # What the node is to do.

    def deadline(self) -> Instant | None:
        """The next retry."""
        if self._stopped:
            return None
        call, tunnel = self._retries.next(), self._reopen.next()
        return call if tunnel is None else tunnel if call is None else min(call, tunnel)

    @property
    def pending(self) -> bool:
        """Whether something is to be done at once."""
        return bool(self._todo)

    def take(self, now: Instant) -> list[Action]:
        """What is to be done now; ask again until nothing is left."""
        if self._stopped:
            return []
        for name in self._retries.due(now):
            self._apply(name, self.subscribers[name].timer(now))
        for peer_name in self._reopen.due(now):
            trunk = self._trunks[peer_name]
            self._todo += [OpenTunnel(peer_name)] * (trunk.wanted - len(trunk.load))
        todo, self._todo = self._todo, []
        return todo

    def pick(self, name: str) -> int:
        """The least loaded tunnel for a subscriber's call, 0 if there is none."""
        load = self._trunks[self._trunk_of[name]].load
        return min(load, key=load.__getitem__, default=0)

    def _apply(self, name: str, effects: list[SubscriberEffect]) -> None:
        for effect in effects:
            if isinstance(effect, PlaceCall):
                self._todo.append(Call(name))
            else:
                self._todo.append(HangUp(name, self._key_of.get(name, 0)))
        self._retries.set(name, self.subscribers[name].deadline)

    # What others ask.

    def name_of(self, key: int) -> str | None:
        """The subscriber whose session that is."""
        return self._name_of.get(key)

    def view(self, name: str, now: Instant) -> SubscriberView | None:
        """One subscriber, for `show subscribers`."""
        subscriber = self.subscribers.get(name)
        if subscriber is None:
            return None
        at = subscriber.deadline
        return SubscriberView(
            name=name,
            tunnel=self._trunk_of[name],
            auto=self._auto[name],
            state=subscriber.state.name.lower(),
            session=self._key_of.get(name, 0),
            address=self._address.get(name, ""),
            attempts=subscriber.attempts,
            next_try_s=max(0, (at - now + SECOND - 1) // SECOND) if at is not None else 0,
            last_error=subscriber.last_error,
        )
