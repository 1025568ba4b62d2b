"""Frames for the eBPF programs, as data: what arrives where, the reason that is counted, and the frame that comes out.

The cases of `cases` run on the programs, too; here is what only they do: link headers, addresses that the kernel must
look up, packets that are passed on. Frames are for both hooks unless a case names one.
"""

import struct
from dataclasses import dataclass, field, replace
from socket import AF_INET6, inet_pton
from typing import Any

from dataplane.cases import (
    CORE,
    DOWN,
    HELLO,
    IP,
    KEY,
    LCP,
    MSS_1360,
    MSS_1460,
    NESTED,
    NODE,
    OTHER,
    OURS,
    PEER,
    SIZE,
    STRANGER,
    SUBSCRIBER,
    THEIRS,
    UP,
    entry,
    packet,
    sum16,
    syn,
    tcp,
    with_ttl,
)
from dataplane.programs import (
    CORE6,
    CORE_FAR_MAC,
    CORE_MAC,
    IPV4,
    IPV6,
    LAC_FAR_MAC,
    LAC_MAC,
    SECOND,
    VLAN,
    Action,
    Hook,
    ethernet,
    mac,
    udp,
)
from holdfast.dataplane.contract import Address, Entry
from holdfast.dataplane.ebpf.abi import Reason
from holdfast.records import Counters, session_key

BOTH = (Hook.XDP, Hook.TC)
MAGIC = 0x11223344
PREFIX64 = "2001:db8:7:7::/64"
SUBSCRIBER6 = "2001:db8:7:7::7"
V6 = bytes.fromhex("ff03 0057")


def session(**changes: Any) -> Entry:
    """A session with everything open."""
    opened: dict[str, Any] = {"echo": True, "magic": MAGIC, "prefix": PREFIX64, **changes}
    return entry(**opened)


SESSION = session()


@dataclass(frozen=True)
class ProgramCase:
    """`out` is the frame as the program leaves it, None for unchanged; `heard`: the daemon's socket is open.

    Frames with a tag are for XDP: before tc the kernel has taken a tag out of the frame.
    """

    name: str
    port: str
    frame: bytes
    reason: Reason
    action: Action = Action.PASS
    out: bytes | None = None
    counters: dict[int, Counters] = field(default_factory=dict)
    entries: tuple[Entry, ...] = (SESSION,)
    heard: bool = True
    hooks: tuple[Hook, ...] = BOTH
    mss_clamp: bool = False
    gso_size: int = 0
    redirect: bool = True


def ipv6(
    source: str = SUBSCRIBER6,
    destination: str = CORE6,
    *,
    payload: bytes = b"payload!",
    header: int = 17,
    hops: int = 64,
) -> bytes:
    """An IPv6 packet."""
    head = struct.pack(">IHBB", 0x60000000, len(payload), header, hops)
    return head + inet_pton(AF_INET6, source) + inet_pton(AF_INET6, destination) + payload


def from_lac(
    data: bytes,
    source: Address = PEER,
    to: Address = NODE,
    *,
    tag: int | None = None,
    options: bytes = b"",
    fragment: int = 0,
) -> bytes:
    """The frame with a datagram, at the LAC's side."""
    datagram = udp(source, to, data, options=options, fragment=fragment)
    return ethernet(LAC_MAC, LAC_FAR_MAC, IPV4, datagram, tag=tag)


def kind_of(data: bytes) -> bytes:
    return IPV6 if data[0] >> 4 == 6 else IPV4


def from_core(data: bytes, *, tag: int | None = None) -> bytes:
    """The frame with a packet, at the core's side."""
    return ethernet(CORE_MAC, CORE_FAR_MAC, kind_of(data), data, tag=tag)


def to_core(data: bytes) -> bytes:
    """The frame in which an inner packet leaves, one hop further."""
    return ethernet(CORE_FAR_MAC, CORE_MAC, kind_of(data), with_ttl(data, 63))


def to_lac(data: bytes) -> bytes:
    """The frame in which a datagram leaves."""
    return ethernet(LAC_FAR_MAC, LAC_MAC, IPV4, udp(NODE, PEER, data))


def left_to_kernel(data: bytes, *, tag: int | None = None) -> bytes:
    """The frame in which an inner packet is passed up."""
    return ethernet(LAC_MAC, LAC_FAR_MAC, kind_of(data), data, tag=tag)


def up(name: str, frame: bytes, inner: bytes = UP, **changes: Any) -> ProgramCase:
    """Forwarded to the core."""
    counters = {KEY: Counters(1, len(inner), 0, 0)}
    case = ProgramCase(name, "lac", frame, Reason.RX_FORWARDED, Action.SENT, to_core(inner), counters)
    return replace(case, **changes)


def kernel(name: str, inner: bytes, reason: Reason, **changes: Any) -> ProgramCase:
    """Decapsulated and left to the kernel."""
    head = OURS + (V6 if inner[0] >> 4 == 6 else IP)
    counters = {KEY: Counters(1, len(inner), 0, 0)}
    frame, out = from_lac(head + inner), left_to_kernel(inner)
    return replace(ProgramCase(name, "lac", frame, reason, out=out, counters=counters), **changes)


def passed(name: str, frame: bytes, reason: Reason, **changes: Any) -> ProgramCase:
    """From the LAC's side, unmodified to the daemon's socket or the kernel."""
    return replace(ProgramCase(name, "lac", frame, reason), **changes)


def dropped(name: str, frame: bytes, reason: Reason, **changes: Any) -> ProgramCase:
    """From the LAC's side, to nowhere."""
    return replace(ProgramCase(name, "lac", frame, reason, Action.DROP), **changes)


def down(name: str, inner: bytes, head: bytes, installed: Entry = SESSION, **changes: Any) -> ProgramCase:
    """Forwarded to the peer with `head` before it."""
    out, counters = to_lac(head + with_ttl(inner, 63)), {KEY: Counters(0, 0, 1, len(inner))}
    case = ProgramCase(name, "core", from_core(inner), Reason.TX_FORWARDED, Action.SENT, out, counters)
    return replace(case, entries=(installed,), **changes)


def declined(
    name: str, inner: bytes, reason: Reason, installed: Entry = SESSION, **changes: Any
) -> ProgramCase:
    """From the core's side, unmodified to the kernel."""
    return replace(ProgramCase(name, "core", from_core(inner), reason, entries=(installed,)), **changes)


def echoed(name: str, data: bytes, reply: bytes, **changes: Any) -> ProgramCase:
    """An LCP Echo-Request that is answered: `data` and `reply` are whole datagrams."""
    case = ProgramCase(name, "lac", from_lac(data), Reason.RX_ECHO, Action.SENT_BACK, to_lac(reply))
    return replace(case, **changes)


def with_udp_length(length: int) -> bytes:
    """A data message whose UDP header lies."""
    frame = from_lac(OURS + IP + UP)
    return frame[:38] + struct.pack(">H", length) + frame[40:]


def with_outer_ip(first: int, total: int) -> bytes:
    """A data message whose outer IP header lies: its first octet (version, header length) and its total length."""
    frame = from_lac(OURS + IP + UP)
    return frame[:14] + bytes((first,)) + frame[15:16] + struct.pack(">H", total) + frame[18:]


def syn6(mss: int) -> bytes:
    """A TCP SYN from the core to the subscriber over IPv6."""
    segment = tcp(2, struct.pack(">BBH", 2, 4, mss))
    addresses = inet_pton(AF_INET6, CORE6) + inet_pton(AF_INET6, SUBSCRIBER6)
    sum_ = sum16(addresses + struct.pack(">II", len(segment), 6) + segment)
    return segment[:16] + struct.pack(">H", sum_) + segment[18:]


def udp_checksummed(frame: bytes) -> bytes:
    """The frame with the UDP checksum that a sender puts in."""
    ip, datagram = frame[14:34], frame[34:]
    pseudo = ip[12:20] + struct.pack(">HH", 17, len(datagram))
    sum_ = sum16(pseudo + datagram[:6] + b"\0\0" + datagram[8:]) or 0xFFFF
    return frame[:40] + struct.pack(">H", sum_) + frame[42:]


ECHO = bytes.fromhex("ff03 c021 0907 000c a1b2c3d4 64617461")
REPLY = bytes.fromhex("ff03 c021 0a07 000c 11223344 64617461")
LENGTH = struct.pack(">HH", 0x4002, 8 + len(ECHO))
LARGE = packet(SUBSCRIBER, CORE, payload=bytes(1500), fragment=0x4000)

FORWARDED_UP = (
    up("a data message", from_lac(OURS + IP + UP)),
    up("a data message with its UDP checksum", udp_checksummed(from_lac(OURS + IP + UP))),
    up("Ethernet padding goes away", from_lac(OURS + IP + UP) + bytes(9)),
    up("an inner fragment", from_lac(OURS + IP + packet(fragment=0x2001)), packet(fragment=0x2001)),
    up("a VLAN tag stays behind", from_lac(OURS + IP + UP, tag=7), hooks=(Hook.XDP,)),
    up("IPv6", from_lac(OURS + V6 + ipv6()), ipv6()),
    up("IPv6 with all compression", from_lac(OURS + b"\x57" + ipv6()), ipv6()),
    up("IPv6 with Length, Ns and offset",
       from_lac(bytes.fromhex("4a02") + (20 + 48).to_bytes(2, "big") + bytes.fromhex("0007 0003 0001 0000 0002 aaaa")
                + V6 + ipv6()), ipv6()),
    up("IPv6 from the last address of a shorter prefix",
       from_lac(OURS + V6 + ipv6("2001:db8:7:ff:ffff::1")), ipv6("2001:db8:7:ff:ffff::1"),
       entries=(session(prefix="2001:db8:7::/56"),)),
    up("IPv6 padding goes away", from_lac(OURS + V6 + ipv6() + bytes(3)), ipv6()),
    up("a packet of nothing but its header, compressed", from_lac(OURS + b"\x21" + packet(payload=b"")),
       packet(payload=b"")),
)  # fmt: skip

KERNEL = (
    kernel("TTL 1", with_ttl(UP, 1), Reason.RX_KERNEL_TTL),
    kernel("TTL 0", with_ttl(UP, 0), Reason.RX_KERNEL_TTL),
    kernel("hop limit 1", ipv6(hops=1), Reason.RX_KERNEL_TTL),
    kernel("directed at our address in the core", packet(SUBSCRIBER, "198.51.100.254"), Reason.RX_KERNEL_LOCAL),
    kernel("directed at our L2TP address", packet(SUBSCRIBER, NODE[0]), Reason.RX_KERNEL_LOCAL),
    kernel("directed at our IPv6 address", ipv6(destination="2001:db8:c::fe"), Reason.RX_KERNEL_LOCAL),
    kernel("another session's data message inside, directed at our port", NESTED, Reason.RX_KERNEL_LOCAL),
    kernel("hop limit 0", ipv6(hops=0), Reason.RX_KERNEL_TTL),
    kernel("directed at the loopback", packet(SUBSCRIBER, "127.0.0.1"), Reason.RX_KERNEL_LOCAL),
    kernel("without a route", packet(SUBSCRIBER, "203.0.113.1"), Reason.RX_KERNEL_LOCAL),
    kernel("to a black hole", packet(SUBSCRIBER, "203.0.113.130"), Reason.RX_KERNEL_LOCAL),
    kernel("IPv6 without a route", ipv6(destination="2001:db8:d::1"), Reason.RX_KERNEL_LOCAL),
    kernel("the broadcast of a network of ours", packet(SUBSCRIBER, "198.51.100.255"), Reason.RX_KERNEL_LOCAL),
    kernel("a neighbour that nobody asked for", packet(SUBSCRIBER, "198.51.100.77"), Reason.RX_KERNEL_NEIGHBOUR),
    kernel("an IPv6 neighbour that nobody asked for", ipv6(destination="2001:db8:c::77"), Reason.RX_KERNEL_NEIGHBOUR),
    kernel("larger than the next link", LARGE, Reason.RX_KERNEL_TOO_BIG),
    kernel("IPv6 larger than the next link", ipv6(payload=bytes(1500)), Reason.RX_KERNEL_TOO_BIG),
    kernel("with options", packet(options=bytes(4)), Reason.RX_KERNEL_OPTIONS),
    kernel("with hop-by-hop options", ipv6(header=0, payload=bytes(8)), Reason.RX_KERNEL_OPTIONS),
    kernel("an interface that XDP cannot send on", UP, Reason.RX_KERNEL_PORT, redirect=False, hooks=(Hook.XDP,)),
    kernel("MSS clamped of what the kernel gets", with_ttl(syn(SUBSCRIBER, CORE, MSS_1460), 1),
           Reason.RX_KERNEL_TTL, mss_clamp=True, entries=(session(mtu=1400),),
           out=left_to_kernel(with_ttl(syn(SUBSCRIBER, CORE, MSS_1360), 1))),
    ProgramCase("a VLAN tag stays on what the kernel gets", "lac", from_lac(OURS + IP + with_ttl(UP, 1), tag=7),
                Reason.RX_KERNEL_TTL, out=left_to_kernel(with_ttl(UP, 1), tag=7),
                counters={KEY: Counters(1, SIZE, 0, 0)}, hooks=(Hook.XDP,)),
)  # fmt: skip

DAEMON = (
    passed("a control message", from_lac(HELLO), Reason.RX_CONTROL),
    passed("a control message of one octet", from_lac(b"\xc8"), Reason.RX_CONTROL),
    passed("a control message of a stranger", from_lac(HELLO, STRANGER), Reason.RX_CONTROL),
    passed("LCP that is no Echo-Request", from_lac(OURS + LCP[:4] + b"\x01" + LCP[5:]), Reason.RX_PPP),
    passed("IPCP", from_lac(OURS + bytes.fromhex("8021 0101 0004")), Reason.RX_PPP),
    passed("IPv4 to a multicast address", from_lac(OURS + IP + packet(SUBSCRIBER, "224.0.0.5")), Reason.RX_PPP),
    passed("IPv4 to everybody", from_lac(OURS + IP + packet(SUBSCRIBER, "255.255.255.255")), Reason.RX_PPP),
    passed("IPv6 that stays on its link", from_lac(OURS + V6 + ipv6("fe80::1", "ff02::2")), Reason.RX_PPP),
    passed("IPv6 from a link-local source", from_lac(OURS + V6 + ipv6("fe80::1")), Reason.RX_PPP),
    passed("IPv6 to a link-local address", from_lac(OURS + V6 + ipv6(destination="fe80::1")), Reason.RX_PPP),
    passed("IPv6 from nowhere to a multicast address", from_lac(OURS + V6 + ipv6("::", "ff02::1")), Reason.RX_PPP),
    passed("IPv6 that was not negotiated", from_lac(OURS + V6 + ipv6()), Reason.RX_PPP, entries=(session(prefix=""),)),
    passed("an unknown session", from_lac(b"\0\2\0\7\0\4" + IP + UP), Reason.RX_NO_SESSION),
    passed("an unknown tunnel", from_lac(b"\0\2\0\x08\0\3" + IP + UP), Reason.RX_NO_SESSION),
    passed("the session's ids at another address of ours", from_lac(OURS + IP + UP, to=SECOND), Reason.RX_NO_SESSION),
    passed("a sequenced session", from_lac(OURS + IP + UP), Reason.RX_TO_DAEMON, entries=(session(sequenced=True),)),
    passed("Echo-Request of a sequenced session", from_lac(OURS + ECHO), Reason.RX_TO_DAEMON,
           entries=(session(sequenced=True),)),
    passed("the first outer fragment", from_lac(OURS + IP + UP, fragment=0x2000), Reason.RX_FRAGMENT),
    passed("a later outer fragment", from_lac(OURS + IP + UP, fragment=0x0005), Reason.RX_FRAGMENT),
    passed("outer options", from_lac(OURS + IP + UP, options=bytes(4)), Reason.RX_UNUSUAL),
    passed("L2TP of version 3", from_lac(b"\0\3" + OURS[2:] + IP + UP), Reason.RX_UNUSUAL),
    passed("an offset that nobody uses", from_lac(bytes.fromhex("0202 0007 0003 0400") + bytes(1024) + IP + UP),
           Reason.RX_UNUSUAL),
    passed("a burst of datagrams in one buffer", from_lac(OURS + IP + UP), Reason.RX_UNUSUAL, gso_size=500,
           hooks=(Hook.TC,)),
)  # fmt: skip

DROPPED = (
    dropped("a stranger", from_lac(OURS + IP + UP, STRANGER), Reason.RX_WRONG_PEER),
    dropped("another port of the peer", from_lac(OURS + IP + UP, (PEER[0], 1702)), Reason.RX_WRONG_PEER),
    dropped("Echo-Request of a stranger", from_lac(OURS + ECHO, STRANGER), Reason.RX_WRONG_PEER),
    dropped("the ids of another peer's session", from_lac(b"\0\2\0\7\0\4" + IP + packet(OTHER, CORE)),
            Reason.RX_WRONG_PEER, entries=(SESSION, session(session=4, address=OTHER, peer=STRANGER))),
    dropped("another subscriber's address", from_lac(OURS + IP + packet(OTHER, CORE)), Reason.RX_SPOOFED,
            entries=(SESSION, session(session=4, address=OTHER))),
    dropped("no address", from_lac(OURS + IP + packet("0.0.0.0", CORE)), Reason.RX_SPOOFED),
    dropped("our own address", from_lac(OURS + IP + packet(NODE[0], CORE)), Reason.RX_SPOOFED),
    dropped("IPv6 of the next prefix", from_lac(OURS + V6 + ipv6("2001:db8:7:8::7")), Reason.RX_SPOOFED),
    dropped("IPv6 just outside a shorter prefix", from_lac(OURS + V6 + ipv6("2001:db8:7:100::1")), Reason.RX_SPOOFED,
            entries=(session(prefix="2001:db8:7::/56"),)),
    dropped("IPv6 from our own address", from_lac(OURS + V6 + ipv6("2001:db8:c::fe")), Reason.RX_SPOOFED),
    dropped("IPv6 from nowhere", from_lac(OURS + V6 + ipv6("::")), Reason.RX_SPOOFED),
    dropped("an empty datagram", from_lac(b""), Reason.RX_MALFORMED),
    dropped("an offset past the end", from_lac(bytes.fromhex("0202 0007 0003 0800") + IP + UP), Reason.RX_MALFORMED),
    dropped("an offset of 65535", from_lac(bytes.fromhex("0202 0007 0003 ffff") + IP + UP), Reason.RX_MALFORMED),
    dropped("IPv6 that is cut short", from_lac(OURS + V6 + ipv6()[:-1]), Reason.RX_MALFORMED),
    dropped("IPv6 without a whole header", from_lac(OURS + V6 + ipv6()[:39]), Reason.RX_MALFORMED),
    dropped("IPv4 in an IPv6 frame", from_lac(OURS + V6 + UP + bytes(40)), Reason.RX_MALFORMED),
    dropped("an outer total length that cuts the datagram", with_outer_ip(0x45, 60), Reason.RX_MALFORMED),
    dropped("an outer total length that ends with the UDP header", with_outer_ip(0x45, 28), Reason.RX_MALFORMED),
    dropped("a UDP length past the end", with_udp_length(400), Reason.RX_MALFORMED),
    dropped("a UDP length of 7", with_udp_length(7), Reason.RX_MALFORMED),
    dropped("a UDP length of 0", with_udp_length(0), Reason.RX_MALFORMED),
    dropped("a UDP length that cuts the inner packet", with_udp_length(40), Reason.RX_MALFORMED),
    dropped("UDP length and Ethernet padding, which is no part of the packet",
            from_lac(OURS + IP + UP[:-4]) + UP[-4:], Reason.RX_MALFORMED),
    dropped("a control message while nobody listens", from_lac(HELLO), Reason.RX_UNHEARD, heard=False),
    dropped("PPP while nobody listens", from_lac(OURS + bytes.fromhex("8021 0101 0004")), Reason.RX_UNHEARD, heard=False),
    dropped("an unknown session while nobody listens", from_lac(b"\0\2\0\7\0\4" + IP + UP), Reason.RX_UNHEARD,
            heard=False),
    dropped("the first outer fragment while nobody listens", from_lac(OURS + IP + UP, fragment=0x2000),
            Reason.RX_UNHEARD, heard=False),
    dropped("outer options while nobody listens", from_lac(OURS + IP + UP, options=bytes(4)), Reason.RX_UNHEARD,
            heard=False),
    dropped("a sequenced session while nobody listens", from_lac(OURS + IP + UP), Reason.RX_UNHEARD, heard=False,
            entries=(session(sequenced=True),)),
)  # fmt: skip

AWAY = (
    up("a data message while nobody listens", from_lac(OURS + IP + UP), heard=False),
    echoed("Echo-Request while nobody listens", OURS + ECHO, THEIRS + REPLY, heard=False),
)

ECHOES = (
    echoed("Echo-Request", OURS + ECHO, THEIRS + REPLY),
    echoed("Echo-Request without address and control", OURS + ECHO[2:], THEIRS + REPLY[2:]),
    echoed("Echo-Request with Length", LENGTH + OURS[2:] + ECHO, LENGTH + THEIRS[2:] + REPLY),
    echoed("Echo-Request with the priority bit", b"\x01\x02" + OURS[2:] + ECHO, b"\x01\x02" + THEIRS[2:] + REPLY),
    echoed("Echo-Request with padding", OURS + ECHO + bytes(4), THEIRS + REPLY + bytes(4)),
    echoed("Echo-Request without a magic number", OURS + ECHO[:8] + bytes(4) + ECHO[12:], THEIRS + REPLY),
    echoed("Echo-Request to a side without a magic number", OURS + ECHO, THEIRS + REPLY[:8] + bytes(4) + REPLY[12:],
           entries=(session(magic=0),)),
    ProgramCase("Echo-Request with a UDP checksum", "lac", udp_checksummed(from_lac(OURS + ECHO)), Reason.RX_ECHO,
                Action.SENT_BACK, out=udp_checksummed(to_lac(THEIRS + REPLY)), hooks=(Hook.TC,)),
    ProgramCase("Echo-Request with a UDP checksum, which may be unfinished", "lac",
                udp_checksummed(from_lac(OURS + ECHO)), Reason.RX_ECHO, Action.SENT_BACK, out=to_lac(THEIRS + REPLY),
                hooks=(Hook.XDP,)),
    ProgramCase("Echo-Request with a VLAN tag", "lac", from_lac(OURS + ECHO, tag=7), Reason.RX_ECHO,
                Action.SENT_BACK, hooks=(Hook.XDP,),
                out=ethernet(LAC_FAR_MAC, LAC_MAC, IPV4, udp(NODE, PEER, THEIRS + REPLY), tag=7)),
    passed("Echo-Request with our own magic number: a loop",
           from_lac(OURS + ECHO[:8] + MAGIC.to_bytes(4, "big") + ECHO[12:]), Reason.RX_PPP),
    passed("Echo-Request of a link that is not open", from_lac(OURS + ECHO), Reason.RX_PPP,
           entries=(session(echo=False),)),
    passed("Echo-Request longer than its frame", from_lac(OURS + ECHO[:6] + b"\0\x0d" + ECHO[8:]), Reason.RX_PPP),
    passed("Echo-Request shorter than its header", from_lac(OURS + ECHO[:6] + b"\0\x07" + ECHO[8:]), Reason.RX_PPP),
    passed("Echo-Request that is cut", from_lac(OURS + ECHO[:11]), Reason.RX_PPP),
    passed("Echo-Request behind an offset", from_lac(bytes.fromhex("0202 0007 0003 0000") + ECHO), Reason.RX_PPP),
    passed("Echo-Request with sequence numbers", from_lac(bytes.fromhex("0802 0007 0003 00010000") + ECHO),
           Reason.RX_PPP),
    passed("Echo-Reply", from_lac(OURS + REPLY), Reason.RX_PPP),
)  # fmt: skip

NOT_OURS = (
    passed("L2TP in transit", from_lac(OURS + IP + UP, to=("203.0.113.5", 1701)), Reason.NOT_OURS),
    passed("malformed L2TP in transit", from_lac(b"", to=("203.0.113.5", 1701)), Reason.NOT_OURS),
    passed("control messages in transit", from_lac(HELLO, to=("203.0.113.5", 1701)), Reason.NOT_OURS, heard=False),
    passed("fragments in transit", from_lac(OURS, to=("203.0.113.5", 1701), fragment=0x2000), Reason.NOT_OURS),
    passed("another port of ours", from_lac(OURS + IP + UP, to=(NODE[0], 1702)), Reason.NOT_OURS),
    passed("a fragment to another port of ours", from_lac(OURS, to=(NODE[0], 53), fragment=0x2000), Reason.NOT_OURS),
    passed("TCP to us", ethernet(LAC_MAC, LAC_FAR_MAC, IPV4, packet(PEER[0], NODE[0], protocol=6)), Reason.NOT_OURS),
    passed("ARP", ethernet(LAC_MAC, LAC_FAR_MAC, b"\x08\x06", bytes(28)), Reason.NOT_OURS),
    passed("two VLAN tags", ethernet(LAC_MAC, LAC_FAR_MAC, VLAN + b"\0\7" + IPV4, udp(PEER, NODE, OURS + IP + UP), tag=8),
           Reason.NOT_OURS, hooks=(Hook.XDP,)),
    passed("an outer total length past the end", with_outer_ip(0x45, 400), Reason.NOT_OURS),
    passed("an outer total length shorter than its header", with_outer_ip(0x45, 19), Reason.NOT_OURS),
    passed("an outer header shorter than 20 octets", with_outer_ip(0x44, 66), Reason.NOT_OURS),
    passed("an outer header as long as its packet", with_outer_ip(0x4F, 66), Reason.NOT_OURS),
    passed("IPv4 of version 6", ethernet(LAC_MAC, LAC_FAR_MAC, IPV4, b"\x65" + UP[1:]), Reason.NOT_OURS),
    passed("IPv6 that is cut short", ethernet(LAC_MAC, LAC_FAR_MAC, IPV6, ipv6()[:-1]), Reason.NOT_OURS),
    passed("a frame for another host", mac(0x777) + from_lac(OURS + IP + UP)[6:], Reason.NOT_TO_US),
    passed("a frame for everybody", b"\xff" * 6 + from_lac(OURS + IP + UP)[6:], Reason.NOT_TO_US),
    passed("a control message to another host", mac(0x777) + from_lac(HELLO)[6:], Reason.NOT_TO_US, heard=False),
    ProgramCase("a packet for a subscriber to another host's MAC", "core", mac(0x777) + from_core(DOWN)[6:],
                Reason.NOT_TO_US),
    declined("a destination that no session has", packet(CORE, OTHER), Reason.NOT_OURS),
    declined("an IPv6 destination that no session has", ipv6(CORE6, "2001:db8:7:8::7"), Reason.NOT_OURS),
    declined("the subscriber's address as source", packet(SUBSCRIBER, CORE), Reason.NOT_OURS),
    declined("a cut packet for a subscriber", DOWN[:-1], Reason.NOT_OURS),
    declined("an IPv6 subscriber without IPv6", ipv6(CORE6, SUBSCRIBER6), Reason.NOT_OURS, session(prefix="")),
)  # fmt: skip

FORWARDED_DOWN = (
    down("a packet", DOWN, THEIRS + IP),
    down("IPv6", ipv6(CORE6, SUBSCRIBER6), THEIRS + V6),
    down("IPv6, compressed", ipv6(CORE6, SUBSCRIBER6), THEIRS + b"\x57", session(acfc=True, pfc=True)),
    down("IPv6 with Length", ipv6(CORE6, SUBSCRIBER6), b"\x40\x02\x00\x3c" + THEIRS[2:] + V6, session(with_length=True)),
    down("IPv6 to an address of a shorter prefix", ipv6(CORE6, "2001:db8:7:ff::1"), THEIRS + V6,
         session(prefix="2001:db8:7::/56")),
    down("of nothing but its header, compressed", packet(CORE, SUBSCRIBER, payload=b""), THEIRS + b"\x21",
         session(acfc=True, pfc=True)),
    down("as large as the session takes", packet(CORE, SUBSCRIBER, payload=bytes(1380)), THEIRS + IP, session(mtu=1400)),
    down("as large as the path takes", packet(CORE, SUBSCRIBER, payload=bytes(1442)), THEIRS + IP),
    down("a fragment", packet(CORE, SUBSCRIBER, fragment=0x0004), THEIRS + IP),
    down("from a peer's other port", DOWN, THEIRS + IP, session(peer=(PEER[0], 1999)),
         out=ethernet(LAC_FAR_MAC, LAC_MAC, IPV4, udp(NODE, (PEER[0], 1999), THEIRS + IP + with_ttl(DOWN, 63)))),
    down("MSS of IPv6 clamped", ipv6(CORE6, SUBSCRIBER6, payload=syn6(1460), header=6), THEIRS + V6, session(mtu=1400),
         mss_clamp=True,
         out=to_lac(THEIRS + V6 + ipv6(CORE6, SUBSCRIBER6, payload=syn6(1340), header=6, hops=63))),
    ProgramCase("Ethernet padding goes away", "core", from_core(DOWN) + bytes(5), Reason.TX_FORWARDED, Action.SENT,
                to_lac(THEIRS + IP + with_ttl(DOWN, 63)), {KEY: Counters(0, 0, 1, SIZE)}),
    ProgramCase("a VLAN tag stays behind", "core", from_core(DOWN, tag=9), Reason.TX_FORWARDED, Action.SENT,
                to_lac(THEIRS + IP + with_ttl(DOWN, 63)), {KEY: Counters(0, 0, 1, SIZE)}, hooks=(Hook.XDP,)),
    ProgramCase("to the one of two sessions whose address it is", "core", from_core(packet(CORE, OTHER)),
                Reason.TX_FORWARDED, Action.SENT,
                to_lac(bytes.fromhex("0002 0102 0005") + IP + with_ttl(packet(CORE, OTHER), 63)),
                {session_key(7, 4): Counters(0, 0, 1, SIZE)},
                entries=(SESSION, session(session=4, address=OTHER, peer_session=5, prefix=""))),
)  # fmt: skip

DECLINED = (
    declined("TTL 0", with_ttl(DOWN, 0), Reason.TX_TTL),
    declined("TTL 1", with_ttl(DOWN, 1), Reason.TX_TTL),
    declined("hop limit 1", ipv6(CORE6, SUBSCRIBER6, hops=1), Reason.TX_TTL),
    declined("with options", packet(CORE, SUBSCRIBER, options=bytes(4)), Reason.TX_OPTIONS),
    declined("with hop-by-hop options", ipv6(CORE6, SUBSCRIBER6, header=0), Reason.TX_OPTIONS),
    declined("larger than the session takes", packet(CORE, SUBSCRIBER, payload=bytes(981)), Reason.TX_TOO_BIG,
             session(mtu=1000)),
    declined("larger than the path to the peer takes", packet(CORE, SUBSCRIBER, payload=bytes(1443)), Reason.TX_TOO_BIG),
    declined("a peer whose link address nobody asked for", DOWN, Reason.TX_NEIGHBOUR, session(peer=("192.0.2.77", 1701))),
    declined("a peer without a route", DOWN, Reason.TX_NO_ROUTE, session(peer=("203.0.113.1", 1701))),
    declined("a peer that is ourselves", DOWN, Reason.TX_NO_ROUTE, session(peer=SECOND)),
    declined("a sequenced session", DOWN, Reason.TX_TO_DAEMON, session(sequenced=True)),
    declined("an interface that XDP cannot send on", DOWN, Reason.TX_PORT, redirect=False, hooks=(Hook.XDP,)),
    declined("a burst with Length", with_ttl(packet(CORE, SUBSCRIBER, payload=bytes(1400)), 64), Reason.TX_UNUSUAL,
             session(with_length=True), gso_size=500, hooks=(Hook.TC,)),
    declined("a burst of what is neither TCP nor UDP", packet(CORE, SUBSCRIBER, protocol=47, payload=bytes(1400)),
             Reason.TX_UNUSUAL, gso_size=500, hooks=(Hook.TC,)),
    declined("a burst whose packets are too big", packet(CORE, SUBSCRIBER, payload=bytes(1400)), Reason.TX_TOO_BIG,
             session(mtu=500), gso_size=600, hooks=(Hook.TC,)),
)  # fmt: skip

PROGRAM_CASES = (
    *FORWARDED_UP,
    *KERNEL,
    *DAEMON,
    *DROPPED,
    *AWAY,
    *ECHOES,
    *NOT_OURS,
    *FORWARDED_DOWN,
    *DECLINED,
)
