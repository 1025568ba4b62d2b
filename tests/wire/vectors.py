"""Bytes that other code made: tests/data/vectors.json (each vector by name) and vectors.pcap (dialogues)."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from holdfast.wire.header import CONTROL_LENGTH, parse_control

DATA = Path(__file__).parent.parent / "data"
SECRET = b"failover-secret"
VECTOR = bytes(range(16))

VECTORS: dict[str, bytes] = {
    name: bytes.fromhex(text) for name, text in json.loads((DATA / "vectors.json").read_text()).items()
}

CONTROL = {
    name: data for name, data in VECTORS.items() if name.startswith("v2.") and data.startswith(b"\xc8\x02")
}
"""The L2TPv2 control messages, ZLBs among them."""


def body(name: str) -> bytes:
    """The AVPs of a control message."""
    data = VECTORS[name]
    return data[CONTROL_LENGTH : parse_control(data).end]


MESSAGES = [name for name in CONTROL if body(name)]
"""The control messages that are not ZLBs."""


def captured() -> Iterator[bytes]:
    """The UDP payloads of the capture, in order."""
    data = (DATA / "vectors.pcap").read_bytes()
    at = 24
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at + 8)
        packet = data[at + 16 : at + 16 + size]
        at += 16 + size
        ip = packet[14:]
        if ip[9] == 17:
            header = (ip[0] & 0x0F) * 4
            (length,) = struct.unpack_from(">H", ip, header + 4)
            yield ip[header + 8 : header + length]
