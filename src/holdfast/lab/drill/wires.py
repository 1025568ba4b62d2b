"""The wires of a drill whose LNS forwards in the kernel: like real ones for what arrives there, and for what leaves.

The far ends finish checksums themselves and send datagrams one by one, as a network card would: what is left for a
veth's other end to finish (partial checksums, bursts by UDP_SEGMENT) is the daemon's business, and it is dead at times.
With XDP both far ends run a program that passes everything: a veth takes redirected frames only then.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from holdfast.dataplane.ebpf import features, syscall
from holdfast.dataplane.ebpf.libbpf import Loaded
from holdfast.dataplane.ebpf.shipped import XDP, shipped
from holdfast.dataplane.ebpf.syscall import Attach
from holdfast.dataplane.interfaces import finish_checksums, index_of
from holdfast.lab.netns import LabUnavailable, entered
from holdfast.lab.options import Options
from holdfast.lab.topology import CORE_END, WIRE, Topology

_FEW = dict.fromkeys(("sessions", "subscribers", "prefixes", "counters", "hops"), 64)


def needed(options: Options) -> None:
    """Raises LabUnavailable where the LNS's plane is to be in the kernel, and cannot."""
    if options.in_kernel and (reason := features.unavailable()) is not None:
        raise LabUnavailable(f"--dataplane {options.dataplane}: {reason} (`holdfast doctor` has the details)")


@contextmanager
def wired(options: Options, net: Topology) -> Iterator[None]:
    """Make the wires so, for as long as this lasts. Raises LocalError."""
    far_ends = ((net.lac, WIRE), (net.core, CORE_END))
    with ExitStack() as stack:
        if options.dataplane:
            for namespace, name in far_ends:
                with entered(namespace):
                    finish_checksums(name)
        if options.dataplane == "xdp":
            idle = stack.enter_context(Loaded(shipped().path, sizes=_FEW, only=frozenset({XDP})))
            for namespace, name in far_ends:
                with entered(namespace):
                    link = syscall.create_link(
                        idle.programs[XDP], index_of(name), Attach.XDP, flags=syscall.XDP_DRIVER
                    )
                    stack.callback(os.close, link)
        yield
