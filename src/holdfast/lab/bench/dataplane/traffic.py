"""Frames of many sessions, made and swallowed in the kernel: Python's side of bpf/bench/traffic.c.

Session n (from 1) has the session id n and the address 100.64.0.0 + n.
"""

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import inet_aton
from typing import Final, Literal, NamedTuple

from holdfast.dataplane.contract import Address, Entry
from holdfast.dataplane.ebpf import syscall
from holdfast.dataplane.ebpf.libbpf import Loaded
from holdfast.dataplane.ebpf.shipped import NotBuilt
from holdfast.dataplane.ipv4 import build
from holdfast.lab.bench.dataplane.clock import Stopwatch
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
_KEY = bytes(4)
_WARM_UP, _SECONDS = 200_000, 0.5
"""Packets before what counts, if that shall take so many seconds: they tell how many packets these are."""
_BATCH = 64
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
    """What a generator sent, what of it came out as expected, what came out otherwise, and how long it took."""

    sent: int
    arrived: int
    others: int
    seconds: float

    @property
    def rate(self) -> float:
        """Packets per second that arrived."""
        return self.arrived / self.seconds


class Traffic:
    """The loaded generator and sink."""

    def __init__(self, loaded: Loaded) -> None:
        self.maps, self.programs = loaded.maps, loaded.programs

    def generate(self, stream: Stream, out_ifindex: int, seconds: float) -> Sent:
        """Send from this thread's namespace and processor by an interface, for about `seconds`. Raises BpfError.

        A call takes some 20 ms to begin and end, of all rates the same share, since all take the same time.
        """
        data, program = stream.template(), self.programs[f"generate_{stream.direction}"]
        syscall.update(self.maps["stream"], _KEY, stream.packed(out_ifindex))
        syscall.update(self.maps["expected"], _KEY, struct.pack("=I", stream.length_after))
        warm_up = int(_WARM_UP * min(1.0, seconds / _SECONDS))
        count = int(seconds * warm_up / _call(program, data, warm_up)) // _BATCH * _BATCH
        time.sleep(_LATE_S)
        before = self._seen()
        taken = _call(program, data, count)
        time.sleep(_LATE_S)  # what is on its way when the call ends
        arrived, others = (now - then for now, then in zip(self._seen(), before, strict=True))
        return Sent(count, arrived, others, taken)

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


def _call(program: int, data: bytes, count: int) -> float:
    watch = Stopwatch()
    syscall.test_run(program, data, repeat=count, flags=syscall.LIVE_FRAMES)
    return watch.seconds()


@contextmanager
def loaded() -> Iterator[Traffic]:
    """The programs of the benchmark. Raises NotBuilt, BpfError, NoLibbpf."""
    if not OBJECT.exists():
        raise NotBuilt("the programs of the benchmark are not built: scripts/build-bpf (clang, libbpf-dev)")
    with Loaded(OBJECT) as made:
        yield Traffic(made)
