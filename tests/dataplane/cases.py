"""Packet cases as data: entries, what arrives, and the verdict, bytes out and counters that must follow.

Each case starts from empty tables and holds on every plane. Bytes are written out here, not made by the code under
test: only the IP header's checksum is computed, by the few lines below.
"""

import struct
from dataclasses import dataclass, field, replace
from socket import inet_aton
from typing import Any

from msgspec import structs

from holdfast.dataplane.contract import CONTROL, Address, Entry, Punt, Verdict
from holdfast.records import Counters, Side, session_key

NODE: Address = ("192.0.2.2", 1701)
PEER: Address = ("192.0.2.1", 1701)
STRANGER: Address = ("192.0.2.9", 1701)
SUBSCRIBER, CORE, OTHER = "100.64.0.7", "198.51.100.1", "100.64.0.8"


@dataclass(frozen=True)
class FromPeer:
    """A datagram on the UDP socket."""

    data: bytes
    source: Address = PEER


@dataclass(frozen=True)
class FromDevice:
    """A packet that the kernel routed to the device."""

    packet: bytes


@dataclass(frozen=True)
class Case:
    """`to_device` and `to_peer` are all that may come out; `counters` all sessions whose counters are not zero."""

    name: str
    entries: tuple[Entry, ...]
    arrives: FromPeer | FromDevice
    verdict: Verdict
    to_device: tuple[bytes, ...] = ()
    to_peer: tuple[tuple[bytes, Address], ...] = ()
    punted: tuple[Punt, ...] = ()
    counters: dict[int, Counters] = field(default_factory=dict)
    mss_clamp: bool = False
    icmp_source: str = ""


def entry(side: Side = Side.LNS, *, address: str = SUBSCRIBER, session: int = 3, **changes: object) -> Entry:
    """A session: ours 7/`session`, the peer's 0x0102/0x0304."""
    plain = Entry(
        key=session_key(7, session),
        side=side,
        local_tunnel=7,
        local_session=session,
        peer_tunnel=0x0102,
        peer_session=0x0304,
        peer=PEER,
        address=address,
        local=NODE,
    )
    return structs.replace(plain, **changes)


def sum16(data: bytes) -> int:
    """RFC 1071, the slow way."""
    total = sum(data[i] << 8 | data[i + 1] for i in range(0, len(data) - 1, 2)) + (data[-1] << 8) * (
        len(data) % 2
    )
    while total > 0xFFFF:
        total = total // 0x10000 + total % 0x10000
    return 0xFFFF - total


def packet(
    source: str = SUBSCRIBER,
    destination: str = CORE,
    *,
    payload: bytes = b"payload!",
    protocol: int = 17,
    options: bytes = b"",
    identification: int = 0,
    fragment: int = 0,
) -> bytes:
    """An IPv4 packet; `fragment` is the word of flags and offset."""
    words = 5 + len(options) // 4
    length = 4 * words + len(payload)
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, length, identification, fragment, 64, protocol, 0)
    head += inet_aton(source) + inet_aton(destination) + options
    return head[:10] + struct.pack(">H", sum16(head)) + head[12:] + payload


def with_ttl(data: bytes, ttl: int) -> bytes:
    """The packet with another TTL or hop limit, and its checksum made anew."""
    if data[0] >> 4 == 6:
        return data[:7] + bytes((ttl,)) + data[8:]
    size = (data[0] & 15) * 4
    head = data[:8] + bytes((ttl, data[9], 0, 0)) + data[12:size]
    return head[:10] + struct.pack(">H", sum16(head)) + head[12:] + data[size:]


def tcp(flags: int, options: bytes) -> bytes:
    """A TCP header between ports 1 and 2, its checksum left to `with_tcp_checksum`."""
    return struct.pack(">HHIIBBHHH", 1, 2, 3, 4, (20 + len(options)) // 4 << 4, flags, 512, 0, 0) + options


def with_tcp_checksum(source: str, destination: str, segment: bytes) -> bytes:
    """The segment with its checksum over the pseudo header (RFC 793 3.1)."""
    pseudo = inet_aton(source) + inet_aton(destination) + struct.pack(">HH", 6, len(segment))
    return segment[:16] + struct.pack(">H", sum16(pseudo + segment)) + segment[18:]


def syn(source: str, destination: str, options: bytes) -> bytes:
    """A packet with a SYN that carries these options."""
    return packet(
        source, destination, protocol=6, payload=with_tcp_checksum(source, destination, tcp(2, options))
    )


def icmp_too_big(about: bytes, mtu: int, source: str, destination: str) -> bytes:
    """Destination unreachable, fragmentation needed (RFC 1191 4)."""
    message = struct.pack(">BBHHH", 3, 4, 0, 0, mtu) + about[:28]
    message = message[:2] + struct.pack(">H", sum16(message)) + message[4:]
    return packet(source, destination, protocol=1, payload=message)


LNS, LAC = entry(Side.LNS), entry(Side.LAC)
KEY = LNS.key
OURS = bytes.fromhex("0002 0007 0003")
THEIRS = bytes.fromhex("0002 0102 0304")
IP = bytes.fromhex("ff03 0021")
UP, DOWN = packet(SUBSCRIBER, CORE), packet(CORE, SUBSCRIBER)
SIZE = len(UP)
COUNTED_UP, COUNTED_DOWN = {KEY: Counters(1, SIZE, 0, 0)}, {KEY: Counters(0, 0, 1, SIZE)}
BIG = packet(CORE, SUBSCRIBER, payload=bytes(range(256)) * 5, fragment=0x4000)
BIG_CUTTABLE = packet(CORE, SUBSCRIBER, payload=bytes(range(256)) * 5, identification=9)
SMALL = entry(mtu=1000)
MSS_1460, MSS_1360 = bytes.fromhex("020405b4"), bytes.fromhex("02040550")


def up(name: str, data: bytes, *, out: bytes = UP, **changes: Any) -> Case:
    """A datagram that the LNS forwards as `out`."""
    counters = {KEY: Counters(1, len(out), 0, 0)}
    case = Case(name, (LNS,), FromPeer(data), Verdict.RX_FORWARDED, (out,), counters=counters)
    return replace(case, **changes)


def down(name: str, installed: Entry, data: bytes) -> Case:
    """The packet DOWN, forwarded as `data`."""
    to_peer = ((data, PEER),)
    return Case(
        name, (installed,), FromDevice(DOWN), Verdict.TX_FORWARDED, to_peer=to_peer, counters=COUNTED_DOWN
    )


def bad(name: str, data: bytes, verdict: Verdict = Verdict.RX_MALFORMED, source: Address = PEER) -> Case:
    """A datagram that the LNS drops."""
    return Case(name, (LNS,), FromPeer(data, source), verdict)


def punted(name: str, data: bytes, punt: Punt, verdict: Verdict = Verdict.RX_PPP) -> Case:
    """A datagram that the LNS hands to its control plane."""
    return Case(name, (LNS,), FromPeer(data, punt[2]), verdict, punted=(punt,))


NESTED = packet(
    SUBSCRIBER,
    NODE[0],
    payload=bytes.fromhex("06a5 06a5 002e 0000 0002 0007 0004") + IP + packet(OTHER, CORE),
)
LCP = bytes.fromhex("ff03 c021 0901 0008 00000000")
HELLO = bytes.fromhex("c802 0014 0007 0000 0001 0001 8008 0000 0000 0006")

CASES = (
    # Decapsulation at the LNS: every form of data header and of PPP framing.
    up("V2-4 the plain data header", OURS + IP + UP),
    up("V2-5 with Length", bytes.fromhex("4002") + (12 + SIZE).to_bytes(2, "big") + OURS[2:] + IP + UP),
    up("V2-5 octets after Length are no part of it",
       bytes.fromhex("4002") + (12 + SIZE).to_bytes(2, "big") + OURS[2:] + IP + UP + b"tail"),
    up("V2-6 with Ns and Nr, which say nothing", bytes.fromhex("0802 0007 0003 1234 5678") + IP + UP),
    up("V2-7 with an offset of 0", bytes.fromhex("0202 0007 0003 0000") + IP + UP),
    up("V2-7 with an offset of 8", bytes.fromhex("0202 0007 0003 0008") + b"\xaa" * 8 + IP + UP),
    up("V2-7 with Length, Ns, Nr and offset",
       bytes.fromhex("4a02") + (20 + SIZE).to_bytes(2, "big") + bytes.fromhex("0007 0003 0001 0000 0002 aaaa") + IP + UP),
    up("V2-8 with the priority bit", bytes.fromhex("0102 0007 0003") + IP + UP),
    up("V2-2 with reserved bits", bytes.fromhex("34f2 0007 0003") + IP + UP),
    up("V2-165 without address and control", OURS + bytes.fromhex("0021") + UP),
    up("V2-165 with a protocol of one octet", OURS + bytes.fromhex("ff03 21") + UP),
    up("V2-165 with both compressed", OURS + bytes.fromhex("21") + UP),
    up("PPP padding goes away", OURS + IP + UP + bytes(7)),
    up("IP options", OURS + IP + packet(options=bytes(4)), out=packet(options=bytes(4))),
    up("TTL 1, which the kernel answers", OURS + IP + with_ttl(UP, 1), out=with_ttl(UP, 1)),
    up("TTL 0, which the kernel drops", OURS + IP + with_ttl(UP, 0), out=with_ttl(UP, 0)),
    up("directed at ourselves", OURS + IP + packet(SUBSCRIBER, NODE[0]), out=packet(SUBSCRIBER, NODE[0])),
    up("directed at its own address", OURS + IP + packet(SUBSCRIBER, SUBSCRIBER), out=packet(SUBSCRIBER, SUBSCRIBER)),
    up("another session's data message inside, directed at our port", OURS + IP + NESTED, out=NESTED),
    up("a packet of nothing but its header", OURS + IP + packet(payload=b""), out=packet(payload=b"")),
    # What the LNS does not take.
    bad("V2-7 an offset past the end", bytes.fromhex("0202 0007 0003 0800") + IP + UP),
    bad("V2-5 Length past the end", bytes.fromhex("4002 0800 0007 0003") + IP + UP),
    bad("V2-5 Length shorter than its header", bytes.fromhex("4002 0004 0007 0003") + IP + UP),
    bad("V2-7 an offset past Length, though not past the datagram",
        bytes.fromhex("4202 0014 0007 0003 0010") + bytes(16) + IP + UP),
    bad("V2-7 an offset that leaves nothing", bytes.fromhex("0202 0007 0003 0020") + IP + UP),
    bad("V2-5 Length of 0", bytes.fromhex("4002 0000 0007 0003") + IP + UP),
    bad("V2-5 Length that cuts the packet", bytes.fromhex("4002 0020 0007 0003") + IP + UP),
    bad("V2-6 Ns and Nr that are not there", bytes.fromhex("0802 0007 0003")),
    bad("V2-3 version 3", bytes.fromhex("0003 0007 0003") + IP + UP),
    bad("V2-189 session id 0", bytes.fromhex("0002 0007 0000") + IP + UP),
    bad("V2-189 a control message without its T bit", b"\x48" + HELLO[1:]),
    bad("V2-13 an empty datagram", b""),
    bad("V2-13 half a header", OURS[:5]),
    bad("a header without a frame", OURS),
    bad("half a protocol", OURS + bytes.fromhex("ff03 00")),
    bad("IP that is cut short", OURS + IP + UP[:-1]),
    bad("IP without a whole header", OURS + IP + UP[:19]),
    bad("IP of version 6 in an IPv4 frame", OURS + IP + b"\x65" + UP[1:]),
    bad("an IP header shorter than 20 octets", OURS + IP + b"\x44" + UP[1:]),
    bad("an IP header longer than its packet", OURS + IP + b"\x4f" + UP[1:]),
    bad("a total length shorter than its header", OURS + IP + UP[:2] + b"\x00\x13" + UP[4:]),
    bad("V2-166 an unknown session", bytes.fromhex("0002 0007 0004") + IP + UP, Verdict.RX_NO_SESSION),
    bad("V2-166 an unknown tunnel", bytes.fromhex("0002 0008 0003") + IP + UP, Verdict.RX_NO_SESSION),
    bad("a stranger's datagram", OURS + IP + UP, Verdict.RX_WRONG_PEER, STRANGER),
    bad("another port of the peer", OURS + IP + UP, Verdict.RX_WRONG_PEER, (PEER[0], 1702)),
    bad("LCP of a stranger", OURS + LCP, Verdict.RX_WRONG_PEER, STRANGER),
    bad("another subscriber's source", OURS + IP + packet(OTHER, CORE), Verdict.RX_SPOOFED),
    bad("the subscriber's address as destination only", OURS + IP + DOWN, Verdict.RX_SPOOFED),
    bad("no source", OURS + IP + packet("0.0.0.0", CORE), Verdict.RX_SPOOFED),
    bad("our own address as source", OURS + IP + packet(NODE[0], CORE), Verdict.RX_SPOOFED),
    bad("the core's address as source", OURS + IP + packet(CORE, CORE), Verdict.RX_SPOOFED),
    bad("everybody's address as source", OURS + IP + packet("255.255.255.255", CORE), Verdict.RX_SPOOFED),
    bad("the loopback's address as source", OURS + IP + packet("127.0.0.1", CORE), Verdict.RX_SPOOFED),
    bad("a spoofed source, directed at ourselves", OURS + IP + packet(OTHER, NODE[0]), Verdict.RX_SPOOFED),
    Case("another peer's session, by a peer of ours", (LNS, entry(session=4, address=OTHER, peer=STRANGER)),
         FromPeer(b"\0\2\0\7\0\4" + IP + packet(OTHER, CORE)), Verdict.RX_WRONG_PEER),
    Case("another peer's session, by a peer of ours, in his own name",
         (LNS, entry(session=4, address=OTHER, peer=STRANGER)),
         FromPeer(b"\0\2\0\7\0\4" + IP + UP), Verdict.RX_WRONG_PEER),
    bad("a spoofed source, PPP compressed", OURS + b"\x21" + packet(OTHER, CORE), Verdict.RX_SPOOFED),
    # What the control plane gets.
    punted("a control message", HELLO, (CONTROL, HELLO, STRANGER), Verdict.RX_CONTROL),
    punted("LCP of an installed session", OURS + LCP, (KEY, LCP, PEER)),
    punted("LCP without address and control", OURS + LCP[2:], (KEY, LCP[2:], PEER)),
    punted("IPv6, not negotiated", OURS + b"\x57" + b"six", (KEY, b"\x57six", PEER)),
    punted("LCP of a session without an entry", b"\0\2\0\7\0\4" + LCP, (session_key(7, 4), LCP, STRANGER)),
    punted("LCP behind a long header", bytes.fromhex("4a02 001c 0007 0003 0001 0000 0002 aaaa") + LCP, (KEY, LCP, PEER)),
    # Encapsulation at the LNS: by destination.
    down("V2-4 the plain data header, FF 03", LNS, THEIRS + IP + DOWN),
    down("ACFC: without address and control", entry(acfc=True), THEIRS + b"\x00\x21" + DOWN),
    down("PFC: a protocol of one octet", entry(pfc=True), THEIRS + b"\xff\x03\x21" + DOWN),
    down("ACFC and PFC", entry(acfc=True, pfc=True), THEIRS + b"\x21" + DOWN),
    down("V2-5 Length on request", entry(with_length=True),
         bytes.fromhex("4002") + (12 + SIZE).to_bytes(2, "big") + THEIRS[2:] + IP + DOWN),
    down("V2-6 Ns on request, from 0", entry(sequenced=True), bytes.fromhex("0802 0102 0304 0000 0000") + IP + DOWN),
    down("V2-6 Length and Ns", entry(sequenced=True, with_length=True),
         bytes.fromhex("4802") + (16 + SIZE).to_bytes(2, "big") + bytes.fromhex("0102 0304 0000 0000") + IP + DOWN),
    down("another port of the peer's choice", entry(), THEIRS + IP + DOWN),
    Case("a destination that no session has", (LNS,), FromDevice(packet(CORE, OTHER)), Verdict.TX_NO_SESSION),
    Case("the subscriber's address as source, at the LNS", (LNS,), FromDevice(UP), Verdict.TX_NO_SESSION),
    Case("IPv6 from the device", (LNS,), FromDevice(b"\x60" + bytes(39)), Verdict.TX_NOT_IPV4),
    Case("a cut packet from the device", (LNS,), FromDevice(DOWN[:-1]), Verdict.TX_NOT_IPV4),
    Case("a few octets from the device", (LNS,), FromDevice(b"\x45\0"), Verdict.TX_NOT_IPV4),
    Case("an IP header shorter than 20 octets from the device", (LNS,), FromDevice(b"\x44" + DOWN[1:]),
         Verdict.TX_NOT_IPV4),
    Case("an IP header longer than its packet from the device", (LNS,), FromDevice(b"\x4f" + DOWN[1:]),
         Verdict.TX_NOT_IPV4),
    Case("a total length past the end from the device", (LNS,), FromDevice(DOWN[:2] + b"\xff\xff" + DOWN[4:]),
         Verdict.TX_NOT_IPV4),
    Case("TTL 1 from the device", (LNS,), FromDevice(with_ttl(DOWN, 1)), Verdict.TX_FORWARDED,
         to_peer=((THEIRS + IP + with_ttl(DOWN, 1), PEER),), counters=COUNTED_DOWN),
    # The LAC: the other way round.
    Case("LAC: by source", (LAC,), FromDevice(UP), Verdict.TX_FORWARDED,
         to_peer=((THEIRS + IP + UP, PEER),), counters=COUNTED_UP),
    Case("LAC: a source that no session has", (LAC,), FromDevice(DOWN), Verdict.TX_NO_SESSION),
    Case("LAC: to the subscriber", (LAC,), FromPeer(OURS + IP + DOWN), Verdict.RX_FORWARDED,
         to_device=(DOWN,), counters=COUNTED_DOWN),
    Case("LAC: to somebody else", (LAC,), FromPeer(OURS + IP + packet(CORE, OTHER)), Verdict.RX_SPOOFED),
    Case("LAC: the subscriber's address as source only", (LAC,), FromPeer(OURS + IP + UP), Verdict.RX_SPOOFED),
    Case("LAC: to somebody else, PPP compressed", (LAC,), FromPeer(OURS + b"\x21" + UP), Verdict.RX_SPOOFED),
    # Two sessions.
    Case("one of two, by destination", (LNS, entry(session=4, address=OTHER, peer_session=5)),
         FromDevice(packet(CORE, OTHER)), Verdict.TX_FORWARDED,
         to_peer=((bytes.fromhex("0002 0102 0005") + IP + packet(CORE, OTHER), PEER),),
         counters={session_key(7, 4): Counters(0, 0, 1, SIZE)}),
    Case("the younger of two that claim an address", (LNS, entry(session=4, peer_session=5)), FromDevice(DOWN),
         Verdict.TX_FORWARDED, to_peer=((bytes.fromhex("0002 0102 0005") + IP + DOWN, PEER),),
         counters={session_key(7, 4): Counters(0, 0, 1, SIZE)}),
    Case("a session's address was replaced: the old one", (LNS, entry(address=OTHER)), FromDevice(DOWN),
         Verdict.TX_NO_SESSION),
    # Size (P-12).
    Case("P-12 as large as the session takes", (entry(mtu=len(BIG)),), FromDevice(BIG), Verdict.TX_FORWARDED,
         to_peer=((THEIRS + IP + BIG, PEER),), counters={KEY: Counters(0, 0, 1, len(BIG))}),
    Case("P-12 too big and DF: ICMP from its destination", (SMALL,), FromDevice(BIG), Verdict.TX_TOO_BIG,
         to_device=(icmp_too_big(BIG, 1000, SUBSCRIBER, CORE),)),
    Case("P-12 too big and DF: ICMP from a configured address", (SMALL,), FromDevice(BIG), Verdict.TX_TOO_BIG,
         to_device=(icmp_too_big(BIG, 1000, "203.0.113.1", CORE),), icmp_source="203.0.113.1"),
    Case("P-12 no ICMP about an ICMP error", (SMALL,),
         FromDevice(packet(CORE, SUBSCRIBER, protocol=1, payload=b"\x03" + bytes(1200), fragment=0x4000)),
         Verdict.TX_TOO_BIG),
    Case("P-12 no ICMP about a later fragment", (SMALL,),
         FromDevice(packet(CORE, SUBSCRIBER, payload=bytes(1200), fragment=0x4001)), Verdict.TX_TOO_BIG),
    Case("P-12 no ICMP to nobody", (SMALL,),
         FromDevice(packet("0.0.0.0", SUBSCRIBER, payload=bytes(1200), fragment=0x4000)), Verdict.TX_TOO_BIG),
    Case("P-12 too big without DF: two fragments", (SMALL,), FromDevice(BIG_CUTTABLE), Verdict.TX_FORWARDED,
         to_peer=tuple(
             (THEIRS + IP + packet(CORE, SUBSCRIBER, payload=piece, identification=9, fragment=word), PEER)
             for piece, word in ((BIG_CUTTABLE[20:996], 0x2000), (BIG_CUTTABLE[996:], 122))
         ),
         counters={KEY: Counters(0, 0, 1, len(BIG_CUTTABLE))}),
    # MSS clamping, an option.
    Case("a SYN is left alone by default", (entry(mtu=1400),), FromDevice(syn(CORE, SUBSCRIBER, MSS_1460)),
         Verdict.TX_FORWARDED, to_peer=((THEIRS + IP + syn(CORE, SUBSCRIBER, MSS_1460), PEER),),
         counters={KEY: Counters(0, 0, 1, 44)}),
    Case("MSS clamped on the way down", (entry(mtu=1400),), FromDevice(syn(CORE, SUBSCRIBER, MSS_1460)),
         Verdict.TX_FORWARDED, to_peer=((THEIRS + IP + syn(CORE, SUBSCRIBER, MSS_1360), PEER),),
         counters={KEY: Counters(0, 0, 1, 44)}, mss_clamp=True),
    Case("MSS clamped on the way up", (entry(mtu=1400),), FromPeer(OURS + IP + syn(SUBSCRIBER, CORE, MSS_1460)),
         Verdict.RX_FORWARDED, to_device=(syn(SUBSCRIBER, CORE, MSS_1360),),
         counters={KEY: Counters(1, 44, 0, 0)}, mss_clamp=True),
    Case("MSS clamped at an odd offset", (entry(mtu=1400),),
         FromDevice(syn(CORE, SUBSCRIBER, b"\x01" + MSS_1460 + bytes(3))), Verdict.TX_FORWARDED,
         to_peer=((THEIRS + IP + syn(CORE, SUBSCRIBER, b"\x01" + MSS_1360 + bytes(3)), PEER),),
         counters={KEY: Counters(0, 0, 1, 48)}, mss_clamp=True),
    Case("a lower MSS stays", (LNS,), FromDevice(syn(CORE, SUBSCRIBER, MSS_1360)), Verdict.TX_FORWARDED,
         to_peer=((THEIRS + IP + syn(CORE, SUBSCRIBER, MSS_1360), PEER),),
         counters={KEY: Counters(0, 0, 1, 44)}, mss_clamp=True),
    Case("an ACK is no SYN", (LNS,), FromDevice(packet(CORE, SUBSCRIBER, protocol=6, payload=tcp(0x10, MSS_1460))),
         Verdict.TX_FORWARDED,
         to_peer=((THEIRS + IP + packet(CORE, SUBSCRIBER, protocol=6, payload=tcp(0x10, MSS_1460)), PEER),),
         counters={KEY: Counters(0, 0, 1, 44)}, mss_clamp=True),
    Case("options of a SYN that make no sense", (entry(mtu=576),),
         FromDevice(syn(CORE, SUBSCRIBER, bytes.fromhex("08000204 02040550"))), Verdict.TX_FORWARDED,
         to_peer=((THEIRS + IP + syn(CORE, SUBSCRIBER, bytes.fromhex("08000204 02040550")), PEER),),
         counters={KEY: Counters(0, 0, 1, 48)}, mss_clamp=True),
    Case("half a SYN", (entry(mtu=576),), FromDevice(packet(CORE, SUBSCRIBER, protocol=6, payload=tcp(2, b"")[:14])),
         Verdict.TX_FORWARDED,
         to_peer=((THEIRS + IP + packet(CORE, SUBSCRIBER, protocol=6, payload=tcp(2, b"")[:14]), PEER),),
         counters={KEY: Counters(0, 0, 1, 34)}, mss_clamp=True),
)  # fmt: skip
