"""`python -m holdfast.lab.sim --seeds N --start S [--nodes]`: run N histories, print those that end badly.

With `--nodes` each host is a whole node (PPP, subscribers, AAA, journal), else its control protocol alone.
"""

import argparse
import sys

from holdfast.lab.sim.node_world import simulate_nodes
from holdfast.lab.sim.world import simulate


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if any history ended badly."""
    parser = argparse.ArgumentParser(
        prog="python -m holdfast.lab.sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many histories to run")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--nodes", action="store_true", help="simulate whole nodes, with PPP and subscribers")
    options = parser.parse_args(arguments)
    run = simulate_nodes if options.nodes else simulate
    bad = crashes = survivors = failed = 0
    for seed in range(options.start, options.start + options.seeds):
        verdict = run(seed)
        crashes += verdict.crashes
        survivors += verdict.survivors
        failed += verdict.failed_recoveries
        if verdict.problems:
            bad += 1
            print(f"seed {seed}: {verdict.weather}")
            for problem in verdict.problems:
                print(f"  {problem}")
    print(
        f"{options.seeds} histories, {crashes} crashes, {survivors} sessions survived one,"
        f" {failed} recoveries given up, {bad} histories ended badly"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
