"""What was measured, with the goal that it is held against, as a table and as JSON."""

import msgspec
from rich.table import Table


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Packets per second of one variant, median of the rounds, the nanoseconds of each, and the ratios to the rates of
    the floor and of kernel forwarding.

    Ratios are medians of those of each round. `arrived` is the least share of what was sent that came out.
    """

    direction: str
    size: int
    sessions: int
    variant: str
    pps: float
    each_ns: float
    of_floor: float
    of_kernel: float
    arrived: float
    rounds: int


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One other figure: the median of the rounds, the least and the most."""

    what: str
    unit: str
    value: float
    least: float
    most: float
    goal: float | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one run."""

    machine: str
    rates: list[Rate]
    figures: list[Figure]


FLOOR_GOAL, KERNEL_GOAL, TC_GOAL = 0.85, 1.7, 0.9


def tables(result: Result) -> list[Table]:
    """For a terminal; figures beyond their goal are red."""
    rates = Table(title="packets per second, one processor", title_style="bold")
    for name in (
        "direction",
        "octets",
        "sessions",
        "variant",
        "pps",
        "ns",
        "of floor",
        "of kernel",
        "arrived",
    ):
        rates.add_column(name, justify="left" if name in ("direction", "variant") else "right")
    for row in result.rates:
        floor_goal = FLOOR_GOAL if row.variant == "xdp" else None
        kernel_goal = {"xdp": KERNEL_GOAL, "tc": TC_GOAL}.get(row.variant)
        rates.add_row(
            row.direction,
            f"{row.size}",
            f"{row.sessions:,}",
            row.variant,
            f"{row.pps:,.0f}",
            f"{row.each_ns:,.0f}",
            _marked(f"{row.of_floor:.2f}", floor_goal is None or row.of_floor >= floor_goal),
            _marked(f"{row.of_kernel:.2f}", kernel_goal is None or row.of_kernel >= kernel_goal),
            f"{row.arrived:.4f}",
        )
    figures = Table(title="programs alone, and maps", title_style="bold")
    for name in ("what", "median", "least", "most", "goal", "unit"):
        figures.add_column(name, justify="left" if name in ("what", "unit") else "right")
    for one in result.figures:
        figures.add_row(
            one.what,
            _marked(_number(one.value), one.goal is None or one.value <= one.goal),
            _number(one.least),
            _number(one.most),
            "" if one.goal is None else f"≤ {_number(one.goal)}",
            one.unit,
        )
    return [table for table, rows in ((rates, result.rates), (figures, result.figures)) if rows]


def markdown(result: Result) -> str:
    """The same as docs/benchmarks.md has it."""
    by_case: dict[tuple[str, int, int], dict[str, Rate]] = {}
    for row in result.rates:
        by_case.setdefault((row.direction, row.size, row.sessions), {})[row.variant] = row
    lines = [result.machine, ""]
    if by_case:
        lines += [
            "| direction, octets, sessions | floor | XDP: of floor, of kernel | without the cache: of floor |"
            " tc: of kernel | kernel |",
            "|---|---|---|---|---|---|",
        ]
    for (direction, size, sessions), rows in by_case.items():
        floor, fast, uncached = rows["floor"], rows["xdp"], rows["xdp, no cache"]
        lines.append(
            f"| {direction}, {size}, {sessions:,} | {floor.each_ns:.0f} ns"
            f" | {fast.each_ns:.0f} ns: {fast.of_floor:.2f}, {fast.of_kernel:.2f}"
            f" | {uncached.each_ns:.0f} ns: {uncached.of_floor:.2f}"
            f" | {rows['tc'].each_ns:.0f} ns: {rows['tc'].of_kernel:.2f} | {rows['kernel'].each_ns:.0f} ns |"
        )
    if result.figures:
        lines += ["", "| what | measured (least to most) | goal |", "|---|---|---|"]
    for one in result.figures:
        goal = "" if one.goal is None else f"≤ {_number(one.goal)}"
        spread = "" if one.least == one.most else f" ({_number(one.least)} to {_number(one.most)})"
        missed = ", **missed**" if one.goal is not None and one.value > one.goal else ""
        lines.append(f"| {one.what} | {_number(one.value)}{spread} {one.unit} | {goal}{missed} |")
    return "\n".join(lines)


def _marked(text: str, good: bool) -> str:
    return text if good else f"[red]{text}[/red]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.3f}"
