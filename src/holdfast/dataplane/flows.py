"""The sessions of a plane in user space, and what a packet means to them: no I/O.

`from_peer` and `from_device` are the complete rules, written to be read; the fast paths of `tun` may only
shorten what they say. A `Flow` is one installed session: its entry taken apart for the speed of the fast
path.

Invariants: `by_ids` holds every flow once, under local tunnel id << 16 | local session id; an address leads
to the flow that claimed it last; packets of a flow move its counters only when they are forwarded.
"""

import socket
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from holdfast.core.errors import Malformed
from holdfast.dataplane import ipv4
from holdfast.dataplane.contract import CONTROL, Address, BadEntry, Entry, Punt, UnknownSession, Verdict
from holdfast.dataplane.inbox import source_word
from holdfast.dataplane.trace import Sink
from holdfast.records import Counters, Side, session_key
from holdfast.wire import header, ppp

NOBODY = -1
"""An address that no packet has."""


class Outbox:
    """The datagrams that wait for one peer, all but the last of `size` octets; `tun` sends them as one.

    `pieces` are heads and packets in turn. `largest_segment`: longer datagrams are known not to go in bursts.
    """

    __slots__ = ("largest_segment", "pieces", "size", "to")

    def __init__(self, to: Address) -> None:
        self.to = to
        self.size = 0
        self.largest_segment = 0xFFFF
        self.pieces: list[bytes] = []


class Flow:
    """One installed session. `source` and `destination` are what a packet from the peer must have: one is
    NOBODY.

    `head` is all that goes before an IP packet to the peer, "" if each packet needs its own (Length, Ns) or is traced:
    then it is no plain case.
    """

    __slots__ = ("address", "destination", "entry", "head", "ids", "mtu", "ns", "outbox", "peer_word",
                 "rx_bytes", "rx_packets", "source", "tx_bytes", "tx_packets")  # fmt: skip

    def __init__(self, entry: Entry, outbox: Outbox) -> None:
        """Raises BadEntry."""
        try:
            self.address = int.from_bytes(socket.inet_pton(socket.AF_INET, entry.address), "big")
            self.peer_word = source_word(entry.peer)
        except (OSError, OverflowError) as error:
            raise BadEntry(f"session {entry.key:#x}: {entry.address!r} or {entry.peer!r}: {error}") from error
        self.ids = entry.local_tunnel << 16 | entry.local_session
        check(entry)
        self.entry, self.outbox, self.mtu = entry, outbox, entry.mtu
        lns = entry.side is Side.LNS
        self.source, self.destination = (self.address, NOBODY) if lns else (NOBODY, self.address)
        self.be_traced(False)
        self.rx_packets = self.rx_bytes = self.tx_packets = self.tx_bytes = self.ns = 0

    def be_traced(self, traced: bool) -> None:
        """A traced session's packets go by the complete rules."""
        entry = self.entry
        self.head = b"" if traced or entry.with_length or entry.sequenced else _head(entry, 0, 0)

    def succeed(self, old: "Flow") -> None:
        """Go on counting where `old`, the same session by an earlier entry, stopped."""
        self.rx_packets, self.rx_bytes = old.rx_packets, old.rx_bytes
        self.tx_packets, self.tx_bytes, self.ns = old.tx_packets, old.tx_bytes, old.ns

    def resume(self, total: Counters) -> None:
        """Go on counting from there."""
        up, down = (total.up_packets, total.up_bytes), (total.down_packets, total.down_bytes)
        rx, tx = (up, down) if self.entry.side is Side.LNS else (down, up)
        (self.rx_packets, self.rx_bytes), (self.tx_packets, self.tx_bytes) = rx, tx

    def encapsulate(self, packet: bytes) -> bytes:
        """The data message for an IP packet; takes the next Ns of a sequenced session."""
        if self.head:
            return self.head + packet
        ns = self.ns
        self.ns = (ns + 1) & 0xFFFF
        return _head(self.entry, ns, len(packet)) + packet

    def counters(self) -> Counters:
        """Traffic so far; up is from the subscriber to the core on either side of the tunnel."""
        rx, tx = (self.rx_packets, self.rx_bytes), (self.tx_packets, self.tx_bytes)
        return Counters(*rx, *tx) if self.entry.side is Side.LNS else Counters(*tx, *rx)


def check(entry: Entry) -> None:
    """The numbers of an entry must fit together. Raises BadEntry."""
    if not (
        0 < entry.local_tunnel <= 0xFFFF
        and 0 < entry.local_session <= 0xFFFF
        and 0 < entry.peer_tunnel <= 0xFFFF
        and 0 < entry.peer_session <= 0xFFFF
    ):
        ids = (entry.local_tunnel, entry.local_session, entry.peer_tunnel, entry.peer_session)
        raise BadEntry(f"session {entry.key:#x}: ids {ids} are not of L2TPv2")
    if entry.key != session_key(entry.local_tunnel, entry.local_session):
        raise BadEntry(f"session {entry.key:#x}: the key is not of its ids")
    if entry.mtu < ipv4.MINIMUM_MTU:
        raise BadEntry(f"session {entry.key:#x}: MTU {entry.mtu} is below {ipv4.MINIMUM_MTU}")


def _head(entry: Entry, ns: int, size: int) -> bytes:
    """What precedes an IP packet of `size` octets: the L2TP data header and the start of the PPP frame."""
    frame = ppp.frame(ppp.Protocol.IPV4, b"", acfc=entry.acfc, pfc=entry.pfc)
    plain = (
        header.sequenced_data_header(entry.peer_tunnel, entry.peer_session, ns)
        if entry.sequenced
        else header.data_header(entry.peer_tunnel, entry.peer_session)
    )
    if not entry.with_length:
        return plain + frame
    flags = plain[0] << 8 | plain[1] | header.L
    return struct.pack(">HH", flags, len(plain) + 2 + len(frame) + size) + plain[2:] + frame


class Arrival(NamedTuple):
    """What became of a datagram: `packet` goes to the device, `punt` to the control plane."""

    verdict: Verdict
    flow: Flow | None = None
    packet: bytes = b""
    punt: Punt | None = None


class Departure(NamedTuple):
    """What became of a packet of the device: `datagrams` go to the flow's peer, `reply` back to the device."""

    verdict: Verdict
    flow: Flow | None = None
    datagrams: tuple[bytes, ...] = ()
    reply: bytes = b""


class Flows:
    """The installed sessions.

    `mss_clamp`: lower the MSS that SYNs announce to what the session carries, both ways. `icmp_source`: the
    address that "fragmentation needed" comes from, "" for the destination of the packet that was too big.

    `sinks` see the packets of traced sessions; from `earlier` sessions that are yet to come go on counting.
    """

    def __init__(self, *, mss_clamp: bool = False, icmp_source: str = "") -> None:
        self.mss_clamp, self.icmp_source = mss_clamp, icmp_source
        self.by_key: dict[int, Flow] = {}
        self.by_ids: dict[int, Flow] = {}
        self.by_destination: dict[int, Flow] = {}
        self.by_source: dict[int, Flow] = {}
        self.verdicts: list[int] = [0] * len(Verdict)
        self.sinks: dict[int, Sink] = {}
        self.earlier: dict[int, Counters] = {}
        self._outboxes: dict[Address, Outbox] = {}

    def install(self, entries: Iterable[Entry]) -> None:
        """Add or replace entries (DataPlane.install)."""
        for entry in entries:
            outbox = self._outboxes.get(entry.peer)
            if outbox is None:
                outbox = self._outboxes[entry.peer] = Outbox(entry.peer)
            old = self.by_key.get(entry.key)
            if old is not None and old.entry == entry:
                continue
            flow = self._make(entry, outbox)
            if old is not None:
                flow.succeed(old)
                self._forget_address(old)
            elif (total := self.earlier.pop(entry.key, None)) is not None:
                flow.resume(total)
            if entry.key in self.sinks:
                flow.be_traced(True)
            self.by_key[entry.key] = self.by_ids[flow.ids] = flow
            self._by_address(flow)[flow.address] = flow

    def _make(self, entry: Entry, outbox: Outbox) -> Flow:
        """A flow for an entry. Raises BadEntry."""
        return Flow(entry, outbox)

    def trace(self, key: int, sink: Sink | None) -> None:
        """Show a session's packets, or no longer (DataPlane.trace)."""
        if sink is not None:
            self.sinks[key] = sink
        elif self.sinks.pop(key, None) is None:
            return
        flow = self.by_key.get(key)
        if flow is not None:
            flow.be_traced(sink is not None)

    def find(self, ids: int) -> Flow | None:
        """The flow of a data message: local tunnel id << 16 | local session id."""
        return self.by_ids.get(ids)

    def towards(self, source: int, destination: int) -> Flow | None:
        """The flow of a packet of the device, by its addresses."""
        return self.by_destination.get(destination) or self.by_source.get(source)

    def remove(self, keys: Iterable[int]) -> dict[int, Counters]:
        """Remove entries (DataPlane.remove)."""
        last: dict[int, Counters] = {}
        for key in keys:
            flow = self.by_key.pop(key, None)
            if flow is not None:
                del self.by_ids[flow.ids]
                self._forget_address(flow)
                last[key] = flow.counters()
        if not self.by_key:
            self._outboxes.clear()
        return last

    def _by_address(self, flow: Flow) -> dict[int, Flow]:
        return self.by_destination if flow.entry.side is Side.LNS else self.by_source

    def _forget_address(self, flow: Flow) -> None:
        by_address = self._by_address(flow)
        if by_address.get(flow.address) is flow:  # a younger session may have claimed it
            del by_address[flow.address]

    def enumerate(self) -> Mapping[int, Entry]:
        """What is installed (DataPlane.enumerate)."""
        return {key: flow.entry for key, flow in self.by_key.items()}

    def counters(self, key: int) -> Counters:
        """One session's traffic (DataPlane.counters). Raises UnknownSession."""
        flow = self.by_key.get(key)
        if flow is None:
            raise UnknownSession(f"session {key:#x} is not installed")
        return flow.counters()

    def all_counters(self) -> dict[int, Counters]:
        """Every session's traffic (DataPlane.all_counters)."""
        return {key: flow.counters() for key, flow in self.by_key.items()}

    def totals(self) -> Mapping[Verdict, int]:
        """Packets by verdict (DataPlane.verdicts)."""
        return {verdict: self.verdicts[verdict] for verdict in Verdict}

    def from_peer(self, data: bytes, source: Address) -> Arrival:
        """What to do with a datagram. Counts nothing: the caller knows whether the device took the packet."""
        if header.is_control(data):
            return Arrival(Verdict.RX_CONTROL, punt=(CONTROL, data, source))
        try:
            tunnel_id, session_id, start, end, _ = header.parse_data(data)
            frame = data[start:end]
            protocol, at = ppp.split(frame)
        except Malformed:
            return Arrival(Verdict.RX_MALFORMED)
        flow = self.find(tunnel_id << 16 | session_id)
        if flow is not None and flow.entry.peer != source:
            return Arrival(Verdict.RX_WRONG_PEER)
        if protocol != ppp.Protocol.IPV4:
            return Arrival(Verdict.RX_PPP, flow, punt=(session_key(tunnel_id, session_id), frame, source))
        if flow is None:
            return Arrival(Verdict.RX_NO_SESSION)
        packet = frame[at:]
        total = ipv4.total_length(packet)
        if not total:
            return Arrival(Verdict.RX_MALFORMED)
        inner_source, inner_destination = _addresses(packet)
        if inner_source != flow.source and inner_destination != flow.destination:
            return Arrival(Verdict.RX_SPOOFED)
        packet = packet[:total]
        return Arrival(
            Verdict.RX_FORWARDED, flow, ipv4.clamp_mss(packet, flow.mtu) if self.mss_clamp else packet
        )

    def from_device(self, packet: bytes) -> Departure:
        """What to do with a packet that the kernel routed to the device. Counts nothing, but may take an Ns."""
        total = ipv4.total_length(packet)
        if not total:
            return Departure(Verdict.TX_NOT_IPV4)
        packet = packet[:total]
        flow = self.towards(*_addresses(packet))
        if flow is None:
            return Departure(Verdict.TX_NO_SESSION)
        if total > flow.mtu and ipv4.dont_fragment(packet):
            reply = ipv4.fragmentation_needed(packet, flow.mtu, self.icmp_source)
            return Departure(Verdict.TX_TOO_BIG, flow, reply=reply or b"")
        if self.mss_clamp:
            packet = ipv4.clamp_mss(packet, flow.mtu)
        pieces = ipv4.fragments(packet, flow.mtu)
        return Departure(Verdict.TX_FORWARDED, flow, tuple(flow.encapsulate(piece) for piece in pieces))


def _addresses(packet: bytes) -> tuple[int, int]:
    return int.from_bytes(packet[12:16], "big"), int.from_bytes(packet[16:20], "big")
