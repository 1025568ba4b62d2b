"""Frames of many sessions, made and swallowed in the kernel: Python's side of bpf/bench/traffic.c.

Session n (from 1) has the session id n and the address 100.64.0.0 + n.
"""

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import inf
from pathlib import Path
from socket import inet_aton
from statistics import median
from typing import Final, Literal, NamedTuple

import msgspec

from holdfast.dataplane.contract import Address, Entry
from holdfast.dataplane.ebpf import syscall
from holdfast.dataplane.ebpf.libbpf import Loaded
from holdfast.dataplane.ebpf.shipped import NotBuilt
from holdfast.dataplane.ipv4 import build
from holdfast.records import Side, session_key
from holdfast.wire.header import data_header
from holdfast.wire.ppp import Protocol, frame

Direction = Literal["up", "down"]

OBJECT: Final = Path(__file__).with_name("traffic.bpf.o")
NODE: Final[Address] = ("192.0.2.2", 1701)
PEER: Final[Address] = ("192.0.2.1", 1701)
CORE: Final = "198.51.100.1"
POOL: Final = "100.64.0.0/10"
TUNNEL: Final = 7
ETHERNET: Final = 14
OVERHEAD: Final = 38
"""Octets that a tunnel puts before an inner packet: IPv4, UDP, L2TP and PPP, as these entries have it."""

_FIRST = int.from_bytes(inet_aton("100.64.0.0"), "big")
_TEMPLATE = 72
_stream = struct.Struct("=IIIIII72s")
_ROOM = 64
"""Octets that the generator leaves free before a frame. Without them a frame that has got tunnel headers has less than
256 before it, and where the kernel made a packet of it (tc), XDP at the other end of a veth copies it whole.
"""
_KEY = bytes(4)
CHUNK, CHUNKS = 512, 1024
_LATE_S = 0.01


def entry(number: int) -> Entry:
    """Session `number`, in tunnels of 65,535 each."""
    tunnel, session = TUNNEL + (number - 1) // 0xFFFF, (number - 1) % 0xFFFF + 1
    return Entry(
        key=session_key(tunnel, session),
        side=Side.LNS,
        local_tunnel=tunnel,
        local_session=session,
        peer_tunnel=tunnel,
        peer_session=session,
        peer=PEER,
        local=NODE,
        address=".".join(map(str, (_FIRST + number).to_bytes(4, "big"))),
        mtu=1460,
        echo=True,
        magic=number,
    )


def entry6(number: int) -> Entry:
    """The same with a /64 of its own."""
    prefix = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64"
    return msgspec.structs.replace(entry(number), prefix=prefix)


class Stream(NamedTuple):
    """One direction's frames with inner packets of `size` octets. `plain`: for a node without our programs."""

    direction: Direction
    size: int
    sessions: int
    to: bytes
    source: bytes
    plain: bool = False

    @property
    def length(self) -> int:
        """Octets of a frame that is sent."""
        return ETHERNET + self.size + (OVERHEAD if self.direction == "up" else 0)

    @property
    def length_after(self) -> int:
        """Octets of that frame once it has been forwarded."""
        moved = 0 if self.plain else OVERHEAD
        return self.length + (-moved if self.direction == "up" else moved)

    def template(self) -> bytes:
        """The frame of session 0. Up and plain it is the same message, which the node only has to route."""
        here, there = inet_aton("100.64.0.0"), inet_aton(CORE)
        ends = (here, there) if self.direction == "up" else (there, here)
        packet = build(*ends, 17, bytes(self.size - 20))
        if self.direction == "up":
            message = data_header(TUNNEL, 0) + frame(Protocol.IPV4, packet)
            udp = struct.pack(">HHHH", PEER[1], NODE[1], 8 + len(message), 0)
            packet = build(inet_aton(PEER[0]), inet_aton(CORE if self.plain else NODE[0]), 17, udp + message)
        made = self.to + self.source + b"\x08\x00" + packet
        assert len(made) == self.length
        return made

    def packed(self, out_ifindex: int) -> bytes:
        """The value of `stream`."""
        template = self.template()
        at = ETHERNET + (OVERHEAD if self.direction == "up" else 0)
        words = struct.unpack_from(">10H", template, at)
        total = sum(words) - words[5]
        return _stream.pack(out_ifindex, self.sessions, 0, total, self.length, 0, template[:_TEMPLATE])


class Sent(NamedTuple):
    """What a generator sent, what of it came out as expected, what came out otherwise, and nanoseconds for each packet.

    These are of the time between two packets CHUNK apart, the median of all of them: neither what a call takes to begin
    and to end is in it, nor what other processes took of our processor, unless they had it half the time.
    """

    sent: int
    arrived: int
    others: int
    each_ns: float

    @property
    def rate(self) -> float:
        """Packets per second."""
        return 1e9 / self.each_ns


class Traffic:
    """The loaded generator and sink."""

    def __init__(self, loaded: Loaded) -> None:
        self.maps, self.programs = loaded.maps, loaded.programs

    def generate(self, stream: Stream, out_ifindex: int, packets: int) -> Sent:
        """Send from this thread's namespace and processor by an interface. Raises BpfError.

        At most CHUNK * CHUNKS packets, and at least three times CHUNK.
        """
        data, program = bytes(_ROOM) + stream.template(), self.programs[f"generate_{stream.direction}"]
        syscall.update(self.maps["stream"], _KEY, stream.packed(out_ifindex))
        syscall.update(self.maps["expected"], _KEY, struct.pack("=I", stream.length_after))
        before = self._seen()
        syscall.test_run(program, data, repeat=packets, flags=syscall.LIVE_FRAMES)
        time.sleep(_LATE_S)  # what is on its way when the call ends
        after = self._seen()
        arrived, others = (now - then for now, then in zip(after, before, strict=True))
        return Sent(packets, arrived, others, self._each_ns(before[0] // CHUNK + 1, after[0] // CHUNK))

    def _each_ns(self, first: int, last: int) -> float:
        """What a packet took between two multiples of CHUNK; the first tenth is not counted. inf if hardly any came."""
        _, values, _ = syscall.lookup_batch(self.maps["times"], 4, 8, CHUNKS, limit=CHUNKS)
        noted = struct.unpack(f"={CHUNKS}Q", values)
        times = [noted[at % CHUNKS] for at in range(first + (last - first) // 10, last + 1)]
        return median(late - early for early, late in pairwise(times)) / CHUNK if len(times) > 1 else inf

    def redirect_to(self, ifindex: int) -> None:
        """Where `only_redirect` sends frames."""
        syscall.update(self.maps["away"], _KEY, struct.pack("=I", ifindex))

    def run_alone(self, program: int, stream: Stream, ifindex: int, repeat: int) -> int:
        """Mean nanoseconds of one run of a program on a fresh frame that seems to come from an interface.

        The making of the frame, measured beside, is not included. Raises BpfError.
        """
        frame_, context = stream.template(), struct.pack("=IIIIII", 0, stream.length, 0, ifindex, 0, 0)
        times = []
        for each in (self.programs["nothing"], program):
            syscall.update(self.maps["stream"], _KEY, stream.packed(0))
            syscall.update(self.maps["alone"], _KEY, struct.pack("=I", each))
            maker = self.programs[f"again_{stream.direction}"]
            times.append(syscall.test_run(maker, frame_, context=context, repeat=repeat).duration_ns)
        return times[1] - times[0]

    def _seen(self) -> list[int]:
        stride = 8 * syscall.possible_cpus()
        values = (syscall.lookup(self.maps["seen"], struct.pack("=I", at), stride) or b"" for at in (0, 1))
        return [sum(struct.unpack(f"={len(value) // 8}Q", value)) for value in values]


@contextmanager
def loaded() -> Iterator[Traffic]:
    """The programs of the benchmark. Raises NotBuilt, BpfError, NoLibbpf."""
    if not OBJECT.exists():
        raise NotBuilt("the programs of the benchmark are not built: scripts/build-bpf (clang, libbpf-dev)")
    with Loaded(OBJECT) as made:
        yield Traffic(made)
