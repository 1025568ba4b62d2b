"""Golden bytes of other code, both ways: what they mean, and that we would send the same."""

import pytest

from holdfast.core.errors import Malformed
from holdfast.wire import dictionary as d
from holdfast.wire.auth import challenge_response, verify
from holdfast.wire.avp import EncodedAvp
from holdfast.wire.header import CONTROL_LENGTH, ControlHeader, control_header, parse_control, parse_data
from holdfast.wire.header import sequenced_data_header as sequenced
from holdfast.wire.messages import Hiding, Msg, decode, encode
from wire.vectors import CONTROL, MESSAGES, SECRET, VECTOR, VECTORS, body, captured

RE_CHALLENGE = bytes(range(0x10, 0x20))
RM_CHALLENGE = bytes(range(0x20, 0x30))


def _set_up(host_name: str, tunnel_id: int) -> list[EncodedAvp]:
    return [
        d.PROTOCOL_VERSION(d.VERSION_1_0),
        d.FRAMING_CAPABILITIES(d.ASYNC_FRAMING | d.SYNC_FRAMING),
        d.HOST_NAME(host_name),
        d.ASSIGNED_TUNNEL_ID(tunnel_id),
        d.RECEIVE_WINDOW_SIZE(16),
    ]


MEANING: dict[str, tuple[tuple[int, int, int, int], Msg, list[EncodedAvp]]] = {
    "v2.sccrq.capability": (
        (0, 0, 0, 0),
        Msg.SCCRQ,
        [*_set_up("lns1", 0x1234), d.FAILOVER_CAPABILITY(d.FailoverCap(True, True, 30_000))],
    ),
    "v2.sccrq.recovery": (
        (0, 0, 0, 0),
        Msg.SCCRQ,
        [
            *_set_up("lns1", 0x5678),
            d.CHALLENGE(RE_CHALLENGE),
            d.TIE_BREAKER(bytes(range(1, 9))),
            d.TUNNEL_RECOVERY(d.TunnelRecovery(0x1234, 0xABCD)),
        ],
    ),
    "v2.sccrp.recovery": (
        (0x5678, 0, 0, 1),
        Msg.SCCRP,
        [
            *_set_up("lac1", 0x9ABC),
            d.CHALLENGE(RM_CHALLENGE),
            d.CHALLENGE_RESPONSE(challenge_response(Msg.SCCRP, SECRET, RE_CHALLENGE)),
            d.SUGGESTED_CONTROL_SEQUENCE(d.SuggestedSequence(3, 100)),
        ],
    ),
    "v2.scccn.recovery": (
        (0x9ABC, 0, 1, 1),
        Msg.SCCCN,
        [d.CHALLENGE_RESPONSE(challenge_response(Msg.SCCCN, SECRET, RM_CHALLENGE))],
    ),
    "v2.stopccn.recovery": (
        (0x9ABC, 0, 2, 1),
        Msg.STOPCCN,
        [d.ASSIGNED_TUNNEL_ID(0x5678), d.RESULT_CODE(d.ResultCode(1))],
    ),
    "v2.stopccn.reject": (
        (0x5678, 0, 0, 1),
        Msg.STOPCCN,
        [d.ASSIGNED_TUNNEL_ID(0x9ABC), d.RESULT_CODE(d.ResultCode(4))],
    ),
    "v2.fsq": (
        (0xABCD, 0, 3, 100),
        Msg.FSQ,
        [
            d.FAILOVER_SESSION_STATE(d.SessionState(0x11, 0xA11)),
            d.FAILOVER_SESSION_STATE(d.SessionState(0x12, 0xA12)),
        ],
    ),
    "v2.fsr": (
        (0x1234, 0, 100, 4),
        Msg.FSR,
        [
            d.FAILOVER_SESSION_STATE(d.SessionState(0xA11, 0x11)),
            d.FAILOVER_SESSION_STATE(d.SessionState(0, 0x12)),
        ],
    ),
    "v2.cdn.icrq-for-established": (
        (0xABCD, 0xA11, 4, 102),
        Msg.CDN,
        [d.RESULT_CODE(d.ResultCode(2, 5)), d.ASSIGNED_SESSION_ID(0x11)],
    ),
    "v2.icrq": (
        (0x1234, 0, 1, 2),
        Msg.ICRQ,
        [
            d.ASSIGNED_SESSION_ID(0xA11),
            d.CALL_SERIAL_NUMBER(1001),
            d.BEARER_TYPE(0),
            d.CONNECT_SPEED_UPDATE_ENABLE(True),
        ],
    ),
    "v2.icrp": ((0xABCD, 0xA11, 2, 2), Msg.ICRP, [d.ASSIGNED_SESSION_ID(0x11)]),
    "v2.iccn": (
        (0x1234, 0x11, 2, 3),
        Msg.ICCN,
        [
            d.TX_CONNECT_SPEED(100_000_000),
            d.FRAMING_TYPE(d.SYNC_FRAMING),
            d.PROXY_AUTHEN_TYPE(2),
            d.PROXY_AUTHEN_NAME(b"bob"),
            d.PROXY_AUTHEN_CHALLENGE(RE_CHALLENGE),
            d.PROXY_AUTHEN_ID(7),
            d.PROXY_AUTHEN_RESPONSE(bytes.fromhex("e2d99b1d534d6cfd13fbd0c517950b27")),
            d.SEQUENCING_REQUIRED(True),
        ],
    ),
    "v2.wen": ((0x1234, 0x11, 3, 3), Msg.WEN, [d.CALL_ERRORS(d.CallErrors(1, 2, 3, 4, 5, 6))]),
    "v2.sli": ((0xABCD, 0xA11, 3, 4), Msg.SLI, [d.ACCM(d.Accm(0x000A0000, 0xFFFFFFFF))]),
    "v2.hello": ((0xABCD, 0, 4, 4), Msg.HELLO, []),
    "v2.cdn.ppp-cause": (
        (0xABCD, 0xA11, 5, 4),
        Msg.CDN,
        [
            d.RESULT_CODE(d.ResultCode(3)),
            d.ASSIGNED_SESSION_ID(0x11),
            d.PPP_DISCONNECT_CAUSE(d.PppDisconnect(8, 0xC021, 0)),
        ],
    ),
    "v2.csun": (
        (0x1234, 0, 4, 6),
        Msg.CSUN,
        [d.CONNECT_SPEED_UPDATE(d.ConnectSpeed(0x11, 50_000_000, 10_000_000))],
    ),
    "v2.csurq": ((0xABCD, 0, 6, 5), Msg.CSURQ, [d.CONNECT_SPEED_UPDATE(d.ConnectSpeed(0xA11))]),
}

ZLBS = {
    "v2.zlb.recovery": (0x5678, 0, 1, 2),
    "v2.stopccn.zlb": (0x5678, 0, 1, 3),
    "v2.fsr.zlb": (0xABCD, 0, 4, 101),
}


def test_every_control_vector_is_told_here() -> None:
    assert set(MESSAGES) == set(MEANING)
    assert set(CONTROL) == set(MEANING) | set(ZLBS)


@pytest.mark.parametrize("name", MEANING)
def test_message_encodes_to_the_vector(name: str) -> None:
    ids, msg, avps = MEANING[name]
    encoded = encode(msg, *avps)
    assert (control_header(*ids, len(encoded)) + encoded).hex() == VECTORS[name].hex()


@pytest.mark.parametrize("name", MEANING)
def test_vector_decodes_to_its_meaning(name: str) -> None:
    ids, msg, avps = MEANING[name]
    data = VECTORS[name]
    assert parse_control(data) == ControlHeader(*ids, len(data))
    message = decode(memoryview(data)[CONTROL_LENGTH:])
    assert message.type is msg
    assert message.fault is None and not message.ignored and not message.unknown and not message.bad
    assert message.avps() == avps


@pytest.mark.parametrize("name", ZLBS)
def test_zlb_is_a_header_alone(name: str) -> None:
    assert control_header(*ZLBS[name], 0) == VECTORS[name]
    assert parse_control(VECTORS[name]) == ControlHeader(*ZLBS[name], CONTROL_LENGTH)


AVPS = {
    "avp.fcap.C1D1.30000ms": d.FAILOVER_CAPABILITY(d.FailoverCap(True, True, 30_000)),
    "avp.fcap.C1D0.0ms": d.FAILOVER_CAPABILITY(d.FailoverCap(True, False)),
    "avp.fcap.C0D1.0ms": d.FAILOVER_CAPABILITY(d.FailoverCap(False, True)),
    "avp.trec.v2": d.TUNNEL_RECOVERY(d.TunnelRecovery(0x1234, 0xABCD)),
    "avp.scs": d.SUGGESTED_CONTROL_SEQUENCE(d.SuggestedSequence(3, 100)),
    "avp.fss.v2": d.FAILOVER_SESSION_STATE(d.SessionState(0x11, 0xA11)),
    "v2.rv": d.RANDOM_VECTOR(VECTOR),
}


@pytest.mark.parametrize("name", AVPS)
def test_avp_encodes_to_the_vector(name: str) -> None:
    assert AVPS[name].data == VECTORS[name]


HIDDEN = {
    "v2.hidden.33.short": (d.PROXY_AUTHEN_RESPONSE(b"hunter2pass"), b""),
    "v2.hidden.33.pad5": (d.PROXY_AUTHEN_RESPONSE(b"hunter2pass"), b"\xee" * 5),
    "v2.hidden.30.long": (d.PROXY_AUTHEN_NAME(b"subscriber@isp.example"), b""),
    "v2.hidden.78.scs": (d.SUGGESTED_CONTROL_SEQUENCE(d.SuggestedSequence(3, 100)), b""),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_V2_38_hidden_avp_is_the_vector(name: str) -> None:
    avp, padding = HIDDEN[name]
    hiding = Hiding(secret=SECRET, vector=VECTOR, avps=frozenset({avp.avp}), padding=padding)
    assert hiding.apply(avp).hex() == VECTORS[name].hex()


@pytest.mark.parametrize("name", HIDDEN)
def test_V2_36_hidden_vector_is_read_with_the_random_vector_before_it(name: str) -> None:
    avp, _ = HIDDEN[name]
    carrier = "v2.sccrp.recovery" if avp.avp is d.SUGGESTED_CONTROL_SEQUENCE else "v2.iccn"
    # the carrier's own AVP of that type gives way
    own = next(e.data for e in MEANING[carrier][2] if e.avp is avp.avp)
    message = decode(body(carrier).replace(own, VECTORS["v2.rv"] + VECTORS[name]), SECRET)
    assert message.fault is None
    assert avp in message.avps()


def test_every_v2_vector_is_told_here() -> None:
    told = {*MEANING, *ZLBS, *AVPS, *HIDDEN, "v2.chap.sccrp", "v2.chap.scccn", "v2.data.seq", "v2.data.lseq"}
    later = {"avp.trec.v3", "avp.fss.v3"}
    assert {name for name in VECTORS if not name.startswith("v3.")} == told | later


def test_V2_188_response_is_keyed_by_its_own_message() -> None:
    assert challenge_response(Msg.SCCRP, SECRET, RE_CHALLENGE) == VECTORS["v2.chap.sccrp"]
    assert challenge_response(Msg.SCCCN, SECRET, RM_CHALLENGE) == VECTORS["v2.chap.scccn"]
    assert challenge_response(Msg.SCCRQ, SECRET, RE_CHALLENGE) != VECTORS["v2.chap.sccrp"]


def test_V2_90_response_is_verified() -> None:
    good = VECTORS["v2.chap.scccn"]
    assert verify(Msg.SCCCN, SECRET, RM_CHALLENGE, good)
    assert not verify(Msg.SCCRP, SECRET, RM_CHALLENGE, good)
    assert not verify(Msg.SCCCN, b"another", RM_CHALLENGE, good)
    assert not verify(Msg.SCCCN, SECRET, RM_CHALLENGE, good[:-1])


def test_data_vectors() -> None:
    plain, with_length = VECTORS["v2.data.seq"], VECTORS["v2.data.lseq"]
    assert parse_data(plain) == (0xABCD, 0x11, 10, 14, 0)
    assert parse_data(with_length) == (0xABCD, 0x11, 12, 16, 7)
    assert plain[10:] == with_length[12:] == bytes.fromhex("ff03c021")
    assert sequenced(0xABCD, 0x11, 0) + plain[10:] == plain


def test_capture_holds_the_messages_told_here() -> None:
    seen = [data for data in captured() if data[1] & 0x0F == 2]
    assert len(seen) == len(MEANING) + len(ZLBS)
    for data in seen:
        header = parse_control(data)
        if header.end > CONTROL_LENGTH:
            message = decode(data[CONTROL_LENGTH : header.end])
            assert message.fault is None
            assert encode(Msg(message.type), *message.avps()) == data[CONTROL_LENGTH:]


@pytest.mark.parametrize("name", MEANING)
def test_V2_25_cut_anywhere_it_is_refused_or_shorter_by_whole_avps(name: str) -> None:
    whole = body(name)
    _, _, avps = MEANING[name]
    ends = {8 + sum(len(e.data) for e in avps[:n]) for n in range(len(avps) + 1)}
    for size in range(len(whole)):
        if size in ends:
            assert len(decode(whole[:size]).avps()) < len(avps)
        else:
            with pytest.raises(Malformed):
                decode(whole[:size])


@pytest.mark.parametrize("name", CONTROL)
def test_V2_5_datagram_cut_anywhere_is_refused(name: str) -> None:
    data = VECTORS[name]
    for size in range(len(data)):
        with pytest.raises(Malformed):
            parse_control(data[:size])
