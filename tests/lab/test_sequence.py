"""A capture drawn as a message sequence: hand-made frames of an LAC, 10.0.0.1, and an LNS, 10.0.0.2."""

import socket
import struct
from pathlib import Path

import pytest

from holdfast.lab.sequence import main, sequence

HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
LAC, LNS = "10.0.0.1", "10.0.0.2"


def control(tunnel: int, session: int, ns: int, nr: int, message: int = 0) -> bytes:
    """A control message with nothing but its Message Type; 0: a ZLB."""
    avp = struct.pack(">HHHH", 0x8008, 0, 0, message) if message else b""
    return struct.pack(">HHHHHH", 0xC802, 12 + len(avp), tunnel, session, ns, nr) + avp


def record(at_ms: int, source: str, target: str, l2tp: bytes, fragment: int = 0) -> bytes:
    udp = struct.pack(">HHHH", 1701, 1701, 8 + len(l2tp), 0) + l2tp
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, fragment, 64, 17, 0) + addresses + udp
    frame = bytes(12) + b"\x08\x00" + ip
    return struct.pack("<IIII", 100, at_ms * 1_000_000, len(frame), len(frame)) + frame


DATA = record(5, LNS, LAC, b"\x00\x02\x00\x01\x00\x02\xff\x03\xc0\x21")
RECORDS = [
    record(0, LAC, LNS, control(0, 0, 0, 0, 1)),
    record(1, LNS, LAC, control(7, 0, 0, 1, 2)),
    DATA,
    record(6, LNS, LAC, b"\xc8 the rest of something", fragment=3),
    record(900, LNS, LAC, control(7, 0, 4, 10, 6)),
    record(901, LAC, LNS, control(9, 5, 12, 5) + control(9, 0, 12, 5, 999)),
]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    file = tmp_path / "l2tp.pcap"
    file.write_bytes(HEADER + b"".join(RECORDS))
    return file


def test_control_messages_are_drawn_and_data_is_not(capture: Path) -> None:
    head, *lines = sequence(capture)
    assert head.split() == ["s", LAC, LNS]
    assert [line.split() for line in lines] == [
        ["0.0000", "SCCRQ", "to", "0", "Ns", "0", "Nr", "0", "------------------>"],
        ["0.0010", "<------------------", "SCCRP", "to", "7", "Ns", "0", "Nr", "1"],
        ["0.9000", "<------------------", "HELLO", "to", "7", "Ns", "4", "Nr", "10"],
        ["0.9010", "ZLB", "to", "9/5", "Ns", "12", "Nr", "5", "------------------>"],
        ["0.9010", "999", "to", "9", "Ns", "12", "Nr", "5", "------------------>"],
    ]


def test_what_came_before_can_be_left_out(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(capture), "--after", "0.5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_record_that_was_cut_off_is_left_out(capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-3])
    assert len(list(sequence(capture))) == 4


def test_another_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.write_text("not a capture")
    assert main([str(other)]) == 1
    assert "no capture" in capsys.readouterr().err
    assert main([str(tmp_path / "none")]) == 1
