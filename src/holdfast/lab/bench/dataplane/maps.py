"""What a start and accounting cost with many sessions: the plane itself, over pins of its own."""

import gc
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from holdfast.daemon import memory
from holdfast.dataplane import tundev
from holdfast.dataplane.contract import Entry
from holdfast.dataplane.ebpf import syscall
from holdfast.dataplane.ebpf.pins import Pins, open_pins, remove
from holdfast.dataplane.ebpf.plane import EbpfPlane
from holdfast.dataplane.ebpf.service import Place, Service
from holdfast.dataplane.ebpf.shipped import shipped
from holdfast.lab.bench.dataplane.clock import Stopwatch
from holdfast.lab.bench.dataplane.result import Figure
from holdfast.lab.bench.dataplane.traffic import NODE, POOL, entry, entry6
from holdfast.lab.bench.rig import BenchFailed
from holdfast.lab.netns import claim, entered, ip

ADOPT_GOAL_S, COUNTERS_GOAL_S = 0.3, 0.15
_DEVICE = "hf0"
_PER_SESSION = ("sessions", "subscribers", "prefixes", "counters", "slots")
_FLOWS = ("rx_flows", "tx_flows")


class _Kind(NamedTuple):
    """What sessions have."""

    name: str
    entry: Callable[[int], Entry]
    install_goal_s: float


_KINDS = (_Kind("", entry, 0.3), _Kind(" with IPv6", entry6, 0.5))


def maps(sessions: int, rounds: int) -> Iterator[Figure]:
    """Times of installing, adopting and counting that many sessions, and the memory that the kernel locks for each.

    Raises LabUnavailable, BpfError, BenchFailed.
    """
    for kind in _KINDS:
        yield from _of_kind(kind, sessions, rounds)


def _of_kind(kind: _Kind, sessions: int, rounds: int) -> Iterator[Figure]:
    want = {each.key: each for each in map(kind.entry, range(1, sessions + 1))}
    gc.collect()
    memory.hold()  # as in the daemon
    install: list[float] = []
    adopt: list[float] = []
    counted: list[float] = []
    locked: dict[str, int] = {}
    try:
        for _ in range(rounds):
            with _on_one_processor(), _namespace() as root:
                with _plane(root, sessions) as opened:
                    install.append(_timed(partial(opened.plane.install, want.values())))
                    opened.plane.begin()
                    locked = {name: _locked(opened.pins, name) for name in (*_PER_SESSION, *_FLOWS)}
                with _plane(root, sessions) as opened:
                    changes = opened.plane.differences(want)
                    adopt.append(opened.watch.seconds())
                    if changes:
                        raise BenchFailed(f"{len(changes.put)} of {sessions} adopted sessions differ")
                    counted.append(_timed(opened.plane.all_counters))
    finally:
        gc.enable()
    goals = sessions <= 100_000
    for what, times, goal in (
        ("installed from records in memory", install, kind.install_goal_s),
        ("adopted and compared", adopt, ADOPT_GOAL_S if kind.install_goal_s <= ADOPT_GOAL_S else None),
        ("counters read", counted, COUNTERS_GOAL_S),
    ):
        yield Figure(
            what=f"{sessions:,} sessions{kind.name} {what}",
            unit="s",
            value=median(times),
            least=min(times),
            most=max(times),
            goal=goal if goals else None,
        )
    for what, octets in (
        (f"memory locked per session{kind.name}", sum(locked[name] for name in _PER_SESSION) / sessions),
        (f"memory locked for flows{kind.name}, once", float(sum(locked[name] for name in _FLOWS))),
    ):
        yield Figure(
            what=f"{what} ({syscall.possible_cpus()} CPUs)",
            unit="octets",
            value=octets,
            least=octets,
            most=octets,
        )


class _Opened(NamedTuple):
    """A plane, its pins, and the time since both were begun to be opened."""

    plane: EbpfPlane
    pins: Pins
    watch: Stopwatch


def _timed(action: Callable[[], object]) -> float:
    gc.collect()
    watch = Stopwatch()
    action()
    return watch.seconds()


def _locked(pins: Pins, name: str) -> int:
    """Octets that the kernel accounts to a map."""
    info = Path(f"/proc/self/fdinfo/{pins.maps[name]}").read_text()
    fields: Mapping[str, str] = dict(line.split(":\t", 1) for line in info.splitlines() if ":\t" in line)
    return int(fields["memlock"])


@contextmanager
def _namespace() -> Iterator[str]:
    """A namespace of its own, entered; the directory of its pins."""
    with claim() as lab, tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory:
        lab.add("node")
        with entered(lab.name("node")):
            ip(f"addr add {NODE[0]}/24 dev lo")
            root = f"{directory}/bpf"
            try:
                yield root
            finally:
                remove(root)


@contextmanager
def _plane(root: str, sessions: int) -> Iterator[_Opened]:
    """What a daemon opens at its start."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(NODE)
        device = tundev.attach(tundev.TunSpec(name=_DEVICE, routes=tundev.pool_routes([POOL])))
        gc.collect()
        watch = Stopwatch()
        pins = open_pins(root, shipped(), sessions, lambda _: None)
        service = Service(pins, Place(("lo",), "auto", NODE, _DEVICE), lambda _: None)
        plane = EbpfPlane(pins, device, udp, service, lambda _: None)
        try:
            yield _Opened(plane, pins, watch)
        finally:
            plane.close()


@contextmanager
def _on_one_processor() -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
