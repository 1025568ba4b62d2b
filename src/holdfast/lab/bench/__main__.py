"""`python -m holdfast.lab.bench`: run the suite, print the table. `--quick` takes about a minute."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from holdfast.core.errors import LocalError
from holdfast.lab.bench.flood import flood
from holdfast.lab.bench.forwarding import forwarding
from holdfast.lab.bench.restart import restart
from holdfast.lab.bench.rig import Rig, rig
from holdfast.lab.bench.rows import HEADER, Row, markdown
from holdfast.lab.bench.setups import churn, half_rate, rates
from holdfast.lab.bench.silent import silent
from holdfast.lab.netns import LabUnavailable

Measurement = Callable[[Rig], Iterable[Row]]


def main(argv: list[str]) -> int:
    """Run the chosen parts. Status 0 even when a target is missed: the table says so; 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.lab.bench")
    parser.add_argument("--quick", action="store_true", help="fewer sessions, shorter runs")
    parser.add_argument("--only", nargs="*", default=[], help="parts to run: " + " ".join(_parts(quick=True)))
    args = parser.parse_args(argv)
    parts = _parts(quick=args.quick)
    if unknown := set(args.only) - parts.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    failed = False
    print(HEADER, flush=True)
    for name, part in parts.items():
        if args.only and name not in args.only:
            continue
        try:
            for row in part():
                print(markdown(row), flush=True)
        except LabUnavailable as e:
            print(f"bench: {e}", file=sys.stderr)
            return 2
        except LocalError as e:
            failed = True
            print(f"bench: {name}: {e}", file=sys.stderr)
    return int(failed)


def _parts(*, quick: bool) -> dict[str, Callable[[], Iterator[Row]]]:
    """The suite by name, each part in a laboratory of its own."""
    counts = [1000, 5000] if quick else [1000, 10_000, 50_000]
    small = partial(restart, 100, 4, 300.0)
    large = partial(restart, 10_000, 100, 1000.0)
    return {
        "rates": partial(_in_rig, partial(rates, counts=counts)),
        "latency": partial(_in_rig, partial(half_rate, count=3000 if quick else 20_000)),
        "forwarding": partial(forwarding, rounds=1 if quick else 5, seconds=1.0 if quick else 2.0),
        "restart": small,
        "silent": partial(silent, 1000, 100) if quick else partial(silent, 10_000, 1000),
        **({} if quick else {"restart-large": large}),
        "churn": partial(_in_rig, partial(churn, total=10_000 if quick else 100_000)),
        "flood": partial(_in_rig, partial(flood, seconds=5 if quick else 30)),
    }


def _in_rig(measure: Measurement) -> Iterator[Row]:
    with rig() as laboratory:
        yield from measure(laboratory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
