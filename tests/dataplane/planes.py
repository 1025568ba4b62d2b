"""The planes under test behind one small face: put something in, see all that came out. No root needed."""

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dataplane.cases import FromDevice, FromPeer
from holdfast.dataplane.contract import Address, DataPlane, Punt
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.null import NullPlane
from holdfast.dataplane.tun import TunPlane

Sent = tuple[bytes, Address]


@dataclass
class Out:
    """All that came out of a plane."""

    to_device: tuple[bytes, ...] = ()
    to_peer: tuple[Sent, ...] = ()
    punted: tuple[Punt, ...] = ()


class Bench(Protocol):
    """A plane and both its ends."""

    plane: DataPlane

    def inject(self, *arrivals: FromPeer | FromDevice) -> Out: ...
    def close(self) -> None: ...


class NullBench:
    """The null plane: what would have gone out is what it says."""

    def __init__(self, **options: Any) -> None:
        self.null = NullPlane(**options)
        self.plane: DataPlane = self.null

    def inject(self, *arrivals: FromPeer | FromDevice) -> Out:
        out = Out()
        for arrives in arrivals:
            if isinstance(arrives, FromDevice):
                departure = self.null.depart(arrives.packet)
                out.to_device += (departure.reply,) if departure.reply else ()
                peer = departure.flow.entry.peer if departure.flow else ("", 0)
                out.to_peer += tuple((datagram, peer) for datagram in departure.datagrams)
            else:
                arrival = self.null.arrive(arrives.data, arrives.source)
                out.to_device += (arrival.packet,) if arrival.packet else ()
                out.punted += (arrival.punt,) if arrival.punt else ()
        return out

    def close(self) -> None:
        self.plane.close()


@dataclass
class FakeSocket:
    """A UDP socket that keeps what is sent, taking UDP_SEGMENT sends apart as the kernel does.

    `fail` names the errno of each send to come, 0 for none; `calls` counts the sends that were tried.
    """

    sent: list[Sent] = field(default_factory=list)
    fail: list[int] = field(default_factory=list)
    calls: int = 0

    def _maybe_fail(self) -> None:
        self.calls += 1
        code = self.fail.pop(0) if self.fail else 0
        if code:
            raise OSError(code, errno.errorcode[code])

    def sendto(self, data: bytes, address: Address, /) -> int:
        self._maybe_fail()
        self.sent.append((data, address))
        return len(data)

    def sendmsg(
        self,
        buffers: Iterable[bytes],
        ancdata: Iterable[tuple[int, int, Any]],
        flags: int,
        address: Address,
        /,
    ) -> int:
        self._maybe_fail()
        data = b"".join(buffers)
        ((level, kind, value),) = ancdata
        size = int.from_bytes(value, "little")
        assert (level, kind) == (17, 103)
        assert 0 < size < len(data) <= 65507 and len(data) <= 64 * size, "the kernel would not take this"
        self.sent += [(data[at : at + size], address) for at in range(0, len(data), size)]
        return len(data)


class FakeDevice:
    """A datagram socket pair in the device's place: one packet per read and write, as TUN does."""

    def __init__(self) -> None:
        self.kernel, self._plane = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.kernel, self._plane):
            end.setblocking(False)
        self.fd = self._plane.fileno()
        self.mtus: list[int] = []

    def set_mtu(self, mtu: int) -> None:
        self.mtus.append(mtu)

    def close(self) -> None:
        self.kernel.close()
        self._plane.close()

    def drain(self) -> tuple[bytes, ...]:
        """What the plane wrote."""
        packets = []
        while True:
            try:
                packets.append(os.read(self.kernel.fileno(), 65535))
            except BlockingIOError:
                return tuple(packets)


class TunBench:
    """The TUN plane between a fake device and a fake socket."""

    def __init__(self, **options: Any) -> None:
        self.device, self.socket = FakeDevice(), FakeSocket()
        self.plane: DataPlane = TunPlane(self.device, self.socket, **options)
        self.inbox = Inbox()

    def inject(self, *arrivals: FromPeer | FromDevice) -> Out:
        self.socket.sent.clear()
        for arrives in arrivals:
            if isinstance(arrives, FromDevice):
                self.device.kernel.send(arrives.packet)
        self.plane.on_readable()
        self.inbox.fill((a.data, a.source) for a in arrivals if isinstance(a, FromPeer))
        punted = tuple(self.plane.receive(self.inbox))
        return Out(self.device.drain(), tuple(self.socket.sent), punted)

    def close(self) -> None:
        self.plane.close()
