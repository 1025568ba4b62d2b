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
    place: Place, sizes: Iterable[int], sessions: Iterable[int], rounds: int, seconds: float
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
                        taken[variant].append(_run(place, variant, direction, size, count, seconds))
                yield from _rows(direction, size, count, taken)


def alone(place: Place, sessions: Sequence[int], rounds: int, repeat: int) -> Iterator[Figure]:
    """The XDP program on its own, 64 octets, with the cache of next hops and without."""
    for count in sessions:
        place.install(count)
        for direction in DIRECTIONS:
            for variant in (FAST, UNCACHED):
                before = place.forwarded(direction)
                stream = place.stream(direction, 64, count)
                times = [place.run_alone(variant, stream, repeat) for _ in range(rounds)]
                if place.forwarded(direction) - before < rounds * repeat:
                    raise BenchFailed(f"{variant.name} alone did not forward what it was given ({direction})")
                yield Figure(
                    what=f"{variant.name} program alone, {direction}, {count:,} sessions",
                    unit="ns",
                    value=median(times),
                    least=min(times),
                    most=max(times),
                    goal=ALONE_GOAL_NS if variant is FAST else None,
                )


def _run(
    place: Place, variant: Variant, direction: Direction, size: int, sessions: int, seconds: float
) -> Sent:
    """One measurement. What came out must be what the variant makes of it, and the programs must say so, too."""
    stream = place.stream(direction, size, sessions, plain=variant in _PLAIN)
    before = place.forwarded(direction)
    sent = place.run(variant, stream, seconds)
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
            of_floor=ratios[0],
            of_kernel=ratios[1],
            arrived=min(run.arrived / run.sent for run in runs),
            rounds=len(runs),
        )
