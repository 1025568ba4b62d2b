"""The AVPs and messages of RFC 4951 as they lie on the wire."""

import struct

import pytest

from holdfast.wire import dictionary as d
from holdfast.wire.avp import Avp
from holdfast.wire.header import CONTROL_LENGTH
from holdfast.wire.messages import MAX_FSS, SPECS, Msg, decode, encode
from wire.vectors import SECRET, VECTOR, VECTORS, body

FSQ = body("v2.fsq")


def test_F_80_to_F_83_types_bits_and_lengths() -> None:
    layout = {
        a.type: (a.mandatory, a.hidable, a.sizes.start + 6)
        for a in (
            d.FAILOVER_CAPABILITY,
            d.TUNNEL_RECOVERY,
            d.SUGGESTED_CONTROL_SEQUENCE,
            d.FAILOVER_SESSION_STATE,
        )
    }
    assert layout == {
        76: (False, True, 12),
        77: (True, False, 16),
        78: (False, True, 12),
        79: (True, True, 16),
    }


def test_F_9_recovery_time_counts_only_with_control() -> None:
    value = struct.pack(">HI", 0b10, 9999)
    assert d.FAILOVER_CAPABILITY.decode(value) == d.FailoverCap(False, True, 0)
    assert d.FAILOVER_CAPABILITY(d.FailoverCap(False, True, 9999)).data.endswith(bytes(4))


def test_F_8_capability_that_can_nothing_is_as_good_as_none() -> None:
    message = decode(encode(Msg.SCCRQ, *decode(body("v2.sccrq.capability")).avps()[:5]) + NOTHING)
    assert message.fault is None and message.get(d.FAILOVER_CAPABILITY) is None and message.ignored == 1


NOTHING = struct.pack(">HHHHI", 12, 0, 76, 0, 1000)


@pytest.mark.parametrize(
    ("avp", "value"),
    [
        (d.FAILOVER_CAPABILITY, "fffd00007530"),
        (d.TUNNEL_RECOVERY, "ffffffff1234ffffabcd"),
        (d.SUGGESTED_CONTROL_SEQUENCE, "ffff00030064"),
        (d.FAILOVER_SESSION_STATE, "ffffffff0011ffff0a11"),
    ],
)
def test_F_89_reserved_bits_are_ignored_and_sent_as_0(avp: Avp[object], value: str) -> None:
    decoded = avp.decode(bytes.fromhex(value))
    assert avp(decoded).data[6:].hex() == value.replace("fffd", "0001").replace("ffff", "0000")


def test_F_84_F_85_queries_and_responses_are_optional_messages() -> None:
    assert encode(Msg.FSQ, d.FAILOVER_SESSION_STATE(d.SessionState(1, 2)))[:2] == b"\x00\x08"
    assert encode(Msg.FSR, d.FAILOVER_SESSION_STATE(d.SessionState(1, 2)))[:2] == b"\x00\x08"
    assert not decode(FSQ).mandatory


def test_F_90_queries_belong_to_the_tunnel() -> None:
    assert not SPECS[Msg.FSQ].session and not SPECS[Msg.FSR].session


@pytest.mark.parametrize("name", ["v2.fsq", "v2.fsr"])
def test_T_31_nothing_in_a_query_is_a_fault(name: str) -> None:
    odd = b"".join(
        (
            struct.pack(">HHH", 0x8006, 0, 4000),  # unknown, M=1
            struct.pack(">HHHH", 0x8008, 0, 9, 7),  # known, but not here
            struct.pack(">HHHH", 0x8008, 0, 79, 7),  # a malformed session state
            struct.pack(">HHHH", 0xC008, 0, 79, 7),  # a hidden one that cannot be read
        )
    )
    message = decode(body(name) + odd)
    message.check()
    states = message.all(d.FAILOVER_SESSION_STATE)
    assert states == decode(body(name)).all(d.FAILOVER_SESSION_STATE)
    assert [r.type for r in message.unknown] == [4000] and message.bad == {79}


def test_T_31_query_of_nothing_is_no_fault() -> None:
    assert decode(FSQ[:8]).fault is None


def test_T_36_full_query_fits_the_smallest_path() -> None:
    full = encode(Msg.FSQ, *[d.FAILOVER_SESSION_STATE(d.SessionState(1, 2))] * MAX_FSS)
    assert 20 + 8 + CONTROL_LENGTH + len(full) <= 1280
    assert len(decode(full).all(d.FAILOVER_SESSION_STATE)) == MAX_FSS


@pytest.mark.parametrize("size", [0, 2, 4, 5, 7, 8, 10])
def test_T_37_suggested_sequence_that_cannot_be_read_is_seen(size: int) -> None:
    own = VECTORS["avp.scs"]
    bad = struct.pack(">HHH", 6 + size, 0, 78) + bytes(size)
    message = decode(body("v2.sccrp.recovery").replace(own, bad))
    assert message.fault is None
    assert message.get(d.SUGGESTED_CONTROL_SEQUENCE) is None
    assert message.bad == {d.SUGGESTED_CONTROL_SEQUENCE.key}


def test_T_37_suggested_sequence_that_cannot_be_revealed_is_seen() -> None:
    carrier = body("v2.sccrp.recovery")
    own, hidden = VECTORS["avp.scs"], VECTORS["v2.hidden.78.scs"]
    without_vector = decode(carrier.replace(own, hidden), SECRET)
    without_secret = decode(carrier.replace(own, d.RANDOM_VECTOR(VECTOR).data + hidden))
    for message in (without_vector, without_secret):
        assert message.bad == {78} and d.SUGGESTED_CONTROL_SEQUENCE not in message


def test_F_87_F_88_senders_id_comes_first() -> None:
    recovery = decode(body("v2.sccrq.recovery")).need(d.TUNNEL_RECOVERY)
    assert (recovery.recover_tunnel_id, recovery.recover_remote_tunnel_id) == (0x1234, 0xABCD)
    alive, gone = decode(body("v2.fsr")).all(d.FAILOVER_SESSION_STATE)
    assert (alive.session_id, alive.remote_session_id) == (0xA11, 0x11)
    assert (gone.session_id, gone.remote_session_id) == (0, 0x12)
