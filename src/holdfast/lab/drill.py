"""`holdfast drill restart`: kill a node under traffic, start it again, and say what became of every session.

Three namespaces, two `holdfast run` processes, two traffic generators that outlive them. A round: traffic flows on
every session; a few more sessions are being set up and torn down; SIGKILL; start again at once; wait until the node
is synchronised and every session has data; compare both nodes' sessions with what they were.
Exit status: 0 only if every round's result is "ok"; 1 if not; 2 if there can be no drill here.
"""

import random
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from holdfast.core.errors import LocalError
from holdfast.lab import netns, topology
from holdfast.lab.assess import Observed, Restarted, assess
from holdfast.lab.capture import capturing
from holdfast.lab.control import ControlError
from holdfast.lab.display import Display, open_display
from holdfast.lab.generators import Generators
from holdfast.lab.measure import Moments
from holdfast.lab.nodes import Node, lac_config, lns_config
from holdfast.lab.options import Options, Role, parse
from holdfast.lab.report import Report, encode, series
from holdfast.lab.snapshot import Snapshot, join

IN_FLIGHT = 5
"""Sessions being set up, and as many being torn down, at the moment of the kill."""

_WARM_UP_S = 1.5
_SETTLE_S = 15.0
_POLL_S = 0.05
_IN_FLIGHT_SPREAD_S = 0.015
"""The kill comes up to this long after the in-flight commands: about as long as they take."""


class DrillFailed(LocalError):
    """The drill could not get to, or past, its kill."""


def main(argv: list[str]) -> int:
    """The command: `argv` is what follows `drill restart`."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, _interrupted)
    display = open_display(options.sessions)
    rounds: list[Report] = []
    try:
        with _laboratory(options, display, rounds) as drill:
            for number in range(1, options.repeat + 1):
                rounds.append(drill.round(number))
                display.report(rounds[-1])
    except netns.LabUnavailable as e:
        print(f"holdfast drill: {e}", file=sys.stderr)
        return 2
    except LocalError as e:
        print(f"holdfast drill: {e}", file=sys.stderr)
        if not rounds:
            return 1
    finally:
        display.close()
    outcome = series(rounds, options.repeat) if options.repeat > 1 else rounds[0]
    if options.json:
        Path(options.json).write_bytes(encode(outcome))
    if options.repeat > 1:
        print(f"{sum(r.result == 'ok' for r in rounds)} of {options.repeat} rounds ok")
    return 0 if outcome.result == "ok" else 1


def _interrupted(*_: object) -> NoReturn:
    raise SystemExit(143)


@contextmanager
def _laboratory(options: Options, display: Display, rounds: Sequence[Report]) -> Iterator["Drill"]:
    """Namespaces, capture and nodes, ready for the first round; all of it is gone afterwards.

    Configurations, logs and journals are kept if that was asked for, or if something went wrong.
    """
    with ExitStack() as stack:
        claim = stack.enter_context(netns.claim())
        net = topology.build(claim)
        work = _empty(options.keep) if options.keep else claim.scratch()
        if options.pcap:
            stack.enter_context(capturing(net, options.pcap, work))
        drill = Drill(options, display, net, work, claim.directory)
        stack.callback(drill.close)
        try:
            drill.bring_up()
            yield drill
        except LocalError:
            _keep(claim, work)
            raise
        if any(r.result != "ok" for r in rounds):
            _keep(claim, work)


def _empty(keep: str) -> Path:
    directory = Path(keep).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise DrillFailed(f"{directory} is not empty")
    return directory


def _keep(claim: netns.Claim, work: Path) -> None:
    claim.keep_scratch()
    print(f"holdfast drill: logs are in {work}", file=sys.stderr)


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


class Drill:
    """Both nodes up, every subscriber connected; `round` kills and measures, as often as one likes."""

    def __init__(
        self, options: Options, display: Display, net: topology.Topology, work: Path, run: Path
    ) -> None:
        self._options = options
        self._display = display
        self._net = net
        self._work = work
        self._base = [f"s{i:05}" for i in range(options.sessions)]
        self._setups = [f"setup{i}" for i in range(IN_FLIGHT)]
        self._teardowns = [f"teardown{i}" for i in range(IN_FLIGHT)]
        extra = [*self._setups, *self._teardowns]
        secret = secrets.token_urlsafe(18)
        for role in ("lns", "lac"):
            (work / role / "state").mkdir(parents=True, mode=0o700)
            (run / role).mkdir(mode=0o700)
        lns = lns_config([*self._base, *extra], secret, work / "lns/state", run / "lns")
        lac = lac_config(self._base, extra, options.tunnels, secret, work / "lac/state", run / "lac")
        self._lns = Node("lns", net.lns, lns, work / "lns", run / "lns")
        self._lac = Node("lac", net.lac, lac, work / "lac", run / "lac")
        self._nodes: dict[Role, Node] = {"lns": self._lns, "lac": self._lac}
        self._traffic: Generators | None = None

    def bring_up(self) -> None:
        """Start both nodes and wait until every base subscriber is connected."""
        self._display.phase(f"starting LNS and LAC, {self._options.sessions} subscribers")
        for node in self._nodes.values():
            node.start()
        self._wait(self._started, "both nodes to start")
        self._wait(self._route_subscribers, f"the LAC's {topology.TUN}")
        self._wait(
            lambda: self._whole(self._base), "all subscribers to be connected", every_s=self._list_pause_s
        )
        self._display.phase(
            f"{self._options.sessions} subscribers connected in {self._options.tunnels} tunnels"
        )

    def _started(self) -> bool:
        return all(node.reached_ns("node.started") is not None for node in self._nodes.values())

    def close(self) -> None:
        """Kill both nodes."""
        for node in self._nodes.values():
            node.close()

    def round(self, number: int) -> Report:
        """One kill under traffic, and its report."""
        before = self._line_up()
        names = list(self._base)
        whole = before.whole()
        addresses = [before.lac[whole[name]].address for name in names]
        directory = self._work / f"traffic-{number}"
        with Generators(self._net, addresses, self._options.pps, directory) as self._traffic:
            try:
                return self._kill_and_measure(number, before, names, self._traffic)
            finally:
                self._traffic = None
                shutil.rmtree(directory)

    def _kill_and_measure(
        self, number: int, before: Snapshot, names: list[str], traffic: Generators
    ) -> Report:
        options, display = self._options, self._display
        self._wait(lambda: traffic.live_since(1) == len(names), "traffic on every session")
        display.phase(f"traffic on every session, {options.pps:,} packets/s each way")
        kernel_before = self._kernel_counters()
        cleared_before = {role: self._stale_cleared(role) for role in self._nodes}
        self._pause(_WARM_UP_S + random.random())
        killed = self._strike()
        display.phase(f"{' and '.join(killed)} killed and started again (round {number})")
        started_ns = max(self._nodes[role].started_ns for role in killed)
        self._wait(lambda: self._recovered(killed, traffic, started_ns), "recovery", fatal=False)
        display.phase(
            "recovered" if self._recovered(killed, traffic, started_ns) else "NOT recovered in time"
        )
        after = self._settle()
        self._pause(0.5)
        stop_ns = traffic.finish()
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
                kill=options.kill,
                stagger_ms=options.stagger_ms,
                tunnels=options.tunnels,
                traffic_pps=options.pps,
                names=names,
                setups=self._setups,
                teardowns=self._teardowns,
                before=before,
                after=after,
                moments=moments,
                up=up,
                down=down,
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
                stale_cleared=sum(
                    cleared[role] - (0 if role in killed else cleared_before[role]) for role in self._nodes
                ),
                kernel=_risen(kernel_before, self._kernel_counters()),
            )
        )

    def _line_up(self) -> Snapshot:
        """Set-up candidates down, teardown candidates up, base subscribers up; returns both nodes' view of it."""
        for name in self._setups:
            self._lac.control.subscriber(name, "down")
        for name in self._teardowns:
            self._lac.control.subscriber(name, "up")

        self._wait(self._lined_up, "the subscribers to be as before the kill", every_s=self._list_pause_s)
        return self._snapshot()

    def _lined_up(self) -> bool:
        with suppress(ControlError):
            now = self._snapshot()
            whole = now.whole().keys()
            wanted = {*self._base, *self._teardowns}
            return whole >= wanted and not whole & {*self._setups} and not now.half_open()
        return False

    def _strike(self) -> list[Role]:
        """Set-ups and teardowns begin; the kill; the restart. Returns who was killed."""
        shots = [
            self._lac.control.prepare(name, command)
            for pair in zip(self._setups, self._teardowns, strict=True)
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
        ) and traffic.live_since(since_ns) == len(self._base)

    def _settle(self) -> Snapshot:
        """The view of both nodes once nothing is half open any more, or what it is when patience ends."""
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
        lac, lns = self._lac.control, self._lns.control
        return join((lac.tunnels(), lac.sessions()), (lns.tunnels(), lns.sessions()))

    def _whole(self, names: Sequence[str]) -> bool:
        with suppress(ControlError):
            return self._snapshot().whole().keys() >= set(names)
        return False

    def _route_subscribers(self) -> bool:
        try:
            topology.route_subscribers(self._net)
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
            for node in self._nodes.values():
                node.check()
            self._display.tick(self if self._traffic else None)
            time.sleep(min(left, _POLL_S))

    def sessions_live(self) -> int:
        """Sessions with data in both directions within the last second."""
        return self._traffic.live_since(time.monotonic_ns() - 1_000_000_000) if self._traffic else 0

    def packets(self) -> tuple[int, int]:
        """Packets received so far: up, down."""
        return (self._traffic.up.received, self._traffic.down.received) if self._traffic else (0, 0)
