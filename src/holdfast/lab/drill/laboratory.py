"""Where a drill takes place: its namespaces, its capture, its directories; what is kept of them afterwards."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from holdfast.core.errors import LocalError
from holdfast.lab import netns, topology
from holdfast.lab.capture import capturing
from holdfast.lab.drill.wires import wired
from holdfast.lab.options import Options
from holdfast.lab.report import Report


class DrillFailed(LocalError):
    """The drill could not get to, or past, its kill."""


class Laboratory(msgspec.Struct, frozen=True):
    """`work` is for configurations, logs and journals, on a disk; `run` for sockets."""

    net: topology.Topology
    work: Path
    run: Path


@contextmanager
def laboratory(options: Options, rounds: Sequence[Report]) -> Iterator[Laboratory]:
    """Namespaces and capture; all of it is gone afterwards.

    Configurations, logs and journals are kept if that was asked for, or if a round went wrong. Raises LabUnavailable.
    """
    with ExitStack() as stack:
        claim = stack.enter_context(netns.claim())
        net = topology.build(claim)
        stack.enter_context(wired(options, net))
        work = empty_directory(options.keep) if options.keep else claim.scratch()
        if options.pcap:
            place = net.lac if options.dataplane else net.lns  # XDP takes packets where no capture sees them
            stack.enter_context(capturing(place, options.pcap, work))
        try:
            yield Laboratory(net, work, claim.directory)
        except LocalError:
            _keep(claim, work, options)
            raise
        if any(r.result != "ok" for r in rounds):
            _keep(claim, work, options)


def empty_directory(keep: str) -> Path:
    """Make a directory for what is to be kept. Raises DrillFailed if there is something in it."""
    directory = Path(keep).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise DrillFailed(f"{directory} is not empty")
    return directory


def _keep(claim: netns.Claim, work: Path, options: Options) -> None:
    claim.keep_scratch()
    if not options.relayed:  # else the place means nothing where this is read
        print(f"holdfast drill: logs are in {work}", file=sys.stderr)
