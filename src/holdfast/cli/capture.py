"""Packets of a trace in the forms that the command writes: pcap, and JSON for programs and for eyes."""

import struct
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

import msgspec

from holdfast.core.errors import Malformed
from holdfast.daemon.views import TracedPacket
from holdfast.wire import header, ppp

_LINKTYPE_RAW: Final = 101
_MAGIC: Final = 0xA1B2C3D4
_OUTER: Final = 28
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmp6"}


def pcap_header(snaplen: int) -> bytes:
    """The start of a file of IP packets without link headers."""
    return struct.pack("=IHHiIII", _MAGIC, 2, 4, 0, 0, snaplen, _LINKTYPE_RAW)


def pcap_record(packet: TracedPacket) -> bytes:
    """A packet in such a file."""
    seconds, micros = divmod(packet.at_utc_us, 1_000_000)
    return struct.pack("=IIII", seconds & 0xFFFFFFFF, micros, len(packet.data), packet.length) + packet.data


def json_line(packet: TracedPacket, *, raw: bool) -> bytes:
    """A packet as a line of JSON."""
    at = datetime.fromtimestamp(packet.at_utc_us / 1_000_000, UTC)
    shown = {
        "time": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "direction": "to-peer" if packet.to_peer else "from-peer",
        "length": packet.length,
        "summary": _outer_summary(packet.data) if raw else _summary(packet.data),
        "hex": packet.data.hex(),
    }
    return msgspec.json.encode(shown) + b"\n"


def _summary(packet: bytes) -> str:
    """Who speaks to whom, and by what protocol; "" if that is not among the octets."""
    version = packet[0] >> 4 if packet else 0
    at, size, protocol = (12, 4, 9) if version == 4 else (8, 16, 6)
    if version not in (4, 6) or len(packet) < at + 2 * size:
        return ""
    source, to = ip_address(packet[at : at + size]), ip_address(packet[at + size : at + 2 * size])
    number = packet[protocol]
    return f"{source} > {to} {_PROTOCOLS.get(number, f'protocol {number}')}"


def _outer_summary(packet: bytes) -> str:
    """What a data message carries."""
    datagram = packet[_OUTER:]
    try:
        _, session, start, end, _ = header.parse_data(datagram)
        protocol, at = ppp.split(datagram[start:end])
    except Malformed:
        return _summary(packet)
    if protocol in (ppp.Protocol.IPV4, ppp.Protocol.IPV6):
        return f"l2tp {session}: {_summary(datagram[start + at : end])}"
    named = {p.value: p.name.lower() for p in ppp.Protocol}.get(protocol, f"protocol {protocol:#06x}")
    code = datagram[start + at : start + at + 2]
    return f"l2tp {session}: {named}" + (f" code {code[0]} id {code[1]}" if len(code) == 2 else "")
