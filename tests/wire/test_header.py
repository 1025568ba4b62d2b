"""Headers of control and data messages (RFC 2661 3.1)."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import Malformed
from holdfast.wire import header
from holdfast.wire.header import control_header, parse_control, parse_data
from wire.vectors import VECTORS

HELLO = VECTORS["v2.hello"]


def with_flags(data: bytes, flags: int) -> bytes:
    return struct.pack(">H", flags) + data[2:]


def test_V2_1_control_starts_with_c802() -> None:
    assert control_header(1, 2, 3, 4, 8).hex() == "c8020014" + "0001" + "0002" + "0003" + "0004"


@pytest.mark.parametrize("flags", [0x4802, 0x8802, 0xC002, 0xCA02])
def test_V2_1_without_T_L_or_S_or_with_O_it_is_no_control_message(flags: int) -> None:
    with pytest.raises(Malformed):
        parse_control(with_flags(HELLO, flags))


@pytest.mark.parametrize("bit", [0x2000, 0x1000, 0x0400, 0x0080, 0x0040, 0x0020, 0x0010])
def test_V2_2_reserved_bits_are_ignored(bit: int) -> None:
    assert parse_control(with_flags(HELLO, 0xC802 | bit)) == parse_control(HELLO)
    assert parse_data(struct.pack(">HHH", 2 | bit, 7, 8) + b"x") == (7, 8, 6, 7, -1)


def test_V2_8_priority_bit_changes_nothing() -> None:
    assert parse_control(with_flags(HELLO, 0xC902)) == parse_control(HELLO)
    assert parse_data(struct.pack(">HHH", 0x0102, 7, 8) + b"x") == (7, 8, 6, 7, -1)


@pytest.mark.parametrize("version", [0, 1, *range(3, 16)])
def test_V2_3_other_versions_are_refused(version: int) -> None:
    assert header.version(with_flags(HELLO, 0xC800 | version)) == version
    with pytest.raises(Malformed):
        parse_control(with_flags(HELLO, 0xC800 | version))
    with pytest.raises(Malformed):
        parse_data(struct.pack(">HHH", version, 7, 8) + b"x")


def test_version_and_kind_of_too_little() -> None:
    assert header.version(b"\xc8") == -1
    assert not header.is_control(b"")
    assert header.is_control(b"\xc8")
    assert not header.is_control(b"\x48\x02")


def test_V2_5_octets_after_length_are_not_the_message() -> None:
    assert parse_control(HELLO + b"trailer").end == len(HELLO)
    assert parse_data(struct.pack(">HHHH", 0x4002, 9, 7, 8) + b"xtrailer") == (7, 8, 8, 9, -1)


@pytest.mark.parametrize("length", [0, 11, len(HELLO) + 1, 0xFFFF])
def test_V2_5_length_that_does_not_fit_is_refused(length: int) -> None:
    with pytest.raises(Malformed):
        parse_control(HELLO[:2] + struct.pack(">H", length) + HELLO[4:])
    with pytest.raises(Malformed):
        parse_data(struct.pack(">HHHH", 0x4802, length, 7, 8) + b"nsnr")


@pytest.mark.parametrize("nr", [0, 1, 0xFFFF])
def test_V2_6_nr_of_data_is_not_looked_at(nr: int) -> None:
    assert parse_data(struct.pack(">HHHHH", 0x0802, 7, 8, 42, nr) + b"x") == (7, 8, 10, 11, 42)


@pytest.mark.parametrize("size", [0, 8])
def test_V2_7_payload_comes_after_the_offset_pad(size: int) -> None:
    data = struct.pack(">HHHH", 0x0202, 7, 8, size) + bytes(size) + b"payload"
    assert parse_data(data) == (7, 8, 8 + size, len(data), -1)


def test_V2_7_offset_past_the_end_is_refused() -> None:
    with pytest.raises(Malformed):
        parse_data(struct.pack(">HHHH", 0x0202, 7, 8, 4) + b"abc")
    with pytest.raises(Malformed):
        parse_data(struct.pack(">HHH", 0x0202, 7, 8))


def test_V2_7_offset_ends_at_length_not_at_the_datagram() -> None:
    with pytest.raises(Malformed):
        parse_data(struct.pack(">HHHHH", 0x4202, 10, 7, 8, 4) + b"trailer")


def test_data_with_everything() -> None:
    head = struct.pack(">HHHHHHH", 0x4A02, 20, 7, 8, 5, 6, 2)
    assert parse_data(head + b"--pppp" + b"trailer") == (7, 8, 16, 20, 5)


@pytest.mark.parametrize("ids", [(0, 8), (7, 0), (0, 0)])
@pytest.mark.parametrize("flags", [0x0002, 0x0802, 0x0202])
def test_V2_189_data_for_id_0_meets_no_session(flags: int, ids: tuple[int, int]) -> None:
    with pytest.raises(Malformed):
        parse_data(struct.pack(">HHH", flags, *ids) + bytes(8))


def test_V2_189_control_message_whose_T_bit_is_lost_meets_no_session() -> None:
    with pytest.raises(Malformed):
        parse_data(with_flags(HELLO, 0x4802))


def test_data_header_is_plain() -> None:
    assert header.data_header(0xABCD, 0x11).hex() == "0002abcd0011"
    assert header.sequenced_data_header(0xABCD, 0x11, 9).hex() == "0802abcd001100090000"


@given(st.binary(max_size=40))
def test_V2_13_any_datagram_parses_within_itself_or_is_malformed(data: bytes) -> None:
    try:
        assert 12 <= parse_control(data).end <= len(data)
    except Malformed as e:
        assert str(e)
    for form in (data, memoryview(data)):
        try:
            tunnel_id, session_id, start, end, ns = parse_data(form)
        except Malformed:
            continue
        assert tunnel_id and session_id and 6 <= start <= end <= len(data) and -1 <= ns <= 0xFFFF


@given(st.sampled_from([0x0002, 0x4002, 0x0802, 0x4802, 0x0202, 0x4A02]), st.binary(max_size=30))
def test_V2_13_any_data_header_parses_within_itself_or_is_malformed(flags: int, rest: bytes) -> None:
    data = struct.pack(">H", flags) + rest
    try:
        _, _, start, end, _ = parse_data(data)
    except Malformed:
        return
    assert 6 <= start <= end <= len(data)
