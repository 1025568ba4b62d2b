"""The eBPF plane on the bench of the contract: its programs run frame by frame, and the daemon finishes what they pass.

What they hand to the kernel for good (decapsulated packets) is what a device would get; what they decline on the way
down goes where the kernel would route it, to the TUN device. The maps are pinned once and adopted by each plane anew.
"""

from collections.abc import Mapping
from pathlib import Path
from socket import inet_ntoa
from typing import Any, cast

from dataplane.cases import NODE, PEER, FromDevice, FromPeer
from dataplane.planes import FakeDevice, FakeSocket, Out, Sent
from dataplane.programs import (
    CORE_FAR_MAC,
    CORE_MAC,
    IPV4,
    LAC_FAR_MAC,
    LAC_MAC,
    LONG_MS,
    SLOTS,
    STRANGER_MAC,
    Action,
    Bench,
    Hook,
    ethernet,
    one_hop_less,
    udp,
)
from holdfast.dataplane.contract import DataPlane
from holdfast.dataplane.ebpf import syscall
from holdfast.dataplane.ebpf.abi import Reason
from holdfast.dataplane.ebpf.links import Attached
from holdfast.dataplane.ebpf.pins import open_pins
from holdfast.dataplane.ebpf.plane import EbpfPlane
from holdfast.dataplane.ebpf.service import Service
from holdfast.dataplane.ebpf.shipped import shipped
from holdfast.dataplane.inbox import Inbox


class Unattached:
    """A service without interfaces: frames come by test runs."""

    attached: Mapping[str, Attached] = {}

    def begin(self) -> None: ...

    def tend(self) -> None: ...


class EbpfBench:
    """The eBPF plane between its programs, a fake device and a fake socket, in the namespace of `programs.ground`."""

    def __init__(self, directory: Path, hook: Hook, **options: Any) -> None:
        self.hook = hook
        pins = open_pins(str(directory / "bpf"), shipped(), SLOTS, lambda news: None)
        self.device, self.socket = FakeDevice(), FakeSocket()
        self.ebpf = EbpfPlane(
            pins, self.device, self.socket, cast(Service, Unattached()), lambda news: None, **options
        )
        self.plane: DataPlane = self.ebpf
        self.ebpf.begin()
        self.programs = Bench(pins.maps, pins.programs)
        self.programs.configure(flow_life_ms=LONG_MS)  # so that only the plane makes the programs forget
        for reason in Reason:
            zero = bytes(8 * self.programs.cpus)
            syscall.update(pins.maps["reasons"], reason.to_bytes(4, "little"), zero)
        self.inbox = Inbox()

    def takes(self, arrives: FromPeer | FromDevice) -> bool:
        """Whether it can be put in."""
        return self.hook is Hook.XDP or isinstance(arrives, FromPeer) or len(arrives.packet) >= 20

    def inject(self, *arrivals: FromPeer | FromDevice) -> Out:
        out = Out()
        for arrives in arrivals:
            self.socket.sent.clear()
            if isinstance(arrives, FromPeer):
                self._from_peer(arrives, out)
            else:
                self._from_core(arrives.packet, out)
            out.to_device += self.device.drain()
            out.to_peer += tuple(self.socket.sent)
        return out

    def _from_peer(self, arrives: FromPeer, out: Out) -> None:
        link = LAC_FAR_MAC if arrives.source[0] == PEER[0] else STRANGER_MAC
        frame = ethernet(LAC_MAC, link, IPV4, udp(arrives.source, NODE, arrives.data))
        action, done = self.programs.feed(self.hook, "lac", frame)
        if action is Action.SENT:
            assert done.data[:14] == CORE_FAR_MAC + CORE_MAC + IPV4
            out.to_device += (one_hop_less(done.data[14:]),)
        elif action is Action.PASS and done.data != frame:
            assert done.data[:14] == frame[:14]
            out.to_device += (done.data[14:],)
        elif action is Action.PASS:
            self.inbox.fill([(arrives.data, arrives.source)])
            out.punted += tuple(self.plane.receive(self.inbox))

    def _from_core(self, packet: bytes, out: Out) -> None:
        frame = ethernet(CORE_MAC, CORE_FAR_MAC, IPV4, packet)
        action, done = self.programs.feed(self.hook, "core", frame)
        if action is Action.SENT:
            out.to_peer += (_datagram(done.data, packet),)
        else:
            assert (action, done.data) == (Action.PASS, frame)
            self.device.kernel.send(packet)
            self.plane.on_readable()

    def close(self) -> None:
        self.plane.remove(list(self.plane.enumerate()))
        self.plane.close()
        self.device.close()


def _datagram(frame: bytes, packet: bytes) -> Sent:
    """What a frame to a peer carries, the inner packet as it was one hop before; the headers must be right."""
    peer = (inet_ntoa(frame[30:34]), int.from_bytes(frame[36:38], "big"))
    data = frame[42:]
    link = LAC_FAR_MAC if peer[0] == PEER[0] else STRANGER_MAC
    assert frame == ethernet(link, LAC_MAC, IPV4, udp(NODE, peer, data))
    at = len(data) - int.from_bytes(packet[2:4], "big")
    return data[:at] + one_hop_less(data[at:]), peer
