"""What we refuse to send (RFC 2661 4; RFC 4951 3.1, 3.2.1, 4)."""

import pytest

from holdfast.core.errors import LocalError
from holdfast.wire import dictionary as d
from holdfast.wire.avp import Avp, EncodedAvp
from holdfast.wire.messages import SPECS, Hiding, Msg, decode, encode
from wire.vectors import MESSAGES, SECRET, VECTOR, VECTORS, body

STATE = d.FAILOVER_SESSION_STATE(d.SessionState(1, 2))
CAPABILITY = d.FAILOVER_CAPABILITY(d.FailoverCap(True, True, 1000))
SET_UP = decode(body("v2.sccrq.capability")).avps()[:5]


@pytest.mark.parametrize("name", MESSAGES)
def test_V2_28_nothing_is_sent_without_its_mandatory_avps(name: str) -> None:
    message = decode(body(name))
    for key in SPECS[message.type].required:
        with pytest.raises(LocalError):
            encode(Msg(message.type), *(e for e in message.avps() if e.avp.key != key))


@pytest.mark.parametrize("name", MESSAGES)
def test_nothing_is_sent_twice(name: str) -> None:
    message = decode(body(name))
    for encoded in message.avps():
        if not encoded.avp.repeats:
            with pytest.raises(LocalError):
                encode(Msg(message.type), *message.avps(), encoded)


@pytest.mark.parametrize("msg", [m for m in Msg if m not in (Msg.SCCRQ, Msg.SCCRP)])
def test_F_6_failover_capability_only_in_set_up(msg: Msg) -> None:
    sample = next((decode(body(n)) for n in MESSAGES if decode(body(n)).type is msg), None)
    with pytest.raises(LocalError):
        encode(msg, *(sample.avps() if sample else ()), CAPABILITY)


@pytest.mark.parametrize("msg", [Msg.FSQ, Msg.FSR])
def test_F_60_empty_query_or_response_is_refused(msg: Msg) -> None:
    with pytest.raises(LocalError):
        encode(msg)


@pytest.mark.parametrize("msg", [Msg.FSQ, Msg.FSR])
def test_F_86_nothing_else_is_sent_in_fsq_and_fsr(msg: Msg) -> None:
    with pytest.raises(LocalError):
        encode(msg, STATE, d.ASSIGNED_TUNNEL_ID(1))
    assert encode(msg, d.RANDOM_VECTOR(VECTOR), STATE)


def test_F_7_F_8_capability_that_can_nothing_is_refused() -> None:
    with pytest.raises(LocalError):
        d.FAILOVER_CAPABILITY(d.FailoverCap(False, False))


def test_F_18_recovery_tunnel_carries_no_capability() -> None:
    recovery = d.TIE_BREAKER(bytes(8)), d.TUNNEL_RECOVERY(d.TunnelRecovery(1, 2))
    assert encode(Msg.SCCRQ, *SET_UP, *recovery)
    with pytest.raises(LocalError):
        encode(Msg.SCCRQ, *SET_UP, *recovery, CAPABILITY)
    with pytest.raises(LocalError):
        encode(Msg.SCCRP, *SET_UP, d.SUGGESTED_CONTROL_SEQUENCE(d.SuggestedSequence(1, 2)), CAPABILITY)


def test_F_22_recovery_tunnel_has_a_tie_breaker() -> None:
    with pytest.raises(LocalError):
        encode(Msg.SCCRQ, *SET_UP, d.TUNNEL_RECOVERY(d.TunnelRecovery(1, 2)))


@pytest.mark.parametrize(
    ("avp", "value"),
    [
        (d.ASSIGNED_TUNNEL_ID, 0),
        (d.ASSIGNED_SESSION_ID, 0),
        (d.ASSIGNED_SESSION_ID, 0x10000),
        (d.RECEIVE_WINDOW_SIZE, 0),
        (d.CALL_SERIAL_NUMBER, -1),
        (d.PROXY_AUTHEN_ID, 256),
        (d.ACCESS_LINE_TYPE, 256),
    ],
)
def test_V2_4_number_out_of_range_is_refused(avp: Avp[int], value: int) -> None:
    with pytest.raises(LocalError):
        avp(value)


@pytest.mark.parametrize(
    ("avp", "value"), [(d.CHALLENGE, b""), (d.CHALLENGE, b"c" * 1018), (d.TIE_BREAKER, bytes(7))]
)
def test_V2_180_octets_of_a_wrong_length_are_refused(avp: Avp[bytes], value: bytes) -> None:
    with pytest.raises(LocalError):
        avp(value)


@pytest.mark.parametrize("name", ["", "n" * 1018, "λ"])
def test_host_name_that_cannot_be_sent_is_refused(name: str) -> None:
    with pytest.raises(LocalError):
        d.HOST_NAME(name)


NEVER_HIDDEN = [
    (Msg.SCCRQ, [*SET_UP, d.TIE_BREAKER(bytes(8)), d.TUNNEL_RECOVERY(d.TunnelRecovery(1, 2))]),
    (Msg.CDN, [d.RESULT_CODE(d.ResultCode(3)), d.ASSIGNED_SESSION_ID(1), d.Q931_CAUSE(d.Q931Cause(1, 2))]),
    (Msg.ICCN, [d.TX_CONNECT_SPEED(1), d.FRAMING_TYPE(1), d.SEQUENCING_REQUIRED(True)]),
]


@pytest.mark.parametrize(("msg", "avps"), NEVER_HIDDEN)
def test_V2_40_what_must_not_be_hidden_is_not(msg: Msg, avps: list[EncodedAvp]) -> None:
    for encoded in avps:
        hiding = Hiding(secret=SECRET, vector=VECTOR, avps=frozenset({encoded.avp}))
        if encoded.avp.hidable:
            assert decode(encode(msg, *avps, hiding=hiding), SECRET).avps()[1:] == avps
        else:
            with pytest.raises(LocalError):
                encode(msg, *avps, hiding=hiding)


def test_V2_36_random_vector_goes_before_what_is_hidden() -> None:
    response = d.PROXY_AUTHEN_RESPONSE(b"hunter2pass")
    hiding = Hiding(secret=SECRET, vector=VECTOR, avps=frozenset({d.PROXY_AUTHEN_RESPONSE}))
    data = encode(Msg.ICCN, d.TX_CONNECT_SPEED(1), d.FRAMING_TYPE(1), response, hiding=hiding)
    assert data[8:].startswith(VECTORS["v2.rv"])
    assert data.endswith(VECTORS["v2.hidden.33.short"])


def test_what_is_too_long_to_be_hidden_is_refused() -> None:
    hiding = Hiding(secret=SECRET, vector=VECTOR, avps=frozenset({d.PROXY_AUTHEN_NAME}))
    with pytest.raises(LocalError):
        hiding.apply(d.PROXY_AUTHEN_NAME(b"n" * 1016))


def test_result_code_is_as_short_as_it_can_be() -> None:
    lengths = [len(d.RESULT_CODE(code).data) for code in (d.ResultCode(1), d.ResultCode(2, 5))]
    assert lengths == [8, 10]
    assert d.RESULT_CODE(d.ResultCode(2, 6, "é")).data[10:] == "é".encode()
