"""What is made of a peer's AVPs: known, unknown, hidden, repeated, malformed, missing (RFC 2661 4, 7.1)."""

import struct

import pytest

from holdfast.core.errors import Malformed
from holdfast.wire import dictionary as d
from holdfast.wire.avp import Avp, EncodedAvp
from holdfast.wire.codes import Cdn, General, PeerError, StopCcn
from holdfast.wire.hiding import hide
from holdfast.wire.messages import SPECS, Msg, decode, encode
from wire.vectors import MESSAGES, SECRET, VECTOR, body

SCCRQ = body("v2.sccrq.capability")
ICCN = body("v2.iccn")


def raw(kind: int, value: bytes = b"", *, m: bool = False, bits: int = 0, vendor: int = 0) -> bytes:
    return struct.pack(">HHH", (0x8000 if m else 0) | bits | 6 + len(value), vendor, kind) + value


@pytest.mark.parametrize("bit", [0x2000, 0x1000, 0x0800, 0x0400])
def test_V2_20_reserved_bit_makes_an_avp_unknown(bit: int) -> None:
    optional = decode(SCCRQ + raw(8, b"vendor", bits=bit))
    assert optional.fault is None and optional.get(d.VENDOR_NAME) is None and optional.ignored == 1
    mandatory = decode(SCCRQ + raw(4, bytes(4), m=True, bits=bit))
    assert mandatory.fault is not None and mandatory.fault.error is General.UNKNOWN_MANDATORY


def test_V2_21_unknown_mandatory_avp_in_a_tunnel_message_ends_the_tunnel() -> None:
    message = decode(SCCRQ + raw(4000, b"?", m=True))
    with pytest.raises(PeerError) as e:
        message.check()
    assert (e.value.code, e.value.error) == (StopCcn.GENERAL_ERROR, General.UNKNOWN_MANDATORY)
    assert "4000" in e.value.text
    assert message.get(d.HOST_NAME) == "lns1"


def test_V2_22_unknown_mandatory_avp_in_a_session_message_ends_the_session() -> None:
    with pytest.raises(PeerError) as e:
        decode(ICCN + raw(4000, b"?", m=True)).check()
    assert (e.value.code, e.value.error) == (Cdn.GENERAL_ERROR, General.UNKNOWN_MANDATORY)


def test_V2_23_unknown_optional_avp_is_kept_and_ignored() -> None:
    message = decode(ICCN[:8] + raw(4000, b"?") + ICCN[8:])
    message.check()
    (kept,) = message.unknown
    assert (kept.type, kept.vendor, kept.value, kept.mandatory) == (4000, 0, b"?", False)
    assert message.ignored == 1
    assert message.avps() == decode(ICCN).avps()


def test_V2_30_avp_of_an_unknown_vendor_is_unknown() -> None:
    known_type = raw(9, b"\x00\x05", vendor=9)
    assert decode(SCCRQ + known_type).get(d.ASSIGNED_TUNNEL_ID) == 0x1234
    fault = decode(SCCRQ + raw(9, b"\x00\x05", vendor=9, m=True)).fault
    assert fault is not None and fault.error is General.UNKNOWN_MANDATORY and "9/9" in fault.text


def test_V2_30_access_line_avps_are_known() -> None:
    line = d.AGENT_CIRCUIT_ID(b"atm 1/1"), d.ACTUAL_RATE_DOWN(50_000_000)
    base = d.ASSIGNED_SESSION_ID(5), d.CALL_SERIAL_NUMBER(6)
    message = decode(encode(Msg.ICRQ, *base, *line))
    assert message.get(d.AGENT_CIRCUIT_ID) == b"atm 1/1"
    assert message.get(d.ACTUAL_RATE_DOWN) == 50_000_000


def test_V2_24_malformed_optional_avp_is_ignored() -> None:
    message = decode(ICCN + raw(38, bytes(2)))
    message.check()
    assert message.ignored == 1 and message.bad == {38} and message.get(d.RX_CONNECT_SPEED) is None


def test_V2_24_malformed_mandatory_avp_is_a_fault() -> None:
    message = decode(body("v2.icrq") + raw(25, b"", m=True))
    assert message.fault is not None and message.fault.error is General.WRONG_LENGTH
    with pytest.raises(PeerError):
        message.check()


@pytest.mark.parametrize("avp", [d.ASSIGNED_TUNNEL_ID, d.RECEIVE_WINDOW_SIZE])
def test_V2_4_V2_78_zero_is_out_of_range(avp: Avp[int]) -> None:
    good = next(e.data for e in decode(SCCRQ).avps() if e.avp is avp)
    message = decode(SCCRQ.replace(good, raw(avp.type, b"\0\0", m=True)))
    assert message.fault is not None and message.fault.error is General.BAD_VALUE
    assert message.bad == {avp.key}


def test_first_fault_counts() -> None:
    message = decode(SCCRQ + raw(4000, m=True) + raw(10, b"", m=True) + raw(4001, m=True))
    assert message.fault is not None and "4000" in message.fault.text
    assert [r.type for r in message.unknown] == [4000, 4001]


@pytest.mark.parametrize("length", [0, 1, 5, 7, 1023])
def test_V2_25_avp_that_does_not_fit_is_malformed(length: int) -> None:
    with pytest.raises(Malformed):
        decode(SCCRQ + struct.pack(">HHH", length, 0, 4000))


@pytest.mark.parametrize(
    "start",
    [
        "",
        "8008000000",
        "80080000000e0a11",  # another AVP first
        "c0080000000000 01",  # hidden
        "a0080000000000 01",  # a reserved bit
        "800a0000000000010000",  # too long
        "80080009000000 01",  # a vendor's
    ],
)
def test_V2_26_message_type_comes_first_plain_and_of_its_length(start: str) -> None:
    with pytest.raises(Malformed):
        decode(bytes.fromhex(start))


def test_V2_26_message_type_again_is_ignored() -> None:
    message = decode(SCCRQ + raw(0, b"\0\x04", m=True))
    assert message.type is Msg.SCCRQ and message.fault is None and message.ignored == 1


@pytest.mark.parametrize("kind", [0, 5, 13, 17, 18, 19, 20, 99, 0xFFFF])
def test_V2_27_V2_66_unknown_message_type(kind: int) -> None:
    optional = decode(raw(0, struct.pack(">H", kind)) + raw(4000, m=True) + raw(9, b"\0\1", m=True))
    assert optional.type == kind and not optional.mandatory
    optional.check()
    with pytest.raises(PeerError) as e:
        decode(raw(0, struct.pack(">H", kind), m=True)).check()
    assert (e.value.code, e.value.error) == (StopCcn.GENERAL_ERROR, General.UNKNOWN_MANDATORY)


@pytest.mark.parametrize("name", MESSAGES)
def test_V2_28_missing_mandatory_avp_is_a_fault(name: str) -> None:
    whole = decode(body(name))
    spec = SPECS[whole.type]
    for key in spec.required:
        rest = b"".join(e.data for e in whole.avps() if e.avp.key != key)
        message = decode(spec.head + rest)
        if spec.forgiving or not spec.mandatory:
            assert message.fault is None
        else:
            assert message.fault is not None
            assert spec.allowed[key].name in message.fault.text
        with pytest.raises(PeerError) as e:
            message.need(spec.allowed[key])
        assert isinstance(e.value.code, Cdn if spec.session else StopCcn)


def test_V2_31_first_of_two_wins() -> None:
    message = decode(SCCRQ + d.HOST_NAME("other").data + d.ASSIGNED_TUNNEL_ID(9).data)
    message.check()
    assert message.get(d.HOST_NAME) == "lns1" and message.get(d.ASSIGNED_TUNNEL_ID) == 0x1234
    assert message.ignored == 2


def test_V2_31_some_avps_may_repeat() -> None:
    states = [d.SessionState(i, i + 1) for i in range(3)]
    message = decode(encode(Msg.FSQ, *(d.FAILOVER_SESSION_STATE(s) for s in states)))
    assert message.all(d.FAILOVER_SESSION_STATE) == states
    assert message.get(d.FAILOVER_SESSION_STATE) == states[0]
    assert decode(body("v2.csun")).all(d.FAILOVER_SESSION_STATE) == []
    assert decode(body("v2.icrp")).all(d.ASSIGNED_SESSION_ID) == [0x11]


@pytest.mark.parametrize("m", [True, False])
def test_M_bit_of_a_known_avp_is_not_looked_at(m: bool) -> None:
    flipped = bytearray(SCCRQ)
    at = 8
    while at < len(flipped):
        size = struct.unpack_from(">H", flipped, at)[0] & 0x3FF
        flipped[at] = flipped[at] & 0x7F | (0x80 if m else 0)
        at += size
    assert decode(bytes(flipped)).avps() == decode(SCCRQ).avps()


def test_known_avp_in_a_message_where_it_does_not_belong_is_ignored() -> None:
    message = decode(ICCN + d.ASSIGNED_SESSION_ID(9).data)
    assert message.fault is None and message.ignored == 1 and d.ASSIGNED_SESSION_ID not in message


def hidden(avp: EncodedAvp, *, secret: bytes = SECRET, vector: bytes = VECTOR) -> bytes:
    flags, vendor, kind = struct.unpack_from(">HHH", avp.data)
    value = hide(kind, avp.data[6:], secret, vector)
    return struct.pack(">HHH", flags & 0x8000 | 0x4000 | 6 + len(value), vendor, kind) + value


def test_V2_35_hidden_avp_without_a_secret_is_a_fault() -> None:
    data = SCCRQ + d.RANDOM_VECTOR(VECTOR).data + hidden(d.CHALLENGE(b"c" * 16))
    assert decode(data, SECRET).get(d.CHALLENGE) == b"c" * 16
    fault = decode(data).fault
    assert fault is not None and fault.error is General.BAD_VALUE


def test_V2_36_hidden_avp_without_a_random_vector_before_it_is_a_fault() -> None:
    data = SCCRQ + hidden(d.CHALLENGE(b"c" * 16)) + d.RANDOM_VECTOR(VECTOR).data
    assert decode(data, SECRET).fault is not None


def test_V2_36_closest_random_vector_before_an_avp_counts() -> None:
    first, second = bytes(16), bytes(range(16, 32))
    data = SCCRQ + b"".join(
        (
            d.RANDOM_VECTOR(first).data,
            hidden(d.CHALLENGE(b"c" * 16), vector=first),
            d.RANDOM_VECTOR(second).data,
            hidden(d.VENDOR_NAME("us"), vector=second),
        )
    )
    message = decode(data, SECRET)
    assert message.fault is None and message.ignored == 0
    assert message.get(d.CHALLENGE) == b"c" * 16 and message.get(d.VENDOR_NAME) == "us"
    assert message.all(d.RANDOM_VECTOR) == [first, second]


def test_V2_39_wrong_secret_makes_a_malformed_avp() -> None:
    data = d.RANDOM_VECTOR(VECTOR).data + hidden(d.PROXY_AUTHEN_RESPONSE(b"hunter2pass"))
    message = decode(ICCN[:8] + data + ICCN[8:], b"wrong")
    assert message.fault is None and d.PROXY_AUTHEN_RESPONSE.key in message.bad


@pytest.mark.parametrize("avp", [d.HOST_NAME("x"), d.RECEIVE_WINDOW_SIZE(4), d.PROTOCOL_VERSION(0x100)])
def test_V2_40_avp_that_is_never_hidden_is_malformed_when_it_is(avp: EncodedAvp) -> None:
    own = next(e.data for e in decode(SCCRQ).avps() if e.avp is avp.avp)
    data = SCCRQ.replace(own, d.RANDOM_VECTOR(VECTOR).data + hidden(avp))
    message = decode(data, SECRET)
    assert message.fault is not None and message.bad == {avp.avp.key}


def test_V2_183_proxy_authen_id_has_eight_octets() -> None:
    assert d.PROXY_AUTHEN_ID(7).data.hex() == "0008000000200007"
    assert d.PROXY_AUTHEN_ID.decode(b"\xee\x07") == 7


def test_V2_180_longest_avp_is_1023_octets_with_its_header() -> None:
    longest = d.CHALLENGE(b"c" * 1017)
    assert len(longest.data) == 1023
    assert decode(SCCRQ + longest.data).get(d.CHALLENGE) == b"c" * 1017


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("0004", d.ResultCode(4)),
        ("00020005", d.ResultCode(2, 5)),
        ("00020008" + b"AVP 4000".hex(), d.ResultCode(2, 8, "AVP 4000")),
        ("000200", d.ResultCode(2)),
        ("00020006ff", d.ResultCode(2, 6, "\ufffd")),
    ],
)
def test_result_code_in_all_its_lengths(value: str, code: d.ResultCode) -> None:
    assert d.RESULT_CODE.decode(bytes.fromhex(value)) == code


def test_text_of_a_peer_is_cut_to_what_fits_again() -> None:
    code = d.RESULT_CODE.decode(bytes.fromhex("00020006") + b"\xff" * 1013)
    assert len(code.text) == 250
    assert d.RESULT_CODE.decode(d.RESULT_CODE(code).data[6:]) == code


def test_host_names_of_any_octets_stay_apart_and_stay_themselves() -> None:
    names = [d.HOST_NAME.decode(octets) for octets in (b"\xe9", b"\xc3\xa9", b"\xff", b"\xfe")]
    assert len(set(names)) == 4
    assert d.HOST_NAME(names[0]).data[6:] == b"\xe9"


def test_vendor_name_that_is_not_utf8_is_ignored() -> None:
    message = decode(SCCRQ + raw(8, b"\xff"))
    assert message.fault is None and message.bad == {8}
