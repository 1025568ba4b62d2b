"""Where the packet rates are measured: peer – node – core, joined by veth, all on one processor.

The generator is at the far end of one link and the sink at that of the other. Both far ends run XDP always, since a
veth takes redirected frames only if its other end polls; for that the node's ends have GRO on, too. Neighbours are
permanent, and IPv6 is off: nothing but the frames of the benchmark crosses the links.
"""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fcntl import ioctl
from socket import AF_INET, SOCK_DGRAM, inet_aton, socket
from typing import Final, NamedTuple

from holdfast.dataplane.ebpf import abi, counters, syscall
from holdfast.dataplane.ebpf.abi import Reason
from holdfast.dataplane.ebpf.libbpf import Loaded
from holdfast.dataplane.ebpf.rows import pack
from holdfast.dataplane.ebpf.service import FLOW_LIFE_MS
from holdfast.dataplane.ebpf.shipped import PROGRAMS, TC, XDP, shipped
from holdfast.dataplane.ebpf.syscall import Attach
from holdfast.dataplane.interfaces import index_of
from holdfast.lab.bench.dataplane.traffic import (
    CORE,
    NODE,
    PEER,
    POOL,
    Direction,
    Sent,
    Stream,
    Traffic,
    entry,
    loaded,
)
from holdfast.lab.netns import claim, entered, ip, sysctl

SESSIONS: Final = 131_072
_MACS: Final = {"lac": "02:00:00:00:01:01", "core": "02:00:00:00:02:01"}
_FAR_MACS: Final = {"lac": "02:00:00:00:01:02", "core": "02:00:00:00:02:02"}
_IN: Final[dict[Direction, str]] = {"up": "lac", "down": "core"}
_OUT: Final[dict[Direction, str]] = {"up": "core", "down": "lac"}
_FORWARDED: Final = {"up": Reason.RX_FORWARDED, "down": Reason.TX_FORWARDED}
_SIOCETHTOOL, _ETHTOOL_SGRO = 0x8946, 0x2C


class Variant(NamedTuple):
    """A way to forward: by a program at a hook, or by the kernel itself (no program)."""

    name: str
    program: str = ""
    hook: Attach = Attach.XDP
    flow_life_ms: int = FLOW_LIFE_MS


FLOOR: Final = Variant("floor", "only_redirect")
KERNEL: Final = Variant("kernel")
FAST: Final = Variant("xdp", XDP)
UNCACHED: Final = Variant("xdp, no cache", XDP, flow_life_ms=0)
PORTABLE: Final = Variant("tc", TC, Attach.TCX_INGRESS)


class Place:
    """The built network; the programs with their maps; the traffic."""

    def __init__(self, names: dict[str, str], plane: Loaded, traffic: Traffic) -> None:
        self._names, self.plane, self.traffic = names, plane, traffic
        self._installed = self._generation = 0
        syscall.update(plane.maps["locals"], inet_aton(NODE[0]), struct.pack("=I", 1))
        self._indices = {name: self._index("node", name) for name in _MACS}
        for name, mac in _MACS.items():
            at, value = abi.port(self._indices[name], octets(mac), redirect=True)
            syscall.update(plane.maps["ports"], struct.pack("=I", at), value)

    def stream(self, direction: Direction, size: int, sessions: int, *, plain: bool = False) -> Stream:
        """Frames that enter the node by the interface of that direction."""
        name = _IN[direction]
        return Stream(direction, size, sessions, octets(_MACS[name]), octets(_FAR_MACS[name]), plain)

    def install(self, sessions: int) -> None:
        """Have sessions 1 to `sessions` in the maps, and no others. Raises BpfError."""
        maps, slots = self.plane.maps, range(1, sessions + 1)
        rows = pack([entry(number) for number in slots], slots)
        syscall.update_batch(maps["subscribers"], rows.addresses, rows.subscribers, sessions)
        syscall.update_batch(maps["sessions"], rows.ids, rows.sessions, sessions)
        for number in range(sessions + 1, self._installed + 1):
            gone = abi.elements(entry(number), number)
            syscall.delete(maps["sessions"], gone.ids)
            syscall.delete(maps["subscribers"], gone.address)
        self._installed = sessions

    def run(self, variant: Variant, stream: Stream, packets: int) -> Sent:
        """Send a stream through the node. Raises BpfError."""
        with self.attached(variant, stream.direction), entered(self._names[_far(stream.direction)]):
            return self.traffic.generate(stream, index_of("wire"), packets)

    def run_alone(self, variant: Variant, stream: Stream, repeat: int) -> int:
        """Mean nanoseconds of one run of an XDP program. Raises BpfError."""
        with self.attached(variant, stream.direction), entered(self._names["node"]):
            index = self._indices[_IN[stream.direction]]
            return self.traffic.run_alone(self.plane.programs[variant.program], stream, index, repeat)

    @contextmanager
    def attached(self, variant: Variant, direction: Direction) -> Iterator[None]:
        """Forward that direction so, meanwhile. Raises BpfError."""
        self._generation += 1
        flows = syscall.map_info(self.plane.maps["rx_flows"]).max_entries
        value = abi.config(
            udp_port=NODE[1], generation=self._generation, flows=flows, flow_life_ms=variant.flow_life_ms
        )
        syscall.update(self.plane.maps["config"], bytes(4), value)
        self.traffic.redirect_to(self._indices[_OUT[direction]])
        programs = {**self.plane.programs, **self.traffic.programs}
        links = []
        with entered(self._names["node"]):
            if variant.program:
                index = self._indices[_IN[direction]]
                links.append(syscall.create_link(programs[variant.program], index, variant.hook))
        try:
            yield
        finally:
            for link in links:
                os.close(link)

    def forwarded(self, direction: Direction) -> int:
        """How many packets the programs have forwarded in that direction."""
        return counters.reasons(self.plane.maps["reasons"])[_FORWARDED[direction]]

    def _index(self, role: str, name: str) -> int:
        with entered(self._names[role]):
            return index_of(name)


@contextmanager
def place() -> Iterator[Place]:
    """Build everything, and pin this thread to the last of its processors. Raises LabUnavailable, BpfError, NotBuilt."""
    allowed = os.sched_getaffinity(0)
    with claim() as lab, ExitStack() as stack:
        lab.add("peer", "node", "core")
        names = {role: lab.name(role) for role in ("peer", "node", "core")}
        _build(names)
        sizes = {"sessions": SESSIONS, "subscribers": SESSIONS, "counters": SESSIONS}
        plane = stack.enter_context(Loaded(shipped().path, sizes=sizes, only=frozenset(PROGRAMS)))
        traffic = stack.enter_context(loaded())
        for role in ("peer", "core"):
            with entered(names[role]):
                link = syscall.create_link(traffic.programs["sink"], index_of("wire"), Attach.XDP)
                stack.callback(os.close, link)
        stack.callback(os.sched_setaffinity, 0, allowed)
        os.sched_setaffinity(0, {max(allowed)})
        yield Place(names, plane, traffic)


def octets(mac: str) -> bytes:
    """A link address from text."""
    return bytes.fromhex(mac.replace(":", ""))


def _far(direction: Direction) -> str:
    """Where that direction begins."""
    return "peer" if direction == "up" else "core"


def _build(names: dict[str, str]) -> None:
    for name in names.values():
        sysctl(name, {"ipv6/conf/all/disable_ipv6": 1, "ipv6/conf/default/disable_ipv6": 1})
    sysctl(
        names["node"], {"ipv4/ip_forward": 1, "ipv4/conf/all/rp_filter": 0, "ipv4/conf/default/rp_filter": 0}
    )
    for near, role in (("lac", "peer"), ("core", "core")):
        ip(
            f"link add {near} address {_MACS[near]} netns {names['node']} type veth "
            f"peer name wire address {_FAR_MACS[near]} netns {names[role]}"
        )
        with entered(names["node"]):
            set_gro(near)
        ip("link set wire up", namespace=names[role])
        with entered(names[role]):
            set_gro("wire")
    ip(
        "link set lac up",
        "link set core up",
        f"addr add {NODE[0]}/24 dev lac",
        "addr add 198.51.100.254/24 dev core",
        f"neigh add {PEER[0]} lladdr {_FAR_MACS['lac']} dev lac nud permanent",
        f"neigh add {CORE} lladdr {_FAR_MACS['core']} dev core nud permanent",
        f"route add {POOL} via {PEER[0]}",
        namespace=names["node"],
    )


def set_gro(name: str) -> None:
    """Have an interface of this namespace join what it receives: a veth then polls, and so takes redirected frames."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_SGRO, 1))
    with socket(AF_INET, SOCK_DGRAM) as control:
        ioctl(control, _SIOCETHTOOL, struct.pack("16sQ16x", name.encode(), ctypes.addressof(value)))
