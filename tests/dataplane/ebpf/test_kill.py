"""Packets through a plane whose process is killed, restarted and upgraded: none is lost, no total goes back.

The LAC and the core are sockets of this test, in namespaces of their own; the plane is a process of its own.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from threading import Event, Thread

import pytest

from dataplane.ebpf.rig import LOCAL, PEER, entry, reason
from holdfast.dataplane.ebpf.pins import remove
from holdfast.dataplane.ipv4 import build as build_ipv4
from holdfast.lab.bench.dataplane.place import set_gro
from holdfast.lab.netns import claim, entered, sysctl
from holdfast.lab.topology import CORE_ADDRESS, CORE_END, WIRE, Topology, build

REASON = reason()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

SESSIONS, SUBSCRIBER_PORT, CORE_PORT = 20, 5000, 7000
PAUSE_S = 0.0005
PLANE = """
import sys, time
from pathlib import Path
from dataplane.ebpf.rig import Rig, entries
from holdfast.dataplane.ebpf.shipped import shipped
programs = shipped()._replace(checksum=sys.argv[3])
plane, changes = Rig(Path(sys.argv[1]), ("wire", "core")).start(entries(20), programs=programs, mode=sys.argv[2])
totals = plane.all_counters().values()
print(len(changes.put), sum(c.up_packets for c in totals), sum(c.down_packets for c in totals), flush=True)
time.sleep(600)
"""


def inner(source: str, destination: str, ports: tuple[int, int], number: int) -> bytes:
    """An IPv4 UDP packet that carries a number."""
    payload = struct.pack(">HHHHQ", *ports, 16, 0, number)
    return build_ipv4(socket.inet_aton(source), socket.inet_aton(destination), socket.IPPROTO_UDP, payload)


@dataclass
class Stream:
    """One direction: what was sent, and which of it arrived."""

    sent: int = 0
    arrived: set[int] = field(default_factory=set)

    @property
    def lost(self) -> int:
        return self.sent - len(self.arrived)


class Traffic:
    """Both directions at once, from now until `end`."""

    def __init__(self, net: Topology) -> None:
        self.up, self.down = Stream(), Stream()
        self._ended = Event()
        with entered(net.lac):
            self._lac = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._lac.bind(PEER)
        with entered(net.core):
            self._core = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._core.bind((CORE_ADDRESS, CORE_PORT))
        self._threads = [Thread(target=self._send), Thread(target=self._receive)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        number = 0
        while not self._ended.wait(PAUSE_S):
            session = entry(1 + number % SESSIONS)
            packet = inner(session.address, CORE_ADDRESS, (SUBSCRIBER_PORT, CORE_PORT), number)
            head = struct.pack(">HHHI", 2, session.local_tunnel, session.local_session, 0xFF030021)
            self._lac.sendto(head + packet, LOCAL)
            self.up.sent += 1
            self._core.sendto(number.to_bytes(8, "big"), (session.address, SUBSCRIBER_PORT))
            self.down.sent += 1
            number += 1

    def _receive(self) -> None:
        while not self._ended.is_set() or self.up.lost or self.down.lost:
            ready = select([self._lac, self._core], [], [], 2)[0]
            if not ready and self._ended.is_set():
                return
            for sock in ready:
                data = sock.recv(2048)
                stream = self.up if sock is self._core else self.down
                stream.arrived.add(int.from_bytes(data[-8:], "big"))

    def wait_for(self, packets: int) -> None:
        """Until so many more have arrived in both directions."""
        up, down = len(self.up.arrived) + packets, len(self.down.arrived) + packets
        for _ in range(3000):
            if len(self.up.arrived) >= up and len(self.down.arrived) >= down:
                return
            self._ended.wait(0.01)
        raise AssertionError(f"nothing arrives: {self.up}, {self.down}")

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._lac.close()
        self._core.close()


class Plane:
    """The process that has the plane; `put`, `up` and `down` are what it said at its start."""

    def __init__(self, net: Topology, directory: Path, mode: str, checksum: str) -> None:
        path = os.pathsep.join(sys.path)
        with entered(net.lns):
            self._process = subprocess.Popen(
                [sys.executable, "-c", PLANE, str(directory), mode, checksum],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        assert self._process.stdout is not None
        self.put, self.up, self.down = map(int, self._process.stdout.readline().split())

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@contextmanager
def network() -> Iterator[Topology]:
    with claim() as lab:
        net = build(lab)
        sysctl(net.lac, {"ipv4/ip_forward": 0})
        for namespace, interface in ((net.lac, WIRE), (net.core, CORE_END)):
            with entered(namespace):
                set_gro(interface)
        yield net


@pytest.mark.parametrize("mode", ["tc", "xdp"])
def test_no_packet_is_lost_by_a_kill_a_restart_or_an_upgrade(mode: str, tmp_path: Path) -> None:
    with network() as net:
        plane = Plane(net, tmp_path, mode, "first")
        traffic = Traffic(net)
        try:
            assert plane.put == SESSIONS
            traffic.begin()
            traffic.wait_for(200)
            seen = plane
            for checksum in ("first", "second", "second"):
                plane.kill()
                traffic.wait_for(200)
                plane = Plane(net, tmp_path, mode, checksum)
                assert plane.put == 0
                assert plane.up >= seen.up + 200
                assert plane.down >= seen.down + 200
                seen = plane
                traffic.wait_for(200)
        finally:
            traffic.end()
            plane.kill()
            remove(str(tmp_path / "bpf"))
        assert (traffic.up.lost, traffic.down.lost) == (0, 0)
        assert traffic.up.sent > 1400
