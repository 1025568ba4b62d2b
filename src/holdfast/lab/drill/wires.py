"""The wires of a drill whose LNS forwards in the kernel: like real ones for what arrives there, and for what leaves.

The far ends finish checksums themselves and send datagrams one by one, as a network card would: what is left for a
veth's other end to finish (partial checksums, bursts by UDP_SEGMENT) is the daemon's business, and it is dead at times.
With XDP both far ends run a program that passes everything: a veth takes redirected frames only then. It then also has
a ring, of 256 frames, that one processor polls; while that one is held up, others would overflow it. So both ends of the
traffic stay on one processor, which polls whatever their packets fill.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from holdfast.core.errors import LocalError
from holdfast.dataplane.ebpf import features, syscall
from holdfast.dataplane.ebpf.libbpf import Loaded
from holdfast.dataplane.ebpf.shipped import TC, XDP, shipped
from holdfast.dataplane.ebpf.syscall import Attach
from holdfast.dataplane.interfaces import finish_checksums, index_of
from holdfast.lab.netns import LabUnavailable, entered
from holdfast.lab.options import Options
from holdfast.lab.topology import CORE_END, WIRE, Topology

_FEW = dict.fromkeys(("sessions", "subscribers", "prefixes", "counters", "rx_flows", "tx_flows"), 64)


def needed(options: Options) -> None:
    """Raises LabUnavailable where the LNS's plane is to be in the kernel, and cannot."""
    if options.in_kernel and (reason := features.unavailable()) is not None:
        raise _unavailable(options, reason)


@contextmanager
def wired(options: Options, net: Topology) -> Iterator[None]:
    """Make the wires so, for as long as this lasts. Raises LabUnavailable where this kernel has no such links."""
    with ExitStack() as stack:
        if options.dataplane:
            for namespace, name in _far_ends(net):
                with entered(namespace):
                    finish_checksums(name)
        if options.in_kernel:
            try:
                _occupy(stack, options, net)
            except LocalError as error:
                raise _unavailable(options, str(error)) from error
        yield


def processor(options: Options) -> int:
    """Where both ends of the traffic shall stay, -1 for anywhere."""
    return max(os.sched_getaffinity(0)) if options.dataplane == "xdp" else -1


def _occupy(stack: ExitStack, options: Options, net: Topology) -> None:
    """See whether links can be had, and for XDP keep those of the far ends. Raises BpfError, NoLibbpf."""
    idle = stack.enter_context(Loaded(shipped().path, sizes=_FEW, only=frozenset({TC, XDP})))
    for namespace, name in _far_ends(net):
        with entered(namespace):
            index = index_of(name)
            os.close(syscall.create_link(idle.programs[TC], index, Attach.TCX_INGRESS, what="tcx"))
            if options.dataplane == "xdp":
                flags = syscall.XDP_DRIVER
                link = syscall.create_link(idle.programs[XDP], index, Attach.XDP, flags=flags, what="XDP")
                stack.callback(os.close, link)


def _far_ends(net: Topology) -> tuple[tuple[str, str], ...]:
    return (net.lac, WIRE), (net.core, CORE_END)


def _unavailable(options: Options, reason: str) -> LabUnavailable:
    return LabUnavailable(f"--dataplane {options.dataplane}: {reason} (`holdfast doctor` has the details)")
