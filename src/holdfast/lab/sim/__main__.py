"""`python -m holdfast.lab.sim --seeds N --start S [--nodes | --peers …]`: run N histories, print those that end badly.

With `--nodes` each host is a whole node (PPP, subscribers, AAA, journal), else its control protocol alone; with
`--silent` nodes do without RFC 4951. With `--peers` it stands in front of other people's daemons, those that are
named or all; `--walk` then crashes it at every boundary of one life as well, with every outage and every act of the
peer.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial

from holdfast.lab.sim.node_world import simulate_nodes
from holdfast.lab.sim.peer_node_sweep import node_crashes
from holdfast.lab.sim.peer_node_world import simulate_peer_node
from holdfast.lab.sim.peer_sweep import crashes
from holdfast.lab.sim.peer_world import simulate_peer
from holdfast.lab.sim.peers import DAEMONS
from holdfast.lab.sim.world import Verdict, simulate


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
    parser.add_argument("--silent", action="store_true", help="with --nodes: without RFC 4951")
    parser.add_argument("--peers", nargs="*", choices=DAEMONS, help="simulate peers that are not holdfast")
    parser.add_argument("--walk", action="store_true", help="with --peers: a crash at every boundary, too")
    options = parser.parse_args(arguments)
    bad = count = crashed = survivors = failed = 0
    for name, verdict in histories(options):
        count += 1
        crashed += verdict.crashes
        survivors += verdict.survivors
        failed += verdict.failed_recoveries
        if verdict.problems:
            bad += 1
            print(f"{name}: {verdict.weather}")
            for problem in verdict.problems:
                print(f"  {problem}")
    print(
        f"{count} histories, {crashed} crashes, {survivors} sessions survived one,"
        f" {failed} recoveries given up, {bad} histories ended badly"
    )
    return 1 if bad else 0


def histories(options: argparse.Namespace) -> Iterator[tuple[str, Verdict]]:
    """Every history that was asked for, with its name."""
    seeds = range(options.start, options.start + options.seeds)
    if options.peers is None:
        nodes = partial(simulate_nodes, advertise=not options.silent)
        run = nodes if options.nodes else simulate
        for seed in seeds:
            yield f"seed {seed}", run(seed)
        return
    for daemon in options.peers or DAEMONS:
        if options.walk:
            walk = node_crashes(daemon) if options.nodes else crashes(daemon, every=True)
            for place, verdict in walk:
                yield f"{daemon}, {place}", verdict
        simulate_one = simulate_peer_node if options.nodes else simulate_peer
        for seed in seeds:
            yield f"{daemon}, seed {seed}", simulate_one(daemon, seed)


if __name__ == "__main__":
    sys.exit(main())
