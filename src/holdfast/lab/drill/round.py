"""One round of a drill: end a node or two, start them again, watch, compare, report."""

import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from holdfast.lab.assess import Observed, Restarted, assess
from holdfast.lab.control import ControlError
from holdfast.lab.drill import wires
from holdfast.lab.drill.laboratory import DrillFailed
from holdfast.lab.drill.scene import Scene
from holdfast.lab.generators import Generators
from holdfast.lab.kernel import uml
from holdfast.lab.measure import Moments
from holdfast.lab.options import Options, Role
from holdfast.lab.report import Noticed, Report
from holdfast.lab.snapshot import Snapshot
from holdfast.lab.through import Through
from holdfast.lab.traffic import ARRIVAL

_WARM_UP_S = 1.5
_SETTLE_S = 15.0
_LAST_S = 0.5
_IN_FLIGHT_SPREAD_S = 0.015
"""The kill comes up to this long after the in-flight commands: about as long as they take."""
_NEXT_KILL_S = 1.5
"""A further kill comes up to this long after data flow again: in the middle of the recovery, or after it."""


class Struck(msgspec.Struct, frozen=True, kw_only=True):
    """Who was ended, and when first; and of each time who, when it was dead, and when it was started again."""

    roles: Sequence[Role]
    killed_ns: int
    times: Sequence[tuple[Role, int, int]]


class _Traffic:
    """What a display reads of the generators."""

    def __init__(self, generators: Generators) -> None:
        self._generators = generators

    def sessions_live(self) -> int:
        """Sessions with data in both directions within the last second."""
        return self._generators.live_since(time.monotonic_ns() - 1_000_000_000)

    def packets(self) -> tuple[int, int]:
        """Packets received so far: up, down."""
        return self._generators.up.received, self._generators.down.received


def kill_and_report(scene: Scene, number: int) -> Report:
    """One kill under traffic, and its report; as often as one likes."""
    before = _line_up(scene)
    whole = before.whole()
    addresses = [before.lac[whole[name]].address for name in scene.names.base]
    directory = scene.work / f"traffic-{number}"
    processor = wires.processor(scene.options)
    with Generators(scene.net, addresses, scene.options.pps, directory, scene.lac_end, processor) as traffic:
        scene.progress = _Traffic(traffic)
        try:
            return _under_traffic(scene, number, before, addresses, traffic)
        finally:
            scene.progress = None
            shutil.rmtree(directory)


def _under_traffic(
    scene: Scene, number: int, before: Snapshot, addresses: list[str], traffic: Generators
) -> Report:
    options, display, nodes = scene.options, scene.display, scene.nodes
    scene.wait(lambda: traffic.live_since(1) == len(addresses), "traffic on every session")
    display.phase(f"traffic on every session, {options.pps:,} packets/s each way")
    with _subscriber(scene, addresses[0]) as subscriber:
        kernel_before = scene.kernel_counters()
        plane_before = scene.plane_counters()
        cleared_before = {role: scene.stale_cleared(role) for role in nodes}
        scene.pause(_WARM_UP_S + random.random())
        _noticed(scene)
        struck = _strike(scene)
        killed = struck.roles
        display.phase(f"{' and '.join(killed)} {_ended(options)} (round {number})")
        started_ns = max(nodes[role].started_ns for role in killed)
        scene.wait(lambda: _recovered(scene, killed, traffic, started_ns), "recovery", fatal=False)
        display.phase(
            "recovered" if _recovered(scene, killed, traffic, started_ns) else "NOT recovered in time"
        )
        after = _settle(scene)
        scene.pause(_LAST_S)
        ping, transfer = subscriber.finish() if subscriber else (None, None)
    stop_ns = traffic.finish()
    noticed = _noticed(scene)
    moments = Moments(
        killed_ns=struck.killed_ns,
        dead_ns=max(nodes[role].dead_ns for role in killed),
        started_ns=started_ns,
        stop_ns=stop_ns,
    )
    cleared = {role: scene.stale_cleared(role) for role in nodes}
    up, down = traffic.measure(moments)
    for node in nodes.values():
        node.log.refresh()
    return assess(
        Observed(
            drill=options.drill,
            dataplane=options.dataplane,
            by=options.by,
            kills=options.kills,
            peer=options.peer,
            kernel="user-mode-linux" if uml.inside() else "host",
            kill=options.kill,
            stagger_ms=options.stagger_ms,
            tunnels=options.tunnels,
            traffic_pps=options.pps,
            names=scene.names.base,
            setups=scene.names.setups,
            teardowns=scene.names.teardowns,
            before=before,
            after=after,
            moments=moments,
            up=up,
            down=down,
            ping=ping,
            transfer=transfer,
            restarted={
                role: Restarted(
                    dead_ns=nodes[role].dead_ns,
                    started_ns=nodes[role].started_ns,
                    log=nodes[role].log,
                    stale_cleared=cleared[role],
                )
                for role in killed
            },
            logs={role: node.log for role, node in nodes.items()},
            noticed=noticed,
            stale_cleared=sum(
                cleared[role] - (0 if role in killed else cleared_before[role]) for role in nodes
            ),
            lost_by_kernel=_risen(kernel_before, scene.kernel_counters()),
            shortfalls=traffic.shortfalls,
            plane=_risen({"": plane_before}, {"": scene.plane_counters()}).get("", {}),
            outages=[
                (dead_ns, nodes[role].log.first_ns("node.data_flows", start_ns) or stop_ns)
                for role, dead_ns, start_ns in struck.times
            ],
            echoes=_echoes(traffic.echoes) if scene.lac_end else None,
        )
    )


@contextmanager
def _subscriber(scene: Scene, address: str) -> Iterator[Through | None]:
    """What the first subscriber does meanwhile, in front of a real peer."""
    if scene.peer is None:
        yield None
        return
    directory = scene.work / "subscriber"
    directory.mkdir(exist_ok=True)
    with Through(scene.net, address, directory) as through:
        scene.wait(lambda: through.flowing, "the TCP transfer to begin")
        yield through


def _noticed(scene: Scene) -> Noticed | None:
    """What a real peer has logged since this was last asked."""
    return scene.peer.noticed() if scene.peer else None


def _line_up(scene: Scene) -> Snapshot:
    """Set-up candidates down, teardown candidates up, base subscribers up; returns both sides' view of it."""
    for names, command in ((scene.names.setups, "down"), (scene.names.teardowns, "up")):
        for name in names:
            scene.nodes["lac"].control.subscriber(name, command)
    seen: list[Snapshot] = []

    def lined_up() -> bool:
        now = scene.all_connected([*scene.names.base, *scene.names.teardowns])
        if now is None or now.whole().keys() & {*scene.names.setups} or now.half_open():
            return False
        seen.append(now)
        return True

    scene.wait(lined_up, "the subscribers to be as before the kill", every_s=scene.list_pause_s)
    return seen[0]


def _strike(scene: Scene) -> Struck:
    """Set-ups and teardowns begin; the kill; the restart; and again, as often as was asked for."""
    shots = [
        scene.nodes["lac"].control.prepare(name, command)
        for pair in zip(scene.names.setups, scene.names.teardowns, strict=True)
        for name, command in zip(pair, ("up", "down"), strict=True)
    ]
    for shot in shots:
        shot.fire()
    time.sleep(random.random() * _IN_FLIGHT_SPREAD_S)
    first, *later = scene.options.waves
    times = _kill_and_start(scene, first)
    killed_ns = min(scene.nodes[role].killed_ns for role in first)
    for shot in shots:
        shot.close()
    for _ in range(scene.options.kills - 1):
        scene.wait(lambda: all(_data_flow(scene, role) for role in first), "data to flow")
        scene.pause(random.random() * _NEXT_KILL_S)
        times += _kill_and_start(scene, first)
    for roles in later:
        time.sleep(scene.options.stagger_ms / 1000)
        times += _kill_and_start(scene, roles)
    everybody = [*first, *(role for roles in later for role in roles)]
    return Struck(roles=everybody, killed_ns=killed_ns, times=times)


def _data_flow(scene: Scene, role: Role) -> bool:
    return scene.nodes[role].reached_ns("node.data_flows") is not None


def _kill_and_start(scene: Scene, roles: Sequence[Role]) -> list[tuple[Role, int, int]]:
    nodes = [scene.nodes[role] for role in roles]
    for node in nodes:
        if scene.options.by == "kill":
            node.kill()
        else:
            node.terminate()
    for node in nodes:
        if (status := node.reap()) not in _ENDED:
            raise DrillFailed(f"the {node.role} ended with status {status}; see {node.log_path}")
    scene.install_next()
    for node in nodes:
        node.start()
    return [(role, scene.nodes[role].dead_ns, scene.nodes[role].started_ns) for role in roles]


_ENDED = (0, -signal.SIGKILL)


def _ended(options: Options) -> str:
    how = "stopped" if options.by == "stop" else "killed"
    then = "replaced by another version" if options.drill == "upgrade" else "started again"
    return f"{how} and {then}" + (f", {options.kills} times" if options.kills > 1 else "")


def _echoes(log: Path) -> list[tuple[int, int]]:
    """When each LCP Echo-Request was sent, and when answered (0: never)."""
    return list(ARRIVAL.iter_unpack(log.read_bytes()))


def _recovered(scene: Scene, killed: Sequence[Role], traffic: Generators, since_ns: int) -> bool:
    return all(
        scene.nodes[role].reached_ns("node.synchronised") is not None for role in killed
    ) and traffic.live_since(since_ns) == len(scene.names.base)


def _settle(scene: Scene) -> Snapshot:
    """The view of both sides once nothing is half open any more, or what it is when patience ends."""
    begun = time.monotonic()
    while True:
        with suppress(ControlError):
            now = scene.snapshot()
            if not now.half_open() or time.monotonic() > begun + _SETTLE_S:
                return now
        if time.monotonic() > begun + _SETTLE_S + scene.options.patience_s:
            raise DrillFailed("the nodes do not answer on their control sockets")
        scene.pause(scene.list_pause_s)


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
