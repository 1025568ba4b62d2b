"""`python -m holdfast.lab.bench.dataplane`: every variant in one run, ratios by round. `--quick` takes a minute."""

import argparse
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from holdfast.core.errors import LocalError
from holdfast.dataplane.ebpf.features import unavailable
from holdfast.lab import bench_dataplane, netns
from holdfast.lab.bench.dataplane.maps import maps
from holdfast.lab.bench.dataplane.place import place
from holdfast.lab.bench.dataplane.rates import alone, rates
from holdfast.lab.bench.dataplane.result import Figure, Rate, Result, markdown, tables
from holdfast.lab.bench.dataplane.traffic import CHUNK

PARTS = ("rates", "alone", "maps", "tun")
_TUN_SECONDS, _TUN_ROUNDS = 0.5, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Status 0 even when a goal is missed: the table says so; 1 if a part failed, 2 if none can run."""
    options = _options(arguments)
    if (reason := netns.unavailable() or unavailable()) is not None:
        print(f"bench: {reason}", file=sys.stderr)
        return 2
    try:
        result = measure(options)
    except LocalError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(result)).decode())
    elif options.markdown:
        print(markdown(result))
    else:
        console = Console(width=None if sys.stdout.isatty() else 120)
        console.print(result.machine)
        for table in tables(result):
            console.print(table)
    return 0


def measure(options: argparse.Namespace) -> Result:
    """The chosen parts. Raises LocalError."""
    found: list[Rate] = []
    figures: list[Figure] = []
    if {"rates", "alone"} & set(options.only):
        with place() as made:
            if "rates" in options.only:
                found += rates(made, options.sizes, options.sessions, options.rounds, options.packets)
            if "alone" in options.only:
                figures += alone(made, options.sessions, options.rounds, options.repeat)
    if "maps" in options.only:
        figures += maps(options.entries, options.map_rounds)
    if "tun" in options.only:
        for row in bench_dataplane.measure([64], _TUN_SECONDS, _TUN_ROUNDS, 1000):
            figures.append(
                Figure(
                    what=f"TUN plane, {row.direction}, 64 octets, 1,000 sessions",
                    unit="packets/s, on a processor of its own",
                    value=row.plane,
                    least=row.plane,
                    most=row.plane,
                )
            )
    return Result(machine=_machine(), rates=found, figures=figures)


def _machine() -> str:
    """What all this was measured on, in one line."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processors = f"{os.cpu_count()} processors" + (f" ({model[1]})" if model else "")
    return f"Linux {os.uname().release}, {processors}, Python {platform.python_version()}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m holdfast.lab.bench.dataplane", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 1400], help="octets of inner packets")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 1000, 10_000], help="in rotation")
    parser.add_argument("--entries", type=int, default=100_000, help="sessions of the map figures")
    parser.add_argument(
        "--rounds", type=int, default=9, help="of rates and programs alone, of which the medians count"
    )
    parser.add_argument("--packets", type=int, default=400 * CHUNK, help="of one rate in one round")
    parser.add_argument(
        "--repeat", type=int, default=100_000, help="runs of a program alone, of which the mean counts"
    )
    parser.add_argument("--map-rounds", type=int, default=5, help="of the map figures")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="as docs/benchmarks.md has it")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.map_rounds, options.sessions = 3, 2, [1000]
    return options


if __name__ == "__main__":
    sys.exit(main())
