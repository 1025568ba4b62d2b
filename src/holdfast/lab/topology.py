"""The drill's network: lac – lns – core, three namespaces joined by two veth pairs.

Subscribers live at the LAC as one local route for the whole pool (AnyIP): any address of it is the LAC's own, without
10,000 addresses on an interface. What they send is routed by source into the LAC's TUN device; the core reaches the
pool by way of the LNS. No reverse-path filter: the two directions take different interfaces on purpose.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from holdfast.lab.netns import Claim, LabUnavailable, entered, ip, sysctl

LAC_ADDRESS = "192.0.2.1"
LNS_ADDRESS = "192.0.2.2"
LNS_CORE_ADDRESS = "198.51.100.1"
CORE_ADDRESS = "198.51.100.2"
POOL = "100.64.0.0/16"
TUN = "hf0"
WIRE = "wire"
"""Name of the interface between LAC and LNS, on either side."""

CORE_WIRE = "core"
"""Name of the LNS's interface towards the core."""
CORE_END = "lns"
"""Name of the core's interface."""

_SUBSCRIBER_TABLE = 100


class Topology(msgspec.Struct, frozen=True):
    """Names of the three namespaces."""

    lac: str
    lns: str
    core: str

    def of(self, role: str) -> str:
        """The namespace of a role: "lac", "lns" or "core"."""
        return {"lac": self.lac, "lns": self.lns, "core": self.core}[role]


def build(claim: Claim) -> Topology:
    """Make the namespaces and the paths between them; the TUN devices are the daemons' business."""
    claim.add("lac", "lns", "core")
    net = Topology(claim.name("lac"), claim.name("lns"), claim.name("core"))
    for namespace in (net.lac, net.lns, net.core):
        sysctl(namespace, {"ipv4/conf/all/rp_filter": 0, "ipv4/conf/default/rp_filter": 0})
    sysctl(net.lns, {"ipv4/ip_forward": 1})
    ip(
        f"link add {WIRE} netns {net.lac} type veth peer name {WIRE} netns {net.lns}",
        f"link add {CORE_WIRE} netns {net.lns} type veth peer name {CORE_END} netns {net.core}",
    )
    ip(f"addr add {LAC_ADDRESS}/30 dev {WIRE}", f"link set {WIRE} up", namespace=net.lac)
    ip(
        f"addr add {LNS_ADDRESS}/30 dev {WIRE}",
        f"link set {WIRE} up",
        f"addr add {LNS_CORE_ADDRESS}/30 dev {CORE_WIRE}",
        f"link set {CORE_WIRE} up",
        namespace=net.lns,
    )
    ip(
        f"addr add {CORE_ADDRESS}/30 dev {CORE_END}",
        f"link set {CORE_END} up",
        f"route add {POOL} via {LNS_CORE_ADDRESS}",
        namespace=net.core,
    )
    ip(
        f"route add local {POOL} dev lo",
        f"rule add from {POOL} lookup {_SUBSCRIBER_TABLE}",
        namespace=net.lac,
    )
    return net


def route_subscribers(net: Topology, device: str = TUN, via: str = "") -> None:
    """Send what subscribers send into `device` at the LAC (`via`: by a gateway, for a path without a tunnel)."""
    gateway = f"via {via} " if via else ""
    ip(f"route replace default {gateway}dev {device} table {_SUBSCRIBER_TABLE}", namespace=net.lac)


def set_apart(net: Topology, address: str) -> None:
    """Once per address: what this subscriber sends goes where `route_subscriber` says, not where that of all goes."""
    ip(f"rule add from {address} lookup {_table_of(address)} priority 1", namespace=net.lac)


def route_subscriber(net: Topology, address: str, device: str) -> None:
    """Send what a subscriber that was set apart sends into `device` at the LAC."""
    ip(f"route replace default dev {device} table {_table_of(address)}", namespace=net.lac)


def _table_of(address: str) -> int:
    return int(IPv4Address(address))


@contextmanager
def slow_wire(net: Topology, delay_ms: int) -> Iterator[None]:
    """While this lasts, whatever LAC and LNS say arrives `delay_ms` later; afterwards what is still on its way arrives
    all the same, possibly behind what is said later. Raises LabUnavailable without netem.
    """
    _delay(net, delay_ms)
    try:
        yield
    finally:
        _delay(net, 0)


def _delay(net: Topology, delay_ms: int) -> None:
    for namespace in (net.lac, net.lns):
        _tc(namespace, f"replace dev {WIRE} root netem delay {delay_ms}ms limit 100000")


def _tc(namespace: str, command: str) -> None:
    argv = ["tc", "-n", namespace, "qdisc", *command.split()]
    done = subprocess.run(argv, text=True, capture_output=True, check=False)
    if done.returncode:
        raise LabUnavailable(f"tc: {done.stderr.strip()} (in: {command})")


def kernel_counters(namespace: str) -> dict[str, int]:
    """Where a namespace's kernel counts lost packets: UDP and IP (`Udp.NoPorts`), devices (`hf0.tx_dropped`)."""
    with entered(namespace):
        snmp = Path("/proc/thread-self/net/snmp").read_text()
        dev = Path("/proc/thread-self/net/dev").read_text()
    return _snmp(snmp) | _devices(dev)


_LOSSES = {
    "Ip": (
        "InHdrErrors",
        "InAddrErrors",
        "InDiscards",
        "OutDiscards",
        "OutNoRoutes",
        "ReasmFails",
        "FragFails",
    ),
    "Udp": ("NoPorts", "InErrors", "RcvbufErrors", "SndbufErrors", "InCsumErrors"),
}


def _snmp(text: str) -> dict[str, int]:
    counters: dict[str, int] = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        group, *keys = names.split()
        losses = _LOSSES.get(group.rstrip(":"), ())
        for key, value in zip(keys, values.split()[1:], strict=True):
            if key in losses:
                counters[f"{group.rstrip(':')}.{key}"] = int(value)
    return counters


def _devices(text: str) -> dict[str, int]:
    counters: dict[str, int] = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = [int(field) for field in rest.split()]
        for key, at in (("rx_errors", 2), ("rx_dropped", 3), ("tx_errors", 10), ("tx_dropped", 11)):
            counters[f"{name.strip()}.{key}"] = fields[at]
    return counters
