"""Packet rates of all variants, and the XDP program alone."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from holdfast.lab.bench.dataplane.place import (
    FAST,
    FLOOR,
    KERNEL,
    PORTABLE,
    UNCACHED,
    Place,
    Variant,
)
from holdfast.lab.bench.dataplane.result import Figure, Rate
from holdfast.lab.bench.dataplane.traffic import Direction, Sent
from holdfast.lab.bench.rig import BenchFailed

DIRECTIONS: tuple[Direction, ...] = ("up", "down")
ALONE_GOAL_NS = 80
_VARIANTS = (FLOOR, FAST, UNCACHED, PORTABLE, KERNEL)
_PLAIN = (FLOOR, KERNEL)
_LEAST = 0.99


def rates(
    place: Place, sizes: Iterable[int], sessions: Iterable[int], rounds: int, packets: int
) -> Iterator[Rate]:
    """Every variant with every size and number of sessions. Raises BenchFailed if a variant does not forward."""
    sizes = list(sizes)
    for count in sessions:
        place.install(count)
        for size in sizes:
            for direction in DIRECTIONS:
                taken: dict[Variant, list[Sent]] = {variant: [] for variant in _VARIANTS}
                for turn in range(rounds):
                    at = turn % len(_VARIANTS)
                    for variant in (*_VARIANTS[at:], *_VARIANTS[:at]):  # nobody is always the first
                        taken[variant].append(_run(place, variant, direction, size, count, packets))
                yield from _rows(direction, size, count, taken)


def alone(place: Place, sessions: Sequence[int], rounds: int, repeat: int) -> Iterator[Figure]:
    """The XDP program on its own, 64 octets, with the cache and without: the least of the rounds, which take turns.

    What else goes on in the machine only ever adds to a run.
    """
    for count in sessions:
        place.install(count)
        for direction in DIRECTIONS:
            before = place.forwarded(direction)
            stream = place.stream(direction, 64, count)
            times: dict[Variant, list[int]] = {FAST: [], UNCACHED: []}
            for _ in range(rounds):
                for variant, taken in times.items():
                    taken.append(place.run_alone(variant, stream, repeat))
            if place.forwarded(direction) - before < len(times) * rounds * repeat:
                raise BenchFailed(f"the XDP program alone did not forward what it was given ({direction})")
            for variant, taken in times.items():
                yield Figure(
                    what=f"{variant.name} program alone, {direction}, {count:,} sessions (least)",
                    unit="ns",
                    value=min(taken),
                    least=min(taken),
                    most=max(taken),
                    goal=ALONE_GOAL_NS if variant is FAST else None,
                )


def _run(
    place: Place, variant: Variant, direction: Direction, size: int, sessions: int, packets: int
) -> Sent:
    """One measurement. What came out must be what the variant makes of it, and the programs must say so, too."""
    stream = place.stream(direction, size, sessions, plain=variant in _PLAIN)
    before = place.forwarded(direction)
    sent = place.run(variant, stream, packets)
    forwarded = place.forwarded(direction) - before
    if sent.arrived < _LEAST * sent.sent or (variant not in _PLAIN and forwarded < _LEAST * sent.sent):
        raise BenchFailed(
            f"{variant.name}, {direction}, {size} octets: of {sent.sent:,} packets {sent.arrived:,} arrived "
            f"(and {sent.others:,} of another length); the programs forwarded {forwarded:,}"
        )
    return sent


def _rows(direction: str, size: int, sessions: int, taken: dict[Variant, list[Sent]]) -> Iterator[Rate]:
    for variant, runs in taken.items():
        ratios = [
            median(run.rate / base.rate for run, base in zip(runs, taken[other], strict=True))
            for other in (FLOOR, KERNEL)
        ]
        yield Rate(
            direction=direction,
            size=size,
            sessions=sessions,
            variant=variant.name,
            pps=median(run.rate for run in runs),
            each_ns=median(run.each_ns for run in runs),
            of_floor=ratios[0],
            of_kernel=ratios[1],
            arrived=min(run.arrived / run.sent for run in runs),
            rounds=len(runs),
        )
