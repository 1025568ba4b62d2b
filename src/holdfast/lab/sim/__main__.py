"""`python -m holdfast.lab.sim --seeds N --start S`: run N histories, print those that end badly."""

import argparse
import sys

from holdfast.lab.sim.world import simulate


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if any history ended badly."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.lab.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many histories to run")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    options = parser.parse_args(arguments)
    bad = crashes = survivors = failed = 0
    for seed in range(options.start, options.start + options.seeds):
        verdict = simulate(seed)
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
