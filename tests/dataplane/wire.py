"""An LNS's eBPF plane between two other hosts, in three network namespaces with veth pairs, real sockets and stacks.

The LAC's end is a UDP socket (and, for whole connections, a pump between it and a TUN device with the subscriber's
address); the core's end is a host of its own. The daemon does nothing unless a test calls `serve`.
"""

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from errno import EAGAIN
from fcntl import ioctl
from select import select

from dataplane.cases import CORE, IP, NODE, OURS, PEER, SUBSCRIBER, packet, sum16
from dataplane.programs import OBJECT, SIZES
from holdfast.dataplane import tundev
from holdfast.dataplane.contract import Entry
from holdfast.dataplane.ebpf import abi, syscall
from holdfast.dataplane.ebpf.abi import Reason
from holdfast.dataplane.ebpf.libbpf import Loaded
from holdfast.dataplane.ebpf.links import Mode
from holdfast.dataplane.ebpf.pins import open_pins, remove
from holdfast.dataplane.ebpf.plane import EbpfPlane
from holdfast.dataplane.ebpf.service import Place, Service
from holdfast.dataplane.ebpf.shipped import shipped
from holdfast.dataplane.ebpf.syscall import Attach
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.interfaces import index_of
from holdfast.lab.netns import claim, entered, ip, sysctl

GATEWAY = "198.51.100.254"
LIMIT_S = 5.0
MTU = 1460
_SIOCETHTOOL = 0x8946
_OFF = {"tx": 0x17, "tso": 0x1F, "gso": 0x24}
_ETH_P_IP, _ETH_P_ALL = 0x0800, 0x0003


def offload_off(name: str, *features: str) -> None:
    """What `ethtool -K name FEATURE off` does, in the namespace of this thread."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for feature in features:
            value = ctypes.create_string_buffer(struct.pack("=II", _OFF[feature], 0))
            ioctl(control, _SIOCETHTOOL, struct.pack("16sQ16x", name.encode(), ctypes.addressof(value)))


def echo_request(source: str, destination: str, *, number: int = 1, size: int = 8, ttl: int = 64) -> bytes:
    """An ICMP echo request."""
    message = struct.pack(">BBHHH", 8, 0, 0, 0x4846, number) + bytes(size)
    message = message[:2] + struct.pack(">H", sum16(message)) + message[4:]
    data = packet(source, destination, protocol=1, payload=message)
    head = data[:8] + bytes((ttl, 1, 0, 0)) + data[12:20]
    return head[:10] + struct.pack(">H", sum16(head)) + head[12:] + data[20:]


def is_icmp(data: bytes, kind: int, code: int = 0) -> bool:
    """Whether this is an ICMP message of that kind, in an IPv4 packet without options."""
    return data[9] == 1 and data[20] == kind and data[21] == code


class Wire:
    """The three hosts and what the tests hold of them."""

    def __init__(
        self, names: dict[str, str], plane: EbpfPlane, udp: socket.socket, maps: Mapping[str, int]
    ) -> None:
        self.names, self.plane, self.udp, self.maps = names, plane, udp, maps
        self.inbox = Inbox()
        self._before: dict[Reason, int] = {}
        with entered(names["lac"]):
            self.lac = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.lac.bind(PEER)
            self.lac_link = sniffer(_ETH_P_ALL)
        with entered(names["core"]):
            self.core = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self.core_link = sniffer(_ETH_P_IP)
        self.mark()

    def mark(self) -> None:
        """Count reasons from here, and forget what has arrived."""
        for sock in (self.lac, self.core_link, self.lac_link):
            drain(sock)
        self._before = self._reasons()

    def moved(self) -> dict[Reason, int]:
        """What has been counted since the mark, but for what does not concern the plane."""
        now = self._reasons()
        moved = {r: now[r] - self._before.get(r, 0) for r in now}
        return {r: n for r, n in moved.items() if n and r not in (Reason.NOT_OURS, Reason.NOT_TO_US)}

    def _reasons(self) -> dict[Reason, int]:
        return {Reason[name.upper()]: count for name, count in self.plane.reasons().items()}

    def up(self, inner: bytes, head: bytes = OURS + IP) -> None:
        """A data message from the LAC."""
        self.lac.sendto(head + inner, NODE)

    def down(self, data: bytes) -> None:
        """A packet that the host in the core sends."""
        self.core.sendto(data, (SUBSCRIBER, 0))

    def at_lac(self, wanted: Callable[[bytes], bool], size: int = len(OURS + IP)) -> bytes:
        """The next inner packet of that kind that the LAC gets; data headers have `size` octets."""
        return awaited(self.lac, lambda data: wanted(data[size:]))[size:]

    def at_core(self, wanted: Callable[[bytes], bool]) -> bytes:
        """The next packet of that kind that the host in the core gets."""
        return awaited(self.core_link, wanted)

    def serve(self) -> None:
        """The daemon's part, for what waits on its socket and on the device."""
        assert select([self.udp], [], [], LIMIT_S)[0], "nothing came to the daemon's socket"
        self.inbox.read(self.udp.fileno())
        self.plane.receive(self.inbox)

    def forget_neighbours(self) -> None:
        """In the kernel, and in what the programs keep of it."""
        ip("neigh flush dev lac", "neigh flush dev core", namespace=self.names["node"])
        held = bytearray(syscall.lookup(self.maps["config"], bytes(4), abi.CONFIG_SIZE) or b"")
        abi.begin_generation(held)
        syscall.update(self.maps["config"], bytes(4), bytes(held))

    def warm(self) -> None:
        """Have every neighbour known, by pings there and back, and leave nothing of it behind."""
        for number in range(100):
            self.mark()
            self.up(echo_request(SUBSCRIBER, CORE, number=number))
            self.at_lac(lambda data: is_icmp(data, 0))
            if self.moved() == {Reason.RX_FORWARDED: 1, Reason.TX_FORWARDED: 1}:
                self.mark()
                return
        raise AssertionError(f"pings never took the fast path: {self.moved()}")

    def close(self) -> None:
        self.plane.close()
        for sock in (self.udp, self.lac, self.lac_link, self.core, self.core_link):
            sock.close()


def sniffer(protocol: int) -> socket.socket:
    """What arrives at eth0, packet by packet."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(protocol))
    sock.bind(("eth0", protocol))
    return sock


def drain(sock: socket.socket) -> None:
    while select([sock], [], [], 0)[0]:
        sock.recv(65535)


def awaited(sock: socket.socket, wanted: Callable[[bytes], bool]) -> bytes:
    """The next packet of that kind that arrives."""
    while select([sock], [], [], LIMIT_S)[0]:
        data, source = sock.recvfrom(65535)
        outgoing = sock.family == socket.AF_PACKET and source[2] == socket.PACKET_OUTGOING
        if not outgoing and wanted(data):
            return data
    raise AssertionError("it did not arrive")


@contextmanager
def pumped(wire: Wire) -> Iterator[None]:
    """A subscriber with a stack of its own behind the LAC: a TUN device there, and a thread that carries packets."""
    with entered(wire.names["lac"]):
        tun = tundev.attach(tundev.TunSpec(name="sub0", mtu=1400))
        ip("addr add 100.64.0.7/32 dev sub0", "route add 198.51.100.0/24 dev sub0 src 100.64.0.7")
    ending, lac = threading.Event(), wire.lac.fileno()

    def pump() -> None:
        while not ending.is_set():
            for ready in select([tun.fd, lac], [], [], 0.1)[0]:
                try:
                    if ready == lac:
                        data = wire.lac.recv(65535)
                        if data[1] == 2 and data[6:10] == IP:
                            os.write(tun.fd, data[10:])
                    else:
                        wire.up(os.read(tun.fd, 65535))
                except OSError as error:
                    assert error.errno == EAGAIN

    thread = threading.Thread(target=pump)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        with entered(wire.names["lac"]):
            tun.close()
            tundev.teardown(tundev.TunSpec(name="sub0"))


@contextmanager
def wired(mode: Mode, entries: list[Entry]) -> Iterator[Wire]:
    """The hosts, with the plane in `mode` at both interfaces of the LNS; this thread is in the LNS's namespace."""
    with ExitStack() as stack:
        lab = stack.enter_context(claim())
        roles = ("lac", "node", "core")
        lab.add(*roles)
        names = {role: lab.name(role) for role in roles}
        for far in ("lac", "core"):
            ip(f"link add {far} netns {names['node']} type veth peer name eth0 netns {names[far]}")
            ip("link set eth0 up", namespace=names[far])
        ip(
            "link set lac up",
            "link set core up",
            f"addr add {NODE[0]}/24 dev lac",
            f"addr add {GATEWAY}/24 dev core",
            namespace=names["node"],
        )
        ip(f"addr add {PEER[0]}/24 dev eth0", namespace=names["lac"])
        ip(
            f"addr add {CORE}/24 dev eth0",
            f"route add default via {GATEWAY}",
            namespace=names["core"],
        )
        # Strict reverse-path filtering where the plane promises to pass it: in tc what the kernel finishes seems to
        # come from the TUN device, in XDP by the LAC's interface.
        strict = 1 if mode == "tc" else 0
        sysctl(names["node"], {"ipv4/ip_forward": 1, "ipv4/conf/all/rp_filter": strict})
        if mode == "xdp":
            _let_veth_take_redirected_frames(stack, names)
        stack.enter_context(entered(names["node"]))
        root = str(lab.scratch() / "bpf")
        pins = open_pins(root, shipped(), 64, lambda news: None)
        stack.callback(remove, root)
        device = tundev.attach(
            tundev.TunSpec(name="hf0", mtu=MTU, routes=tundev.pool_routes(["100.64.0.0/16"]))
        )
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(NODE)
        udp.setblocking(False)
        service = Service(pins, Place(("lac", "core"), mode, NODE, "hf0"), lambda news: None)
        plane = EbpfPlane(pins, device, udp, service, lambda news: None, mtu=MTU, mss_clamp=True)
        plane.install(entries)
        plane.begin()
        assert {name: each.mode for name, each in plane.attached.items()} == {"lac": mode, "core": mode}
        wire = Wire(names, plane, udp, pins.maps)
        stack.callback(wire.close)
        yield wire


def _let_veth_take_redirected_frames(stack: ExitStack, names: dict[str, str]) -> None:
    """A veth gets redirected frames only if it runs XDP itself: the far ends run a program that passes all."""
    idle = stack.enter_context(Loaded(OBJECT, sizes=SIZES, only=frozenset({"hf_xdp"})))
    for far in ("lac", "core"):
        with entered(names[far]):
            link = syscall.create_link(idle.programs["hf_xdp"], index_of("eth0"), Attach.XDP)
            stack.callback(os.close, link)
