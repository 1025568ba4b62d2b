"""The rounds of a drill: everybody up, every subscriber connected; kill, start again, watch, compare, report."""

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from holdfast.lab import netns, topology
from holdfast.lab.assess import Observed, Restarted, assess
from holdfast.lab.control import ControlError
from holdfast.lab.display import Display
from holdfast.lab.drill.laboratory import DrillFailed, Laboratory
from holdfast.lab.drill.sides import Sides, taking_part
from holdfast.lab.generators import Generators
from holdfast.lab.kernel import uml
from holdfast.lab.measure import Moments
from holdfast.lab.nodes import Node
from holdfast.lab.options import Options, Role
from holdfast.lab.report import Noticed, Report
from holdfast.lab.snapshot import Snapshot, facing, join
from holdfast.lab.through import Through

_WARM_UP_S = 1.5
_SETTLE_S = 15.0
_POLL_S = 0.05
_IN_FLIGHT_SPREAD_S = 0.015
"""The kill comes up to this long after the in-flight commands: about as long as they take."""


@contextmanager
def drilling(options: Options, display: Display, lab: Laboratory) -> Iterator["Drill"]:
    """Everybody started and every base subscriber connected, ready for the first round."""
    with taking_part(options, lab) as sides:
        drill = Drill(options, display, lab, sides)
        drill.bring_up()
        yield drill


class Drill:
    """Both sides up, every subscriber connected; `round` kills and measures, as often as one likes."""

    def __init__(self, options: Options, display: Display, lab: Laboratory, sides: Sides) -> None:
        self._options = options
        self._display = display
        self._net = lab.net
        self._work = lab.work
        self._nodes = sides.nodes
        self._peer = sides.peer
        self._names = sides.names
        self._up: list[Node] = []
        self._traffic: Generators | None = None

    def bring_up(self) -> None:
        """Start both sides and wait until every base subscriber is connected."""
        options = self._options
        self._display.phase(f"starting {options.cast}, {_count(options.sessions, 'subscriber')}")
        if self._peer:
            self._peer.start()
            self._wait(self._peer.ready, f"{options.peer} to start")
        for node in self._nodes.values():
            node.start()
            self._up.append(node)
        self._wait(self._started, "our nodes to start")
        if self._peer:
            self._wait(self._peer.dial, f"{options.peer} to call")
        self._wait(self._route_subscribers, "the LAC's device for its subscribers")
        self._wait(
            lambda: self._whole(self._names.base),
            "all subscribers to be connected",
            every_s=self._list_pause_s,
        )
        self._display.phase(
            f"{_count(options.sessions, 'subscriber')} connected in {_count(options.tunnels, 'tunnel')}"
        )

    def _started(self) -> bool:
        return all(node.reached_ns("node.started") is not None for node in self._nodes.values())

    def round(self, number: int) -> Report:
        """One kill under traffic, and its report."""
        before = self._line_up()
        whole = before.whole()
        addresses = [before.lac[whole[name]].address for name in self._names.base]
        directory = self._work / f"traffic-{number}"
        with Generators(self._net, addresses, self._options.pps, directory) as self._traffic:
            try:
                return self._kill_and_measure(number, before, addresses, self._traffic)
            finally:
                self._traffic = None
                shutil.rmtree(directory)

    def _kill_and_measure(
        self, number: int, before: Snapshot, addresses: list[str], traffic: Generators
    ) -> Report:
        options, display = self._options, self._display
        self._wait(lambda: traffic.live_since(1) == len(addresses), "traffic on every session")
        display.phase(f"traffic on every session, {options.pps:,} packets/s each way")
        with self._subscriber(addresses[0]) as subscriber:
            kernel_before = self._kernel_counters()
            cleared_before = {role: self._stale_cleared(role) for role in self._nodes}
            self._pause(_WARM_UP_S + random.random())
            self._news()
            killed = self._strike()
            display.phase(f"{' and '.join(killed)} killed and started again (round {number})")
            started_ns = max(self._nodes[role].started_ns for role in killed)
            self._wait(lambda: self._recovered(killed, traffic, started_ns), "recovery", fatal=False)
            display.phase(
                "recovered" if self._recovered(killed, traffic, started_ns) else "NOT recovered in time"
            )
            after = self._settle()
            self._pause(0.5)
            ping, transfer = subscriber.finish() if subscriber else (None, None)
        stop_ns = traffic.finish()
        noticed = self._news()
        moments = Moments(
            killed_ns=min(self._nodes[role].killed_ns for role in killed),
            dead_ns=max(self._nodes[role].dead_ns for role in killed),
            started_ns=started_ns,
            stop_ns=stop_ns,
        )
        cleared = {role: self._stale_cleared(role) for role in self._nodes}
        up, down = traffic.measure(moments)
        for node in self._nodes.values():
            node.log.refresh()
        return assess(
            Observed(
                peer=options.peer,
                kernel="user-mode-linux" if uml.inside() else "host",
                kill=options.kill,
                stagger_ms=options.stagger_ms,
                tunnels=options.tunnels,
                traffic_pps=options.pps,
                names=self._names.base,
                setups=self._names.setups,
                teardowns=self._names.teardowns,
                before=before,
                after=after,
                moments=moments,
                up=up,
                down=down,
                ping=ping,
                transfer=transfer,
                restarted={
                    role: Restarted(
                        dead_ns=self._nodes[role].dead_ns,
                        started_ns=self._nodes[role].started_ns,
                        log=self._nodes[role].log,
                        stale_cleared=cleared[role],
                    )
                    for role in killed
                },
                logs={role: node.log for role, node in self._nodes.items()},
                noticed=noticed,
                stale_cleared=sum(
                    cleared[role] - (0 if role in killed else cleared_before[role]) for role in self._nodes
                ),
                lost_by_kernel=_risen(kernel_before, self._kernel_counters()),
            )
        )

    @contextmanager
    def _subscriber(self, address: str) -> Iterator[Through | None]:
        """What the first subscriber does meanwhile, in front of a real peer."""
        if self._peer is None:
            yield None
            return
        directory = self._work / "subscriber"
        directory.mkdir(exist_ok=True)
        with Through(self._net, address, directory) as through:
            self._wait(lambda: through.flowing, "the TCP transfer to begin")
            yield through

    def _news(self) -> Noticed | None:
        """What a real peer has logged since this was last asked."""
        return self._peer.noticed() if self._peer else None

    def _line_up(self) -> Snapshot:
        """Set-up candidates down, teardown candidates up, base subscribers up; returns both nodes' view of it."""
        for names, command in ((self._names.setups, "down"), (self._names.teardowns, "up")):
            for name in names:
                self._nodes["lac"].control.subscriber(name, command)
        self._wait(self._lined_up, "the subscribers to be as before the kill", every_s=self._list_pause_s)
        return self._snapshot()

    def _lined_up(self) -> bool:
        with suppress(ControlError):
            now = self._snapshot()
            whole = now.whole().keys()
            wanted = {*self._names.base, *self._names.teardowns}
            return whole >= wanted and not whole & {*self._names.setups} and not now.half_open()
        return False

    def _strike(self) -> list[Role]:
        """Set-ups and teardowns begin; the kill; the restart. Returns who was killed."""
        shots = [
            self._nodes["lac"].control.prepare(name, command)
            for pair in zip(self._names.setups, self._names.teardowns, strict=True)
            for name, command in zip(pair, ("up", "down"), strict=True)
        ]
        for shot in shots:
            shot.fire()
        time.sleep(random.random() * _IN_FLIGHT_SPREAD_S)
        first, *later = self._options.waves
        self._kill_and_start(first)
        for shot in shots:
            shot.close()
        for roles in later:
            time.sleep(self._options.stagger_ms / 1000)
            self._kill_and_start(roles)
        return [*first, *(role for roles in later for role in roles)]

    def _kill_and_start(self, roles: Sequence[Role]) -> None:
        nodes = [self._nodes[role] for role in roles]
        for node in nodes:
            node.kill()
        for node in nodes:
            node.reap()
        for node in nodes:
            node.start()

    def _recovered(self, killed: list[Role], traffic: Generators, since_ns: int) -> bool:
        return all(
            self._nodes[role].reached_ns("node.synchronised") is not None for role in killed
        ) and traffic.live_since(since_ns) == len(self._names.base)

    def _settle(self) -> Snapshot:
        """The view of both sides once nothing is half open any more, or what it is when patience ends."""
        deadline = time.monotonic() + _SETTLE_S
        while True:
            with suppress(ControlError):
                now = self._snapshot()
                if not now.half_open() or time.monotonic() > deadline:
                    return now
            if time.monotonic() > deadline:
                raise DrillFailed("the nodes do not answer on their control sockets")
            self._pause(self._list_pause_s)

    def _snapshot(self) -> Snapshot:
        views = {
            role: (node.control.tunnels(), node.control.sessions()) for role, node in self._nodes.items()
        }
        if self._peer is None:
            return join(views["lac"], views["lns"])
        [(role, ours)] = views.items()
        return facing(role, ours, self._peer.sees)

    def _whole(self, names: Sequence[str]) -> bool:
        with suppress(ControlError):
            return self._snapshot().whole().keys() >= set(names)
        return False

    def _route_subscribers(self) -> bool:
        try:
            topology.route_subscribers(self._net, self._peer.device if self._peer else topology.TUN)
        except netns.LabUnavailable:  # the device is not there yet
            return False
        return True

    def _stale_cleared(self, role: Role) -> int:
        with suppress(ControlError):
            return self._nodes[role].control.counters().get("stale_cleared", 0)
        return 0

    def _kernel_counters(self) -> dict[str, dict[str, int]]:
        return {role: topology.kernel_counters(self._net.of(role)) for role in ("lac", "lns", "core")}

    @property
    def _list_pause_s(self) -> float:
        """Between two listings of all sessions: they are not free for the nodes."""
        return max(0.1, self._options.sessions / 10_000)

    def _wait(
        self, condition: Callable[[], bool], what: str, *, every_s: float = _POLL_S, fatal: bool = True
    ) -> None:
        """Wait until `condition` holds. Raises DrillFailed when patience ends, unless it is not `fatal`."""
        deadline = time.monotonic() + self._options.patience_s
        while not condition():
            if time.monotonic() > deadline:
                if fatal:
                    raise DrillFailed(f"waited {self._options.patience_s:.0f} s in vain for {what}")
                return
            self._pause(every_s)

    def _pause(self, seconds: float) -> None:
        """Wait, keep the display alive, and notice a node that ends by itself."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for node in self._up:
                node.check()
            self._display.tick(self if self._traffic else None)
            time.sleep(min(left, _POLL_S))

    def sessions_live(self) -> int:
        """Sessions with data in both directions within the last second."""
        return self._traffic.live_since(time.monotonic_ns() - 1_000_000_000) if self._traffic else 0

    def packets(self) -> tuple[int, int]:
        """Packets received so far: up, down."""
        return (self._traffic.up.received, self._traffic.down.received) if self._traffic else (0, 0)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _risen(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The counters that went up, by how much; a namespace without any is left out."""
    risen = {
        place: {
            name: n - before[place].get(name, 0)
            for name, n in counters.items()
            if n > before[place].get(name, 0)
        }
        for place, counters in after.items()
    }
    return {place: counters for place, counters in risen.items() if counters}
