"""IPv4 as far as a tunnel has to know it: sizes, fragments, "fragmentation needed", and the MSS of a SYN.

Pure functions over whole packets. None of them verifies the IP header's checksum: the kernel does, wherever a
packet goes next. RFC 791, RFC 792, RFC 1191, RFC 6691.
"""

import socket
import struct

HEADER = 20
MINIMUM_MTU = 68  # RFC 791: every link carries that much

_FIXED = struct.Struct(">BBHHHBBH4s4s")
_DONT_FRAGMENT, _MORE_FRAGMENTS, _OFFSET = 0x4000, 0x2000, 0x1FFF
ICMP, TCP = 1, 6
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
SYN = 0x02
_QUOTED = 8  # octets of payload behind the header that an ICMP error quotes (RFC 792)


def checksum(data: bytes | bytearray | memoryview) -> int:
    """The Internet checksum (RFC 1071); 0 over data that includes its own."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def total_length(data: bytes | memoryview) -> int:
    """The length of the IPv4 packet that `data` begins with, or 0 if there is no whole one."""
    if len(data) < HEADER or data[0] >> 4 != 4:
        return 0
    header = (data[0] & 15) * 4
    total = data[2] << 8 | data[3]
    return total if HEADER <= header <= total <= len(data) else 0


def dont_fragment(packet: bytes | memoryview) -> bool:
    """Whether routers may not fragment this packet."""
    return bool(packet[6] & _DONT_FRAGMENT >> 8)


def build(source: bytes, destination: bytes, protocol: int, payload: bytes, *, ttl: int = 64) -> bytes:
    """A packet without options, with DF clear and identification 0; addresses are four octets each."""
    head = _FIXED.pack(0x45, 0, HEADER + len(payload), 0, 0, ttl, protocol, 0, source, destination)
    return _with_checksum(bytearray(head)) + payload


def fragments(packet: bytes, mtu: int) -> list[bytes]:
    """The packet cut to `mtu` octets (RFC 791 3.2), which must be 68 or more; alone in the list if it fits.

    Every fragment keeps the whole header. Options that should be in the first one only are thus in all:
    harmless, and rarer than rare.
    """
    if len(packet) <= mtu:
        return [packet]
    header_length = (packet[0] & 15) * 4
    step = (mtu - header_length) & ~7
    (word,) = struct.unpack_from(">H", packet, 6)
    payload = packet[header_length:]
    cut: list[bytes] = []
    for start in range(0, len(payload), step):
        piece = payload[start : start + step]
        head = bytearray(packet[:header_length])
        more = _MORE_FRAGMENTS if start + step < len(payload) else word & _MORE_FRAGMENTS
        offset = (word & _OFFSET) + start // 8
        struct.pack_into(">HHH", head, 2, header_length + len(piece), word_of(packet, 4), more | offset)
        cut.append(_with_checksum(head) + piece)
    return cut


def word_of(packet: bytes, at: int) -> int:
    """The 16-bit field at an offset."""
    return packet[at] << 8 | packet[at + 1]


def fragmentation_needed(packet: bytes, mtu: int, source: str = "") -> bytes | None:
    """The ICMP error that tells the sender of `packet` that `mtu` octets would pass (RFC 1191 4), or None.

    None where RFC 1122 3.2.2 forbids an error: about ICMP errors, later fragments, and addresses that are not
    one host's. `source` is who says so; "" stands for the packet's own destination, the one address that lies
    behind the tunnel for certain, so that reverse-path filters let it through.
    """
    header_length = (packet[0] & 15) * 4
    sender, destination = packet[12:16], packet[16:20]
    if word_of(packet, 6) & _OFFSET or destination[0] >= 224 or sender[0] >= 224 or sender[0] == 0:
        return None
    if (
        packet[9] == ICMP
        and packet[header_length : header_length + 1]
        and packet[header_length] in _ICMP_ERRORS
    ):
        return None
    quoted = packet[: header_length + _QUOTED]
    message = bytearray(struct.pack(">BBHHH", 3, 4, 0, 0, mtu) + quoted)
    struct.pack_into(">H", message, 2, checksum(message))
    return build(socket.inet_aton(source) if source else destination, sender, ICMP, bytes(message))


def is_syn(packet: bytes | bytearray | memoryview) -> bool:
    """Whether this is the first fragment of a TCP segment with SYN set."""
    at = (packet[0] & 15) * 4 + 13
    first = not (packet[6] << 8 | packet[7]) & _OFFSET
    return packet[9] == TCP and first and len(packet) > at and bool(packet[at] & SYN)


def clamp_mss(packet: bytes, mtu: int) -> bytes:
    """The packet with its MSS lowered to what `mtu` carries, if it is a SYN that announces more.

    Both checksums stay right: only TCP's covers the option, and it is corrected by the difference (RFC 1624).
    """
    if not is_syn(packet):
        return packet
    tcp = (packet[0] & 15) * 4
    end = min(tcp + (packet[tcp + 12] >> 4) * 4 if len(packet) > tcp + 12 else 0, len(packet))
    most = mtu - 2 * HEADER
    at = tcp + HEADER
    while at + 1 < end:
        kind = packet[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        length = packet[at + 1]
        if kind == 2 and length == 4 and at + 4 <= end:
            return _lower(packet, tcp, at + 2, most)
        if length < 2:
            break
        at += length
    return packet


def _lower(packet: bytes, tcp: int, at: int, most: int) -> bytes:
    """Write `most` into the 16-bit option value at `at` if that is less, and correct TCP's checksum."""
    announced = word_of(packet, at)
    if announced <= most:
        return packet
    changed = bytearray(packet)
    struct.pack_into(">H", changed, at, most)
    old, new = announced, most
    if (at - tcp) % 2:  # behind a lone NOP the value straddles two words of the sum
        old, new = _swap(old), _swap(new)
    total = (~word_of(packet, tcp + 16) & 0xFFFF) + (~old & 0xFFFF) + new
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into(">H", changed, tcp + 16, ~total & 0xFFFF)
    return bytes(changed)


def _swap(word: int) -> int:
    return (word & 0xFF) << 8 | word >> 8


def _with_checksum(head: bytearray) -> bytes:
    head[10:12] = b"\0\0"
    struct.pack_into(">H", head, 10, checksum(head))
    return bytes(head)
