"""How fast the TUN plane forwards, next to a bare loop that reads, looks up and sends: `python -m
holdfast.lab.bench_dataplane`.

Two namespaces and a veth pair: a *peer* with the generator, a *node* with the plane. Up is from the peer's datagrams
to the device (and into a blackhole route behind it), down from packets routed into the device to the peer's socket.
The forwarder has the first core to itself, the generator and the kernel's receive side the second. Plane and bare
loop take turns within a round; each round gives a ratio, and the median of the rounds counts. Both spin, so on a
quiet machine CPU time is time; ratios are of packets per second of CPU time, for machines that are not quiet.

The generator offers more than either can forward: where it does not, the row says so, and its ratio means nothing.
"""

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from statistics import median

import msgspec

from holdfast.dataplane import ipv4
from holdfast.dataplane.contract import Entry
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.tun import TunPlane
from holdfast.dataplane.tundev import TunSpec, attach, pool_routes
from holdfast.lab.netns import Claim, LabUnavailable, claim, entered, ip, sysctl
from holdfast.records import Side, session_key
from holdfast.wire.header import data_header
from holdfast.wire.ppp import Protocol, frame

PEER, NODE, PORT = "192.0.2.1", "192.0.2.2", 1701
POOL, CORE = "100.64.0.0/16", "198.51.100.1"
DEVICE = "hfbench"
TUNNEL = 7
MIXED = 0
"""The size that stands for a random sequence of 64, 576 and 1,400 octets (7 : 4 : 1)."""

_MIX = (64,) * 7 + (576,) * 4 + (1400,)
_FORWARDER_CORE, _GENERATOR_CORE = 0, 1
_SOL_UDP, _UDP_SEGMENT = 17, 103
_SO_RCVBUFFORCE = 33
_BURST = 8  # packets that the generator hands to the kernel at once; one session's when they go down
_MIXED_BURST = 3
_CHECK_EVERY = 256
_GENERATOR_LIMITED = 0.95


class Measured(msgspec.Struct, frozen=True):
    """One run of one forwarder: packets and CPU seconds within `seconds`."""

    packets: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Packets per second."""
        return self.packets / self.seconds

    @property
    def rate_of_core(self) -> float:
        """Packets per second of CPU time: what neighbours on the same core do not change."""
        return self.packets / self.cpu_seconds


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One direction and size. Rates in packets per second, medians of the rounds; `size` is text for humans.

    `ratio` is plane to bare loop, per second of CPU time; `plane_cpu_share` how much of its core the plane got.
    """

    direction: str
    size: str
    bare: float
    plane: float
    ratio: float
    offered: float
    plane_cpu_share: float
    generator_limited: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 1 if a ratio is below `--least`."""
    options = _options(arguments)
    if options.role:
        _child(options)
        return 0
    if len(os.sched_getaffinity(0)) < 2:
        print("two cores are needed: one forwards, one generates", file=sys.stderr)
        return 2
    try:
        rows = measure(options.sizes, options.seconds, options.rounds, options.sessions)
    except LabUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(msgspec.to_builtins(rows), indent=2) if options.json else table(rows))
    return int(any(row.ratio < options.least for row in rows if row.size == "64"))


def measure(sizes: Sequence[int], seconds: float, rounds: int, sessions: int) -> list[Row]:
    """All rows, in namespaces made for them and removed after. Raises LabUnavailable."""
    with claim() as lab:
        _build(lab)
        return [
            _row(lab, direction, size, seconds, rounds, sessions)
            for size in sizes
            for direction in ("up", "down")
        ]


def table(rows: Sequence[Row]) -> str:
    """The rows for a terminal."""
    lines = [
        f"{'direction':10}{'inner size':>11}{'bare pps':>11}{'plane pps':>11}{'ratio':>7}{'CPU':>6}{'offered':>11}"
    ]
    lines += [
        f"{row.direction:10}{row.size:>11}{row.bare:>11,.0f}{row.plane:>11,.0f}{row.ratio:>7.2f}"
        f"{row.plane_cpu_share:>6.0%}{row.offered:>11,.0f}" + ("  generator-limited" * row.generator_limited)
        for row in rows
    ]
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench_dataplane", description="TUN plane against a bare loop")
    parser.add_argument("--sizes", type=_sizes, default=[64, MIXED], help="inner sizes, or mixed (64,mixed)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of one run (1.5)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each forwarder (3)")
    parser.add_argument("--sessions", type=int, default=1000, help="sessions in rotation (1000)")
    parser.add_argument(
        "--least", type=float, default=0.7, help="ratio at 64 octets below which it fails (0.7)"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", choices=("plane", "bare", "generator"), default="", help=argparse.SUPPRESS)
    parser.add_argument("--direction", choices=("up", "down"), default="up", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _sizes(text: str) -> list[int]:
    return [MIXED if word == "mixed" else int(word) for word in text.split(",")]


def _build(lab: Claim) -> None:
    lab.add("peer", "node")
    peer, node = lab.name("peer"), lab.name("node")
    ip(f"link add wire netns {peer} type veth peer name wire netns {node}")
    ip(f"addr add {PEER}/24 dev wire", "link set wire up", f"route add {POOL} via {NODE}", namespace=peer)
    ip(f"addr add {NODE}/24 dev wire", "link set wire up", f"route add blackhole {CORE}/32", namespace=node)
    sysctl(node, {"ipv4/ip_forward": 1, "ipv4/conf/all/rp_filter": 0, "ipv4/conf/default/rp_filter": 0})


def _row(lab: Claim, direction: str, size: int, seconds: float, rounds: int, sessions: int) -> Row:
    bare: list[Measured] = []
    plane: list[Measured] = []
    offered: list[float] = []
    limited = False
    for _ in range(rounds):
        for role, runs in (("bare", bare), ("plane", plane)):
            run, sent = _run(lab, role, direction, size, seconds, sessions)
            runs.append(run)
            offered.append(sent.rate)
            limited |= run.rate > _GENERATOR_LIMITED * sent.rate
    middle = sorted(plane, key=lambda run: run.rate)[len(plane) // 2]
    return Row(
        direction=direction,
        size="mixed" if size == MIXED else str(size),
        bare=median(run.rate for run in bare),
        plane=middle.rate,
        ratio=median(p.rate_of_core / b.rate_of_core for p, b in zip(plane, bare, strict=True)),
        offered=median(offered),
        plane_cpu_share=middle.cpu_seconds / middle.seconds,
        generator_limited=limited,
    )


def _run(
    lab: Claim, role: str, direction: str, size: int, seconds: float, sessions: int
) -> tuple[Measured, Measured]:
    """One forwarder under load, and what the generator offered it."""
    with _started(lab.name("node"), role, direction, size, seconds, sessions) as forwarder:
        assert forwarder.stdout is not None
        forwarder.stdout.readline()  # it is ready
        # the generator begins before and ends after the forwarder's own interval
        with _started(lab.name("peer"), "generator", direction, size, seconds + 0.6, sessions) as generator:
            outputs = [process.communicate()[0] for process in (forwarder, generator)]
    run, sent = (msgspec.json.decode(text.strip().splitlines()[-1], type=Measured) for text in outputs)
    return run, sent


def _started(
    namespace: str, role: str, direction: str, size: int, seconds: float, sessions: int
) -> "subprocess.Popen[str]":
    size_text = "mixed" if size == MIXED else str(size)
    argv = [sys.executable, "-m", "holdfast.lab.bench_dataplane", "--role", role, "--direction", direction]
    argv += ["--sizes", size_text, "--seconds", str(seconds), "--sessions", str(sessions)]
    with entered(namespace):
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def _child(options: argparse.Namespace) -> None:
    generates = options.role == "generator"
    os.sched_setaffinity(
        0, {sorted(os.sched_getaffinity(0))[_GENERATOR_CORE if generates else _FORWARDER_CORE]}
    )
    if generates:
        measured = _generate(options.direction, options.sizes[0], options.seconds, options.sessions)
    else:
        measured = _forward(options.role, options.direction, options.seconds, options.sessions)
    print(msgspec.json.encode(measured).decode())


def _forward(role: str, direction: str, seconds: float, sessions: int) -> Measured:
    """Run one forwarder for `seconds`, from the first packet that it sees."""
    entries = [_entry(i) for i in range(sessions)]
    tun = attach(TunSpec(name=DEVICE, routes=pool_routes([POOL])))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
    udp.bind((NODE, PORT))
    step = (_plane if role == "plane" else _bare)(direction, tun.fd, udp, entries)
    print("ready", flush=True)
    while not step():
        pass
    packets, cpu, start = 0, time.process_time(), time.monotonic()
    while (now := time.monotonic()) - start < seconds:
        packets += step()
    return Measured(packets, now - start, time.process_time() - cpu)


def _entry(i: int) -> Entry:
    return Entry(
        key=session_key(TUNNEL, i + 1),
        side=Side.LNS,
        local_tunnel=TUNNEL,
        local_session=i + 1,
        peer_tunnel=TUNNEL,
        peer_session=i + 1,
        peer=(PEER, PORT),
        address=_address(i),
    )


def _address(i: int) -> str:
    return f"100.64.{i // 250}.{i % 250 + 1}"


def _plane(direction: str, fd: int, udp: socket.socket, entries: Sequence[Entry]) -> Callable[[], int]:
    """The plane, as a daemon drives it; each step forwards what waits and says how much that was."""

    class Device:
        def __init__(self) -> None:
            self.fd = fd

        def set_mtu(self, mtu: int) -> None: ...
        def close(self) -> None: ...

    plane, inbox, port = TunPlane(Device(), udp), Inbox(), udp.fileno()
    plane.install(entries)
    forwarded = 0

    def count() -> int:
        nonlocal forwarded
        before, forwarded = (
            forwarded,
            sum(n for verdict, n in plane.verdicts().items() if verdict.name.endswith("_FORWARDED")),
        )
        return forwarded - before

    def up() -> int:
        for _ in range(_CHECK_EVERY // inbox.slots):
            inbox.read(port)
            plane.receive(inbox)
        return count()

    def down() -> int:
        plane.on_readable()
        return count()

    return up if direction == "up" else down


def _bare(direction: str, fd: int, udp: socket.socket, entries: Sequence[Entry]) -> Callable[[], int]:
    """The least that a loop in plain Python has to do: read, look the session up, check the source, send."""
    buffer = bytearray(2048)
    view = memoryview(buffer)
    receive, send, read, write = udp.recvfrom_into, udp.sendto, os.read, os.write
    sessions = {
        struct.pack(">HH", e.local_tunnel, e.local_session): (e.peer, socket.inet_aton(e.address))
        for e in entries
    }
    addresses = {socket.inet_aton(e.address): (e.peer, _head(e)) for e in entries}

    def up() -> int:
        count = 0
        with suppress(BlockingIOError):
            for _ in range(_CHECK_EVERY):
                size, source = receive(buffer)
                session = sessions.get(bytes(view[2:6]))
                if session is not None and session[0] == source and view[22:26] == session[1]:
                    write(fd, view[10:size])
                    count += 1
        return count

    def down() -> int:
        count = 0
        with suppress(BlockingIOError):
            for _ in range(_CHECK_EVERY):
                packet = read(fd, 2048)
                session = addresses.get(packet[16:20])
                if session is not None:
                    send(session[1] + packet, session[0])
                    count += 1
        return count

    return up if direction == "up" else down


def _head(entry: Entry) -> bytes:
    return data_header(entry.peer_tunnel, entry.peer_session) + frame(Protocol.IPV4, b"")


def _generate(direction: str, size: int, seconds: float, sessions: int) -> Measured:
    """Send as fast as possible for `seconds`, in bursts of one size that the kernel cuts into datagrams."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((PEER, PORT))
    bursts = [_burst(direction, i, size, sessions) for i in range(sessions)]
    if size == MIXED:
        Random(1).shuffle(bursts)
    packets, cpu, start = 0, time.process_time(), time.monotonic()
    while (now := time.monotonic()) - start < seconds:
        for data, segment, to in bursts:
            udp.sendmsg((data,), ((_SOL_UDP, _UDP_SEGMENT, segment),), 0, to)
            packets += len(data) // int.from_bytes(segment, sys.byteorder)
    return Measured(packets, now - start, time.process_time() - cpu)


def _burst(direction: str, i: int, size: int, sessions: int) -> tuple[bytes, bytes, tuple[str, int]]:
    """Datagrams of one size: of sessions i, i+1, … going up, to the address of session i going down."""
    inner = size or _MIX[i % len(_MIX)]
    count = _BURST if size != MIXED else _MIXED_BURST
    if direction == "down":
        length = inner - 28
        return bytes(length * count), struct.pack("=H", length), (_address(i), 9)
    core = socket.inet_aton(CORE)
    data = b"".join(
        _head(_entry(k % sessions))
        + ipv4.build(socket.inet_aton(_address(k % sessions)), core, 17, bytes(inner - ipv4.HEADER))
        for k in range(i, i + count)
    )
    return data, struct.pack("=H", len(data) // count), (NODE, PORT)


if __name__ == "__main__":
    sys.exit(main())
