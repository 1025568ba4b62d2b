"""The plane in user space: a TUN device on one side, the daemon's UDP socket on the other. IPv4.

It works everywhere and stops while the daemon is dead; the device and its routes stay (see `tundev`).

Speed comes from four things: datagrams are received by the batch (see `inbox`); a plain packet costs one
`unpack` and one dictionary lookup; the header of a session is made once; and datagrams of one size for one
peer leave in one system call and cross the network stack as one (UDP_SEGMENT, Linux 4.18), falling back to
one by one where the kernel or the path does not take it. The fast paths know the plain case only. Whatever
differs, in the least, goes to `Flows.from_peer` and `Flows.from_device`.

Invariants: packets of one peer leave in the order in which they came; one call handles a bounded number of
packets; no error of the device or the socket escapes, each is the verdict of the packet that met it.
"""

import os
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from errno import EAGAIN, EINVAL, EIO, EMSGSIZE, ENOBUFS
from typing import Any, Protocol

from holdfast.core.errors import LocalError
from holdfast.dataplane import ipv4
from holdfast.dataplane.contract import CONTROL, Address, DeviceLost, Entry, Punt, Verdict
from holdfast.dataplane.flows import Flow, Flows, Outbox
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.trace import HEADERS, NOWHERE, Seen, claimed_session, outer
from holdfast.dataplane.userspace import UserspacePlane
from holdfast.records import Counters, session_key
from holdfast.wire.header import DATA, DATA_LENGTH, T

BATCH = 64
BATCHES_PER_CALL = 4  # 256 packets are at most 2 ms or so: control messages wait no longer than that

_PLAIN = 10  # octets before the IP packet in the plain case: data header without options, FF 03 00 21
_IPV4_FRAME = 0xFF030021
_FRAME, _TWO_OCTETS = 0xFF030000, 0xFFFF0100  # FF 03 and a protocol that is not compressed to one octet
_NO_OPTIONS = 0x45
_TCP_FLAGS = _PLAIN + 33  # where they are if this is TCP; to take other packets for a SYN costs only time

_SOL_UDP, _UDP_SEGMENT = 17, 103
_MAX_SEGMENTS = 64
_MAX_BURST = 65_000  # octets of one UDP_SEGMENT send: one IP packet, in the kernel's eyes

# L2TP flags, both ids, the PPP framing, then of the IP header: version and header length, total, both addresses
_plain_datagram = struct.Struct(">HIIBxH8xII").unpack_from
_plain_packet = struct.Struct(">BxH8xII").unpack_from
_segment = struct.Struct("=H").pack

_CONGESTED = frozenset({EAGAIN, ENOBUFS})
_NOT_IN_BURSTS = frozenset({EINVAL, EMSGSIZE, EIO})  # no such option, larger than the path's MTU, IPsec


class Socket(Protocol):
    """What the plane needs of the daemon's UDP socket: unconnected, not blocking."""

    def sendto(self, data: bytes, address: Address, /) -> int: ...
    def sendmsg(
        self,
        buffers: Iterable[bytes],
        ancdata: Iterable[tuple[int, int, Any]],
        flags: int,
        address: Address,
        /,
    ) -> int: ...


class Device(Protocol):
    """What the plane needs of the TUN device (`tundev.Tun`)."""

    fd: int

    def set_mtu(self, mtu: int) -> None: ...
    def close(self) -> None: ...


class DeviceMtu:
    """The device's MTU: the lowest that a session asks for, between `lowest` and `highest`.

    A session with a smaller MRU than `lowest` must not shrink everybody's packets; its own are fragmented or answered
    with ICMP.
    """

    def __init__(self, highest: int, lowest: int) -> None:
        self.highest, self.lowest = highest, lowest
        self._in_force = highest
        self._sessions: dict[int, int] = {}

    def change(self, old: int, new: int) -> None:
        """A session asks for `new` instead of `old`; 0 stands for no session."""
        if old == new:
            return
        sessions = self._sessions
        if new:
            sessions[new] = sessions.get(new, 0) + 1
        if old:
            sessions[old] -= 1
            if not sessions[old]:
                del sessions[old]

    def count(self, sessions: Mapping[int, int]) -> None:
        """So many sessions ask for each of these."""
        for mtu, number in sessions.items():
            self._sessions[mtu] = self._sessions.get(mtu, 0) + number

    def adjust(self, device: Device, *, new: bool = False) -> None:
        """Give the device the MTU that it should have. A `new` one has the highest."""
        if new:
            self._in_force = self.highest
        mtu = min(self.highest, max(min(self._sessions, default=self.highest), self.lowest))
        if mtu != self._in_force:
            with suppress(LocalError):  # a device that is lost, or not ours to change: ICMP tells instead
                device.set_mtu(mtu)
                self._in_force = mtu


class TunPlane(UserspacePlane):
    """Forwards between a TUN device and a UDP socket.

    `mtu` and `lowest_mtu` bound the device's MTU (see `DeviceMtu`). `flows`: sessions of another plane, which only
    finishes here what it cannot do itself; it counts their MTUs too.
    """

    def __init__(
        self,
        device: Device,
        socket: Socket,
        *,
        mtu: int = 1460,
        lowest_mtu: int = 1280,
        mss_clamp: bool = False,
        icmp_source: str = "",
        flows: Flows | None = None,
    ) -> None:
        super().__init__(Flows(mss_clamp=mss_clamp, icmp_source=icmp_source) if flows is None else flows)
        self._device, self._socket = device, socket
        self.mtu = DeviceMtu(mtu, lowest_mtu)
        self._read_size = max(2048, mtu)

    def install(self, entries: Iterable[Entry]) -> None:
        """Add or replace entries (DataPlane.install), and make the device's MTU the lowest in force."""
        by_key = self._flows.by_key
        try:
            for entry in entries:
                old = by_key.get(entry.key)
                old_mtu = old.mtu if old is not None else 0
                self._flows.install((entry,))
                self.mtu.change(old_mtu, entry.mtu)
        finally:
            self.mtu.adjust(self._device)

    def remove(self, keys: Iterable[int]) -> dict[int, Counters]:
        """Remove entries (DataPlane.remove)."""
        removed: dict[int, Counters] = {}
        for key in keys:
            self._flows.sinks.pop(key, None)
            flow = self._flows.by_key.get(key)
            if flow is not None:
                self.mtu.change(flow.mtu, 0)
                removed.update(self._flows.remove((key,)))
        self.mtu.adjust(self._device)
        return removed

    def change_device(self, device: Device) -> None:
        """Go on with another device, of the MTU that this plane was made with, after `DeviceLost`."""
        self._device.close()
        self._device = device
        self.mtu.adjust(device, new=True)

    def describe(self) -> str:
        """For people (DataPlane.describe)."""
        return "tun"

    def fileno(self) -> int:
        """The TUN device's descriptor."""
        return self._device.fd

    def close(self) -> None:
        """Let go of the device (DataPlane.close)."""
        self._flows.remove(list(self._flows.by_key))
        self._device.close()

    def receive(self, inbox: Inbox) -> Sequence[Punt]:
        """Forward what `inbox` holds to the device (DataPlane.receive)."""
        punts: list[Punt] = []
        flows = self._flows
        if flows.sinks:
            self._show_arrivals(inbox)
        by_ids, clamp, write, fd = flows.by_ids, flows.mss_clamp, os.write, self._device.fd
        buffer, view, slot_size = inbox.buffer, inbox.view, inbox.slot_size
        starts, sources = inbox.starts, inbox.sources
        forwarded = 0
        for i, length in enumerate(inbox.lengths):
            start = starts[i]
            flags, ids, framing, version, total, inner_source, inner_to = _plain_datagram(buffer, start)
            flow = by_ids.get(ids)
            if (
                flow is None
                or flags != DATA
                or framing != _IPV4_FRAME
                or version != _NO_OPTIONS
                or flow.peer_word != sources[i]
                or (inner_source != flow.source and inner_to != flow.destination)
                or not ipv4.HEADER <= total <= length - _PLAIN
                or length > slot_size
                or (clamp and buffer[start + _TCP_FLAGS] & ipv4.SYN)
            ):
                if not self._punt_plain(inbox, i, flags, ids, framing, punts):
                    self._receive_unusual(inbox, i, punts)
                continue
            try:
                write(fd, view[start + _PLAIN : start + _PLAIN + total])
            except OSError:
                flows.verdicts[Verdict.RX_REFUSED] += 1
                continue
            flow.rx_packets += 1
            flow.rx_bytes += total
            forwarded += 1
        flows.verdicts[Verdict.RX_FORWARDED] += forwarded
        return punts

    def _punt_plain(
        self, inbox: Inbox, i: int, flags: int, ids: int, framing: int, punts: list[Punt]
    ) -> bool:
        """Hand control messages and plainly framed PPP, the load of a storm of set-ups, to the control plane.

        False if the datagram is anything else: then the complete rules decide.
        """
        length = inbox.lengths[i]
        if not _PLAIN <= length <= inbox.slot_size:
            return False
        start = inbox.starts[i]
        if flags & T:
            punts.append((CONTROL, bytes(inbox.view[start : start + length]), inbox.source(i)))
            self._flows.verdicts[Verdict.RX_CONTROL] += 1
            return True
        if flags != DATA or framing & _TWO_OCTETS != _FRAME or framing == _IPV4_FRAME:
            return False
        tunnel_id, session_id = ids >> 16, ids & 0xFFFF
        flow = self._flows.find(ids)
        if not (tunnel_id and session_id) or (flow is not None and flow.peer_word != inbox.sources[i]):
            return False
        frame = bytes(inbox.view[start + DATA_LENGTH : start + length])
        punts.append((session_key(tunnel_id, session_id), frame, inbox.source(i)))
        self._flows.verdicts[Verdict.RX_PPP] += 1
        return True

    def _receive_unusual(self, inbox: Inbox, i: int, punts: list[Punt]) -> None:
        """A datagram that is not the plain case, by the complete rules."""
        verdicts = self._flows.verdicts
        if inbox.lengths[i] > inbox.slot_size:
            verdicts[Verdict.RX_MALFORMED] += 1
            return
        verdict, flow, packet, punt = self._flows.from_peer(inbox.datagram(i), inbox.source(i))
        if punt is not None:
            punts.append(punt)
        elif packet and not self._to_device(packet):
            verdict = Verdict.RX_REFUSED
        elif packet and flow is not None:
            flow.rx_packets += 1
            flow.rx_bytes += len(packet)
        verdicts[verdict] += 1

    def _show_arrivals(self, inbox: Inbox) -> None:
        """Show those of traced sessions, from their peers, whatever becomes of them."""
        for i in range(inbox.count):
            datagram = inbox.datagram(i)
            key = claimed_session(datagram)
            sink = self._flows.sinks.get(key)
            if sink is None:
                continue
            flow = self._flows.find((key >> 16 & 0xFFFF0000) | (key & 0xFFFF))
            if flow is None or flow.peer_word == inbox.sources[i]:
                local = flow.entry.local if flow is not None else NOWHERE
                packet = outer(datagram, inbox.source(i), local)
                sink(Seen(key, time.time_ns(), False, HEADERS + inbox.lengths[i], packet))

    def _show_departures(self, flow: Flow, datagrams: Iterable[bytes]) -> None:
        sink = self._flows.sinks.get(flow.entry.key)
        if sink is not None:
            for datagram in datagrams:
                packet = outer(datagram, flow.entry.local, flow.entry.peer)
                sink(Seen(flow.entry.key, time.time_ns(), True, len(packet), packet))

    def _to_device(self, packet: bytes) -> bool:
        try:
            os.write(self._device.fd, packet)
        except OSError:
            return False
        return True

    def on_readable(self) -> None:
        """Forward what waits on the device (DataPlane.on_readable). Raises DeviceLost."""
        for _ in range(BATCHES_PER_CALL):
            if self._forward_batch() < BATCH:
                return

    def _forward_batch(self) -> int:
        """Forward up to a batch of packets from the device to peers; returns how many there were."""
        flows = self._flows
        by_destination, by_source, clamp = flows.by_destination, flows.by_source, flows.mss_clamp
        read, fd, most = os.read, self._device.fd, self._read_size
        busy: list[Outbox] = []
        count = forwarded = 0
        try:
            while count < BATCH:
                packet = read(fd, most)
                count += 1
                size = len(packet)
                if size < ipv4.HEADER:
                    self._forward_unusual(packet)
                    continue
                version, total, source, destination = _plain_packet(packet)
                flow = by_destination.get(destination) or by_source.get(source)
                if (
                    flow is None
                    or version != _NO_OPTIONS
                    or size != total
                    or size > flow.mtu
                    or not flow.head
                    or (clamp and ipv4.is_syn(packet))
                ):
                    self._forward_unusual(packet)
                    continue
                head, outbox = flow.head, flow.outbox
                length = len(head) + size
                if length > outbox.size:  # the first of a burst, or too long for the one that waits
                    if outbox.pieces:
                        self._send(outbox)
                    else:
                        busy.append(outbox)
                    outbox.size = length
                outbox.pieces += (head, packet)
                flow.tx_packets += 1
                flow.tx_bytes += size
                forwarded += 1
                if length < outbox.size:  # only the last of a burst may be shorter
                    self._send(outbox)
        except BlockingIOError:
            pass
        except OSError as error:
            raise DeviceLost(f"the TUN device cannot be read: {error.strerror}") from error
        finally:
            flows.verdicts[Verdict.TX_FORWARDED] += forwarded
            for outbox in busy:
                if outbox.pieces:
                    self._send(outbox)
        return count

    def _forward_unusual(self, packet: bytes) -> None:
        """A packet that is not the plain case, by the complete rules."""
        verdict, flow, datagrams, reply = self._flows.from_device(packet)
        if reply:
            self._to_device(reply)
        if flow is not None and datagrams:
            if flow.outbox.pieces:
                self._send(flow.outbox)
            sent = [self._send_one(datagram, flow.outbox.to) for datagram in datagrams]
            if self._flows.sinks:
                self._show_departures(flow, datagrams)
            if all(sent):
                flow.tx_packets += 1
                flow.tx_bytes += len(packet)
            else:
                verdict = Verdict.TX_REFUSED
        self._flows.verdicts[verdict] += 1

    def _send(self, outbox: Outbox) -> None:
        """Send what waits for a peer, in bursts if there is more than one, and leave the outbox empty."""
        pieces, size = outbox.pieces, outbox.size
        outbox.pieces, outbox.size = [], 0
        if len(pieces) == 2:
            self._send_singly(pieces, outbox.to)
            return
        step = 2 * min(_MAX_SEGMENTS, _MAX_BURST // size)
        for at in range(0, len(pieces), step):
            self._send_burst(pieces[at : at + step], size, outbox)

    def _send_burst(self, pieces: list[bytes], size: int, outbox: Outbox) -> None:
        """Send datagrams (heads and packets in turn) of `size` octets, the last perhaps shorter, with one
        call.
        """
        if size > outbox.largest_segment:
            self._send_singly(pieces, outbox.to)
            return
        try:
            self._socket.sendmsg(
                (b"".join(pieces),), ((_SOL_UDP, _UDP_SEGMENT, _segment(size)),), 0, outbox.to
            )
        except OSError as error:
            if error.errno in _CONGESTED:
                for packet in pieces[1::2]:
                    self._take_back(packet)
                return
            if error.errno in _NOT_IN_BURSTS:
                outbox.largest_segment = size - 1
            self._send_singly(pieces, outbox.to)

    def _send_singly(self, pieces: list[bytes], to: Address) -> None:
        for head, packet in zip(pieces[::2], pieces[1::2], strict=True):
            if not self._send_one(head + packet, to):
                self._take_back(packet)

    def _send_one(self, datagram: bytes, to: Address) -> bool:
        try:
            self._socket.sendto(datagram, to)
        except OSError:
            return False
        return True

    def _take_back(self, packet: bytes) -> None:
        """A packet that was counted as forwarded was not taken by the socket after all."""
        flows = self._flows
        _, _, source, destination = _plain_packet(packet)
        flow = flows.by_destination.get(destination) or flows.by_source.get(source)
        if flow is not None:
            flow.tx_packets -= 1
            flow.tx_bytes -= len(packet)
        flows.verdicts[Verdict.TX_FORWARDED] -= 1
        flows.verdicts[Verdict.TX_REFUSED] += 1
