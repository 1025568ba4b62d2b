"""The eBPF programs on a bench: in a network namespace with routes and neighbours, fed frame by frame (PROG_TEST_RUN).

A frame goes in at the LAC's side or the core's; what comes out is the program's action, the frame as it is then, and
exactly which counters moved. Everything about the addresses of the cases is set here.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from socket import inet_aton

from dataplane.cases import CORE, NODE, PEER, STRANGER, sum16
from holdfast.dataplane.contract import Address, Entry
from holdfast.dataplane.ebpf import abi, features, syscall
from holdfast.dataplane.ebpf.abi import Reason
from holdfast.dataplane.ebpf.libbpf import Loaded
from holdfast.dataplane.ebpf.syscall import Attach
from holdfast.dataplane.interfaces import index_of
from holdfast.lab.netns import claim, entered, ip, sysctl, unavailable
from holdfast.records import Counters

OBJECT = Path(abi.__file__).with_name("holdfast.bpf.o")
SECOND: Address = ("192.0.2.3", 1701)
POOL = "100.64.0.0/16"
PREFIX = "2001:db8:7::/48"
CORE6 = "2001:db8:c::1"
IPV4, IPV6, VLAN = b"\x08\x00", b"\x86\xdd", b"\x81\x00"
SLOTS = 64
LONG_MS = 3_600_000
SIZES = {
    "sessions": SLOTS,
    "subscribers": SLOTS,
    "prefixes": SLOTS,
    "counters": SLOTS,
    "rx_flows": 64,
    "tx_flows": 64,
}


def mac(number: int) -> bytes:
    """One of the bench's link addresses."""
    return bytes((2, 0, 0, 0, number >> 8, number & 0xFF))


LAC_MAC, LAC_FAR_MAC, STRANGER_MAC, CORE_MAC, CORE_FAR_MAC = (
    mac(n) for n in (0x101, 0x102, 0x109, 0x201, 0x202)
)


def missing() -> str | None:
    """Why there can be no bench here; None if there can."""
    if not OBJECT.exists():
        return "the eBPF programs are not built: scripts/build-bpf (clang, libbpf-dev)"
    return unavailable() or features.unavailable()


class Action(Enum):
    """What a program told the kernel."""

    PASS = "pass"
    DROP = "drop"
    SENT_BACK = "sent back"
    SENT = "sent"


class Hook(Enum):
    """Which program runs."""

    XDP = "hf_xdp"
    TC = "hf_tc"


_XDP_ACTIONS = {1: Action.DROP, 2: Action.PASS, 3: Action.SENT_BACK, 4: Action.SENT}
_TC_ACTIONS = {0xFFFFFFFF: Action.PASS, 2: Action.DROP, 7: Action.SENT}


@dataclass(frozen=True)
class Outcome:
    """What became of a frame. `counters` are of the sessions whose traffic moved."""

    action: Action
    frame: bytes
    reasons: dict[Reason, int]
    counters: dict[int, Counters] = field(default_factory=dict)
    duration_ns: int = 0


def ethernet(to: bytes, source: bytes, kind: bytes, payload: bytes, *, tag: int | None = None) -> bytes:
    """A frame, with a VLAN tag if asked for."""
    middle = b"" if tag is None else VLAN + struct.pack(">H", tag)
    return to + source + middle + kind + payload


def udp(source: Address, to: Address, data: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    """An IPv4 packet with a UDP datagram without checksum; DF is set unless it is a fragment."""
    words = 5 + len(options) // 4
    length = 4 * words + 8 + len(data)
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, length, 0, fragment or 0x4000, 64, 17, 0)
    head += inet_aton(source[0]) + inet_aton(to[0]) + options
    head = head[:10] + struct.pack(">H", sum16(head)) + head[12:]
    return head + struct.pack(">HHHH", source[1], to[1], 8 + len(data), 0) + data


def one_hop_less(packet: bytes) -> bytes:
    """The IP packet before a router took one from its TTL or hop limit, and corrected its checksum (RFC 1624)."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes((packet[7] + 1,)) + packet[8:]
    after = packet[10] << 8 | packet[11]
    before = after - 0x100 if after >= 0x100 else after + 0xFEFF
    return packet[:8] + bytes((packet[8] + 1, packet[9], before >> 8, before & 0xFF)) + packet[12:]


class Bench:
    """The loaded programs and their maps. `hook` chooses the program."""

    def __init__(self, maps: Mapping[str, int], programs: Mapping[str, int]) -> None:
        self.maps, self.programs = maps, programs
        self.cpus = syscall.possible_cpus()
        self.entries: dict[int, tuple[Entry, int]] = {}
        self.indices = {name: index_of(name) for name in ("lac", "core")}
        for address, _ in (NODE, SECOND):
            syscall.update(self.maps["locals"], inet_aton(address), struct.pack("=I", 1))
        self.configure()
        self.set_ports()

    def configure(self, *, flow_life_ms: int = 0, tun: int = 0, port: int = NODE[1]) -> None:
        """Set `config`; every call forgets the flows."""
        generation = struct.unpack_from("=I", self.held_config(), 8)[0] + 1
        value = abi.config(
            udp_port=port, tun_ifindex=tun, generation=generation, flows=64, flow_life_ms=flow_life_ms
        )
        syscall.update(self.maps["config"], struct.pack("=I", 0), value)

    def held_config(self) -> bytes:
        """What `config` holds: the plane writes to it, too."""
        value = syscall.lookup(self.maps["config"], struct.pack("=I", 0), abi.CONFIG_SIZE)
        assert value is not None
        return value

    def set_ports(self, *, redirect: bool = True) -> None:
        """Set `ports`."""
        for name, address in (("lac", LAC_MAC), ("core", CORE_MAC)):
            place, value = abi.port(self.indices[name], address, redirect=redirect)
            syscall.update(self.maps["ports"], struct.pack("=I", place), value)

    def install(self, entries: Iterable[Entry], *, mss_clamp: bool = False) -> None:
        """Exactly these entries, with counters at zero; the younger of two owns what both claim. Forgets the flows."""
        for keyed, _ in ((abi.elements(e, slot), slot) for e, slot in self.entries.values()):
            syscall.delete(self.maps["sessions"], keyed.ids)
            syscall.delete(self.maps["subscribers"], keyed.address)
            if keyed.prefix:
                syscall.delete(self.maps["prefixes"], keyed.prefix)
        self.entries = {e.key: (e, slot) for slot, e in enumerate(entries, 1)}
        for installed, slot in self.entries.values():
            keyed = abi.elements(installed, slot, clamp_mss=mss_clamp)
            zero = bytes(abi.COUNTERS_SIZE * self.cpus)
            syscall.update(self.maps["counters"], struct.pack("=I", slot), zero)
            syscall.update(self.maps["sessions"], keyed.ids, keyed.session)
            syscall.update(self.maps["subscribers"], keyed.address, keyed.subscriber)
            if keyed.prefix:
                syscall.update(self.maps["prefixes"], keyed.prefix, keyed.subscriber)
        config = bytearray(self.held_config())
        abi.begin_generation(config)
        syscall.update(self.maps["config"], struct.pack("=I", 0), bytes(config))

    def reasons(self) -> dict[Reason, int]:
        """All that has been counted."""
        found: dict[Reason, int] = {}
        for reason in Reason:
            values = syscall.lookup(self.maps["reasons"], struct.pack("=I", reason), 8 * self.cpus)
            assert values is not None
            if total := sum(struct.unpack(f"={self.cpus}Q", values)):
                found[reason] = total
        return found

    def counters(self) -> dict[int, Counters]:
        """The traffic of the sessions that had any."""
        found: dict[int, Counters] = {}
        size = abi.COUNTERS_SIZE * self.cpus
        for key, (_, slot) in self.entries.items():
            values = syscall.lookup(self.maps["counters"], struct.pack("=I", slot), size)
            assert values is not None
            if (counted := abi.counted(values, 0, self.cpus)) != Counters():
                found[key] = counted
        return found

    def run(self, hook: Hook, port: str, frame: bytes, *, repeat: int = 1, gso_size: int = 0) -> Outcome:
        """Put one frame in at an interface, and see what has been counted."""
        before, traffic = self.reasons(), self.counters()
        action, done = self.feed(hook, port, frame, repeat=repeat, gso_size=gso_size)
        moved = {r: n - before.get(r, 0) for r, n in self.reasons().items() if n != before.get(r, 0)}
        counted = {k: _less(c, traffic.get(k, Counters())) for k, c in self.counters().items()}
        counted = {k: c for k, c in counted.items() if c != Counters()}
        return Outcome(action, done.data, moved, counted, done.duration_ns)

    def feed(
        self, hook: Hook, port: str, frame: bytes, *, repeat: int = 1, gso_size: int = 0
    ) -> tuple[Action, syscall.Run]:
        """Put one frame in at an interface."""
        if hook is Hook.XDP:
            context = struct.pack("=IIIIII", 0, len(frame), 0, self.indices[port], 0, 0)
        else:
            skb = bytearray(192)
            struct.pack_into("=I", skb, 40, self.indices[port])
            struct.pack_into("=I", skb, 176, gso_size)
            context = bytes(skb)
        done = syscall.test_run(self.programs[hook.value], frame, context=context, repeat=repeat)
        return (_XDP_ACTIONS if hook is Hook.XDP else _TC_ACTIONS)[done.verdict], done


def _less(now: Counters, before: Counters) -> Counters:
    return Counters(
        now.up_packets - before.up_packets,
        now.up_bytes - before.up_bytes,
        now.down_packets - before.down_packets,
        now.down_bytes - before.down_bytes,
    )


@contextmanager
def ground() -> Iterator[Path]:
    """A namespace with both sides, entered by this thread; yields a directory for what a test leaves behind."""
    with claim() as lab:
        lab.add("node")
        name = lab.name("node")
        ip(
            f"link add lac address {text_of(LAC_MAC)} type veth peer name lac-far address {text_of(LAC_FAR_MAC)}",
            f"link add core address {text_of(CORE_MAC)} type veth peer name core-far address {text_of(CORE_FAR_MAC)}",
            *(f"link set {link} up" for link in ("lac", "lac-far", "core", "core-far")),
            f"addr add {NODE[0]}/24 dev lac",
            f"addr add {SECOND[0]}/24 dev lac",
            "addr add 198.51.100.254/24 dev core",
            "addr add 2001:db8:c::fe/64 dev core nodad",
            f"neigh add {PEER[0]} lladdr {text_of(LAC_FAR_MAC)} dev lac nud permanent",
            f"neigh add {STRANGER[0]} lladdr {text_of(STRANGER_MAC)} dev lac nud permanent",
            f"neigh add {CORE} lladdr {text_of(CORE_FAR_MAC)} dev core nud permanent",
            f"neigh add 198.51.100.2 lladdr {text_of(CORE_FAR_MAC)} dev core nud permanent",
            f"neigh add {CORE6} lladdr {text_of(CORE_FAR_MAC)} dev core nud permanent",
            "tuntap add hf0 mode tun",
            "link set hf0 up",
            f"route add {POOL} dev hf0",
            f"route add {PREFIX} dev hf0",
            "route add blackhole 203.0.113.128/25",
            namespace=name,
        )
        sysctl(name, {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
        with entered(name), Loaded(OBJECT, sizes=SIZES, only=frozenset({"hf_xdp"})) as idle:
            # XDP test runs in the name of an interface need one that runs XDP. What the kernel itself sends here
            # (multicast of IPv6) must not count: this program has maps of its own.
            links = [
                syscall.create_link(idle.programs["hf_xdp"], index_of(each), Attach.XDP)
                for each in ("lac", "core")
            ]
            try:
                yield lab.scratch()
            finally:
                for link in links:
                    os.close(link)


@contextmanager
def bench() -> Iterator[Bench]:
    """The programs, with maps of their own, in such a namespace."""
    with ground(), Loaded(OBJECT, sizes=SIZES) as loaded:
        yield Bench(loaded.maps, loaded.programs)


def text_of(address: bytes) -> str:
    """A link address as `ip` writes it."""
    return ":".join(f"{octet:02x}" for octet in address)
