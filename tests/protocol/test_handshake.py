"""Control connections: RFC 2661 4.1, 4.4.3, 5.1, 5.5–5.8, 7.2; rows V2-20…V2-28 (answers) and V2-83…V2-98."""

from itertools import pairwise

import pytest

from holdfast.core.clock import SECOND
from holdfast.core.counters import Counter
from holdfast.protocol.effects import Cause, Persist, Send, TunnelDown, TunnelUp
from holdfast.protocol.settings import FailoverSettings, PeerSettings
from holdfast.protocol.tunnel import TUNNEL, TunnelInput, TunnelState
from holdfast.wire.auth import challenge_response
from holdfast.wire.codes import General, StopCcn
from holdfast.wire.dictionary import (
    ASSIGNED_SESSION_ID,
    ASSIGNED_TUNNEL_ID,
    CALL_SERIAL_NUMBER,
    CHALLENGE,
    CHALLENGE_RESPONSE,
    FAILOVER_CAPABILITY,
    HOST_NAME,
    PROTOCOL_VERSION,
    RESULT_CODE,
    SUGGESTED_CONTROL_SEQUENCE,
    TIE_BREAKER,
    TUNNEL_RECOVERY,
    FailoverCap,
)
from holdfast.wire.header import control_header
from holdfast.wire.messages import Msg, encode
from protocol.script import (
    PEER,
    SECRET,
    STRANGER,
    Line,
    Rig,
    begin,
    call_in,
    from_lac,
    hello_avps,
    only,
    response,
    result,
    result_code,
    to_lns,
    types,
)

UNKNOWN_OPTIONAL = bytes.fromhex("000800000fa0beef")
UNKNOWN_MANDATORY = bytes.fromhex("800800000fa0beef")
RESERVED_OPTIONAL = bytes.fromhex("20080000000600ff")
RESERVED_MANDATORY = bytes.fromhex("a0080000000600ff")


def sccrq(rig: Rig, *extra: bytes, tunnel_id: int = 0x1111) -> tuple[Line, list[int]]:
    """An SCCRQ with raw AVPs after the ordinary ones; returns the kinds of the answer."""
    line = Line(rig, tunnel_id)
    heard = line.raw(encode(Msg.SCCRQ, *hello_avps(tunnel_id)) + b"".join(extra))
    return line, types(heard)


def test_V2_20_an_avp_with_a_reserved_bit_is_not_recognised() -> None:
    assert sccrq(Rig(), RESERVED_OPTIONAL)[1] == [Msg.SCCRP]
    assert sccrq(Rig(), RESERVED_MANDATORY)[1] == [Msg.STOPCCN]


def test_V2_21_an_unknown_mandatory_avp_ends_the_tunnel_and_is_named() -> None:
    rig = Rig()
    line = from_lac(rig)
    line = Line(rig, 0x1112)
    heard = line.raw(encode(Msg.SCCRQ, *hello_avps(0x1112)) + UNKNOWN_MANDATORY)
    stop = only(heard, Msg.STOPCCN)
    assert result(stop) == (StopCcn.GENERAL_ERROR, General.UNKNOWN_MANDATORY)
    assert "4000" in stop.body.need(RESULT_CODE).text
    assert rig.tunnel().established, "the other tunnel lives"


def test_V2_21_also_on_a_tunnel_that_is_up() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    heard = line.raw(encode(Msg.HELLO) + UNKNOWN_MANDATORY)
    assert result(only(heard, Msg.STOPCCN)) == (2, 8)
    assert not rig.sessions


def test_V2_22_in_a_session_message_it_ends_that_session_only() -> None:
    rig = Rig()
    line = from_lac(rig)
    kept = call_in(line)
    icrp = only(line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0A12), CALL_SERIAL_NUMBER(2)), Msg.ICRP)
    local = icrp.body.need(ASSIGNED_SESSION_ID)
    iccn = bytes.fromhex("800800000000000c800a0000001805f5e100800a0000001300000001")
    heard = line.raw(iccn + UNKNOWN_MANDATORY, session=local)
    cdn = only(heard, Msg.CDN)
    assert result(cdn) == (2, 8)
    assert "4000" in cdn.body.need(RESULT_CODE).text
    assert cdn.session_id == 0x0A12
    assert list(rig.tunnel().sessions) == [kept]


def test_V2_23_an_unknown_optional_avp_is_ignored() -> None:
    rig = Rig()
    assert sccrq(rig, UNKNOWN_OPTIONAL)[1] == [Msg.SCCRP]
    line = from_lac(rig, 0x1112)
    assert types(line.raw(encode(Msg.HELLO) + UNKNOWN_OPTIONAL)) == [0]
    assert rig.count(Counter.RX_IGNORED_AVP) == 1


def test_V2_24_a_malformed_optional_avp_is_ignored_a_mandatory_one_is_answered() -> None:
    short_firmware, short_bearer = bytes.fromhex("00070000000601"), bytes.fromhex("80080000000400ff")
    assert sccrq(Rig(), short_firmware)[1] == [Msg.SCCRP]
    assert sccrq(Rig(), short_bearer)[1] == [Msg.STOPCCN]


def test_V2_24_rx_speed_of_the_wrong_length_is_ignored() -> None:
    rig = Rig()
    line = from_lac(rig)
    icrp = only(line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0A12), CALL_SERIAL_NUMBER(2)), Msg.ICRP)
    iccn = bytes.fromhex("800800000000000c800a0000001805f5e100800a0000001300000001000800000026ffff")
    line.raw(iccn, session=icrp.body.need(ASSIGNED_SESSION_ID))
    assert rig.session().established


@pytest.mark.parametrize("broken", ["80050000000f", "8020000000ff0000", "8008"])
def test_V2_25_a_body_whose_avps_do_not_fit_ends_the_tunnel_it_is_in(broken: str) -> None:
    rig = Rig()
    line = from_lac(rig)
    heard = line.raw(encode(Msg.HELLO) + bytes.fromhex(broken))
    assert result(only(heard, Msg.STOPCCN))[0] == StopCcn.GENERAL_ERROR


def test_V2_25_without_a_tunnel_it_is_only_counted() -> None:
    rig = Rig()
    assert sccrq(rig, bytes.fromhex("80050000000f"))[1] == []
    assert rig.count(Counter.RX_MALFORMED) == 1


def test_V2_26_message_type_is_the_first_avp() -> None:
    rig = Rig()
    body = HOST_NAME("lac1").data + encode(Msg.SCCRQ, *hello_avps(0x1111))
    assert rig.feed(control_header(0, 0, 0, 0, len(body)) + body) == []
    assert rig.count(Counter.RX_MALFORMED) == 1


@pytest.mark.parametrize("kind", [5, 13, 99])
def test_V2_27_an_unknown_message_type_is_fatal_if_it_says_so(kind: int) -> None:
    rig = Rig()
    line = from_lac(rig)
    heard = line.raw(bytes.fromhex("800800000000") + kind.to_bytes(2, "big"))
    assert result(only(heard, Msg.STOPCCN)) == (2, 8)


@pytest.mark.parametrize("kind", [17, 28, 29, 99])
def test_V2_27_otherwise_it_is_ignored_but_takes_its_number(kind: int) -> None:
    rig = Rig()
    line = from_lac(rig)
    heard = line.raw(bytes.fromhex("000800000000") + kind.to_bytes(2, "big"))
    assert types(heard) == [0]
    assert heard[0].nr == line.ns
    assert types(line.say(Msg.HELLO)) == [0]
    assert rig.tunnel().established


@pytest.mark.parametrize("missing", range(4))
def test_V2_28_an_sccrq_without_a_mandatory_avp_is_refused(missing: int) -> None:
    avps = [a.data for a in hello_avps(0x1111)]
    del avps[missing]
    rig = Rig()
    body = bytes.fromhex("8008000000000001") + b"".join(avps)
    heard = rig.feed(control_header(0, 0, 0, 0, len(body)) + body)
    assert Msg.SCCRP not in types(heard)
    assert not rig.endpoint.tunnels
    assert types(heard) == ([] if missing == 3 else [Msg.STOPCCN]), "without an id there is nobody to answer"


def test_V2_28_an_icrq_without_a_mandatory_avp_is_refused_alone() -> None:
    rig = Rig()
    line = from_lac(rig)
    heard = line.raw(bytes.fromhex("800800000000000a80080000000e0a11"))
    assert result(only(heard, Msg.CDN))[0] == 2
    assert rig.tunnel().established


def again(rig: Rig, tunnel_id: int = 0x1111) -> list[int]:
    """The SCCRQ once more, byte for byte."""
    body = encode(Msg.SCCRQ, *hello_avps(tunnel_id))
    return types(rig.feed(control_header(0, 0, 0, 0, len(body)) + body))


def test_V2_83_an_sccrq_with_the_same_assigned_id_is_a_duplicate() -> None:
    rig = Rig()
    begin(rig)
    assert again(rig) == [0]
    assert len(rig.endpoint.tunnels) == 1
    assert rig.count(Counter.RX_DUPLICATE) == 1


def test_V2_83_another_assigned_id_is_another_tunnel() -> None:
    rig = Rig()
    begin(rig)
    begin(rig, 0x3333)
    assert len(rig.endpoint.tunnels) == 2


def test_V2_84_a_stopccn_is_delivered_although_the_first_is_lost() -> None:
    rig = Rig()
    line = from_lac(rig)
    first = only(line.note(rig.take(rig.endpoint.close_tunnel(line.remote, rig.now))), Msg.STOPCCN)
    assert line.remote in rig.endpoint.tunnels
    second = only(line.later(1), Msg.STOPCCN)
    assert second.ns == first.ns
    assert types(line.later(3)) == [Msg.STOPCCN]
    line.zlb()
    assert line.later(60) == []
    assert not rig.endpoint.tunnels


def test_V2_84_our_messages_before_it_are_still_delivered_in_order() -> None:
    rig = Rig()
    line = from_lac(rig)
    rig.take(rig.endpoint.probe(line.remote, rig.now))
    rig.take(rig.endpoint.close_tunnel(line.remote, rig.now))
    assert [h.type for h in line.later(1)] == [Msg.HELLO]


def test_V2_84_unacknowledged_it_ends_with_the_retransmissions() -> None:
    rig = Rig()
    line = from_lac(rig)
    rig.take(rig.endpoint.close_tunnel(line.remote, rig.now))
    assert types(line.later(31)) == [Msg.STOPCCN] * 4
    line.later(1)
    assert not rig.endpoint.tunnels


def test_V2_85_a_stopccn_is_acknowledged_and_its_duplicates_too() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    heard = line.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1))
    assert types(heard) == [0]
    assert not rig.sessions
    assert not rig.tunnels
    line.later(30)
    body = encode(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1))
    assert types(line.raw(body, ns=line.ns - 1)) == [0]
    line.later(2)
    assert line.raw(body, ns=line.ns - 1) == []


def test_V2_85_the_id_is_not_used_again_meanwhile() -> None:
    rig = Rig()
    line = from_lac(rig)
    line.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1))
    others = {from_lac(rig, 0x2000 + k).remote for k in range(200)}
    assert line.remote not in others


@pytest.mark.parametrize("kind", [Msg.HELLO, Msg.SCCCN, Msg.ICRQ])
def test_V2_85_a_closed_tunnel_processes_nothing(kind: Msg) -> None:
    rig = Rig()
    line = from_lac(rig)
    line.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1))
    avps = [ASSIGNED_SESSION_ID(5), CALL_SERIAL_NUMBER(1)] if kind is Msg.ICRQ else []
    assert types(line.say(kind, *avps)) == [0]
    assert len(rig.of(TunnelDown)) == 1


def test_V2_86_a_stopccn_without_our_id_is_matched_by_its_avp() -> None:
    rig = Rig()
    begin(rig)
    body = encode(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(0x1111), result_code(1))
    assert types(rig.feed(control_header(0, 0, 1, 0, len(body)) + body)) == [0]
    rig.later(32)
    assert not rig.endpoint.tunnels


def test_V2_86_from_somebody_else_it_matches_nothing() -> None:
    rig = Rig()
    begin(rig)
    body = encode(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(0x1111), result_code(1))
    assert rig.feed(control_header(0, 0, 1, 0, len(body)) + body, STRANGER) == []
    assert rig.tunnel().state is TunnelState.WAIT_CONNECT


def test_V2_87_after_a_minute_of_silence_a_hello() -> None:
    rig = Rig()
    line = from_lac(rig)
    assert line.later(59.9) == []
    hello = only(line.later(0.2), Msg.HELLO)
    assert hello.session_id == 0
    line.zlb()
    assert line.later(59.5) == []
    assert types(line.later(1)) == [Msg.HELLO]


def test_V2_87_anything_received_puts_it_off() -> None:
    rig = Rig()
    line = from_lac(rig)
    line.later(50)
    line.say(Msg.HELLO)
    assert line.later(59) == []


def test_V2_87_a_silent_peer_is_noticed_after_91_seconds() -> None:
    rig = Rig()
    line = from_lac(rig, cap=None)
    line.later(90.9)
    assert rig.tunnel().established
    line.later(0.2)
    assert not rig.endpoint.tunnels


def test_V2_87_a_probe_asks_at_once_but_only_once() -> None:
    rig = Rig()
    line = from_lac(rig)
    assert types(rig.take(rig.endpoint.probe(line.remote, rig.now))) == [Msg.HELLO]
    assert rig.take(rig.endpoint.probe(line.remote, rig.now)) == []


def test_V2_90_the_response_is_keyed_by_its_own_message_type() -> None:
    rig = Rig()
    line, heard = begin(rig)
    sccrp = only(heard, Msg.SCCRP).body
    challenge = bytes(range(0x20, 0x30))
    assert sccrp.need(CHALLENGE_RESPONSE) == challenge_response(Msg.SCCRP, SECRET, challenge)
    rig = Rig()
    line = to_lns(rig)
    scccn = only(rig.heard, Msg.SCCCN).body
    assert scccn.need(CHALLENGE_RESPONSE) == challenge_response(Msg.SCCCN, SECRET, challenge)
    assert rig.endpoint.tunnels[line.remote].established


def test_V2_90_without_a_challenge_there_is_no_response() -> None:
    rig = Rig()
    line = Line(rig, 0x1111)
    heard = line.say(Msg.SCCRQ, *hello_avps(0x1111, challenge=None))
    assert only(heard, Msg.SCCRP).body.get(CHALLENGE_RESPONSE) is None


@pytest.mark.parametrize("answer", ["wrong secret", "wrong id", "missing"])
def test_V2_91_a_bad_response_in_the_scccn_is_refused(answer: str) -> None:
    rig = Rig()
    line, heard = begin(rig)
    sccrp = only(heard, Msg.SCCRP)
    avps = {
        "wrong secret": response(Msg.SCCCN, sccrp, b"guess"),
        "wrong id": response(Msg.SCCRP, sccrp),
        "missing": [],
    }[answer]
    stop = only(line.say(Msg.SCCCN, *avps), Msg.STOPCCN)
    assert result(stop)[0] == StopCcn.NOT_AUTHORISED
    assert not rig.of(TunnelUp)
    assert not rig.tunnels
    assert rig.count(Counter.AUTH_FAILED) == 1


@pytest.mark.parametrize("good", [True, False])
def test_V2_91_a_bad_response_in_the_sccrp_is_refused(good: bool) -> None:
    rig = Rig()
    assert rig.peer is not None
    local, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    ours = only(rig.take(effects), Msg.SCCRQ)
    line = Line(rig, 0x2222)
    line.remote, line.nr = local, 1
    heard = line.say(Msg.SCCRP, *hello_avps(0x2222, *response(Msg.SCCRP, ours, SECRET if good else b"guess")))
    assert types(heard) == [Msg.SCCCN if good else Msg.STOPCCN]


def test_V2_91_no_secret_but_a_challenge_is_refused() -> None:
    rig = Rig(secret=b"")
    line = Line(rig, 0x1111)
    heard = line.say(Msg.SCCRQ, *hello_avps(0x1111))
    assert result(only(heard, Msg.STOPCCN))[0] == StopCcn.NOT_AUTHORISED


def test_V2_92_the_secret_belongs_to_the_peer() -> None:
    rig = Rig()
    line, heard = begin(rig)
    rig.peer = PeerSettings(name="lac1", secret=b"changed meanwhile")
    line.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    assert rig.tunnel().established


def test_V2_93_our_own_challenge_does_not_authenticate_its_mirror() -> None:
    rig = Rig()
    assert rig.peer is not None
    _, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    ours = only(rig.take(effects), Msg.SCCRQ)
    line = Line(rig, 0x6666)
    heard = line.say(Msg.SCCRQ, *hello_avps(0x6666, challenge=ours.body.need(CHALLENGE)))
    assert result(only(heard, Msg.STOPCCN))[0] == StopCcn.NOT_AUTHORISED


def test_V2_93_nor_does_that_of_an_sccrp() -> None:
    rig = Rig()
    _, heard = begin(rig)
    line = Line(rig, 0x6666)
    mirrored = only(heard, Msg.SCCRP).body.need(CHALLENGE)
    heard = line.say(Msg.SCCRQ, *hello_avps(0x6666, challenge=mirrored))
    assert types(heard) == [Msg.STOPCCN]


def test_V2_93_an_sccrp_that_mirrors_our_challenge_is_refused() -> None:
    rig = Rig()
    assert rig.peer is not None
    local, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    ours = only(rig.take(effects), Msg.SCCRQ)
    line = Line(rig, 0x2222)
    line.remote, line.nr = local, 1
    challenge = ours.body.need(CHALLENGE)
    heard = line.say(Msg.SCCRP, *hello_avps(0x2222, *response(Msg.SCCRP, ours), challenge=challenge))
    assert types(heard) == [Msg.STOPCCN]


def crossing(rig: Rig, tie: bytes | None) -> list[int]:
    """Our SCCRQ (without a tie breaker) is unanswered when the peer's arrives."""
    assert rig.peer is not None
    rig.take(rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)[1])
    extra = [] if tie is None else [TIE_BREAKER(tie)]
    return types(Line(rig, 0x1111).say(Msg.SCCRQ, *hello_avps(0x1111, *extra)))


def test_V2_94_our_tunnel_that_loses_the_tie_is_discarded_in_silence() -> None:
    rig = Rig()
    assert crossing(rig, b"\xff" * 8) == [Msg.SCCRP]
    assert [t.initiator for t in rig.endpoint.tunnels.values()] == [False]
    (down,) = rig.of(TunnelDown)
    assert isinstance(down, TunnelDown)
    assert down.cause is Cause.LOST_TIE
    assert Msg.STOPCCN not in types(rig.heard)


def test_V2_95_the_only_tie_breaker_wins_and_none_makes_two_tunnels() -> None:
    rig = Rig()
    crossing(rig, b"\xff" * 8)
    assert len(rig.endpoint.tunnels) == 1
    rig = Rig()
    assert crossing(rig, None) == [Msg.SCCRP]
    assert len(rig.endpoint.tunnels) == 2


def test_V2_95_a_tunnel_to_another_peer_takes_no_part() -> None:
    rig = Rig()
    assert rig.peer is not None
    rig.take(rig.endpoint.open_tunnel(rig.peer, STRANGER, rig.now)[1])
    Line(rig, 0x1111).say(Msg.SCCRQ, *hello_avps(0x1111, TIE_BREAKER(b"\0" * 8)))
    assert len(rig.endpoint.tunnels) == 2


def version_avps(version: int, tunnel_id: int) -> list[bytes]:
    avps = hello_avps(tunnel_id)[1:]
    return [PROTOCOL_VERSION(version).data, *(a.data for a in avps)]


def test_V2_96_only_version_one_is_spoken() -> None:
    rig = Rig()
    body = bytes.fromhex("8008000000000001") + b"".join(version_avps(0x0200, 0x1111))
    heard = rig.feed(control_header(0, 0, 0, 0, len(body)) + body)
    assert result(only(heard, Msg.STOPCCN))[0] == StopCcn.UNSUPPORTED_VERSION
    assert result(only(heard, Msg.STOPCCN))[1] == 1, "the highest version that we speak"


def test_V2_96_another_revision_of_it_is_fine() -> None:
    rig = Rig()
    body = bytes.fromhex("8008000000000001") + b"".join(version_avps(0x0107, 0x1111))
    assert types(rig.feed(control_header(0, 0, 0, 0, len(body)) + body)) == [Msg.SCCRP]


def test_V2_97_tunnel_and_session_ids_cannot_be_guessed_from_earlier_ones() -> None:
    rig = Rig()
    ids = [from_lac(rig, 0x2000 + k).remote for k in range(20)]
    gaps = {b - a for a, b in pairwise(ids)}
    assert len(gaps) > 15


@pytest.mark.parametrize("state", list(TunnelState))
@pytest.mark.parametrize("how", list(TunnelInput))
def test_V2_98_every_state_meets_every_input(state: TunnelState, how: TunnelInput) -> None:
    following = TUNNEL.get((state, how))
    if how is TunnelInput.STOPCCN:
        assert following is TunnelState.CLOSED
    elif how is TunnelInput.CLOSE:
        assert following is (TunnelState.CLOSING if state < TunnelState.CLOSING else None)
    elif (state, how) in (
        (TunnelState.WAIT_REPLY, TunnelInput.SCCRP),
        (TunnelState.WAIT_CONNECT, TunnelInput.SCCCN),
    ):
        assert following is TunnelState.ESTABLISHED
    else:
        assert following is None


def in_state(rig: Rig, state: TunnelState) -> Line:
    """A tunnel in that state, and its peer."""
    if state is TunnelState.WAIT_CONNECT:
        return begin(rig)[0]
    if state is TunnelState.WAIT_REPLY:
        assert rig.peer is not None
        local, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
        rig.take(effects)
        line = Line(rig, 0x2222)
        line.remote, line.nr = local, 1
        return line
    line = from_lac(rig)
    if state is TunnelState.CLOSING:
        line.note(rig.take(rig.endpoint.close_tunnel(line.remote, rig.now)))
    elif state is TunnelState.CLOSED:
        line.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1))
    return line


@pytest.mark.parametrize(
    ("state", "kind", "ends"),
    [
        (TunnelState.WAIT_REPLY, Msg.SCCCN, True),
        (TunnelState.WAIT_REPLY, Msg.SCCRQ, True),
        (TunnelState.WAIT_CONNECT, Msg.SCCRP, True),
        (TunnelState.WAIT_CONNECT, Msg.SCCRQ, True),
        (TunnelState.ESTABLISHED, Msg.SCCRQ, True),
        (TunnelState.ESTABLISHED, Msg.SCCRP, True),
        (TunnelState.ESTABLISHED, Msg.SCCCN, True),
        (TunnelState.CLOSING, Msg.SCCRP, False),
        (TunnelState.CLOSED, Msg.SCCCN, False),
    ],
)
def test_V2_98_a_message_out_of_turn_ends_the_tunnel(state: TunnelState, kind: Msg, ends: bool) -> None:
    rig = Rig()
    line = in_state(rig, state)
    before = len(rig.of(TunnelDown))
    avps = [] if kind is Msg.SCCCN else hello_avps(0x7777)
    line.say(kind, *avps)
    rig.later(3)
    stops = [h for h in rig.heard if h.type == Msg.STOPCCN]
    if ends:
        assert rig.endpoint.tunnels[line.remote].state is TunnelState.CLOSING
        if state is not TunnelState.WAIT_REPLY:
            assert result(stops[-1])[0] == StopCcn.FSM_ERROR
    assert len(rig.of(TunnelDown)) == before + ends


def test_V2_98_an_sccrq_on_a_tunnel_that_is_up_is_not_a_new_tunnel() -> None:
    rig = Rig()
    from_lac(rig)
    begin(rig, 0x4444)
    assert len(rig.endpoint.tunnels) == 2
    assert all(t.state < TunnelState.CLOSING for t in rig.endpoint.tunnels.values())


def test_V2_10_the_sccrp_may_come_from_another_port() -> None:
    rig = Rig()
    assert rig.peer is not None
    local, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    ours = only(rig.take(effects), Msg.SCCRQ)
    line = Line(rig, 0x2222, (PEER[0], 32768))
    line.remote, line.nr = local, 1
    heard = line.say(Msg.SCCRP, *hello_avps(0x2222, *response(Msg.SCCRP, ours)))
    assert only(heard, Msg.SCCCN).to == (PEER[0], 32768)


def test_V2_10_not_from_another_host() -> None:
    rig = Rig()
    line = in_state(rig, TunnelState.WAIT_REPLY)
    assert line.say(Msg.SCCRP, *hello_avps(0x2222), source=STRANGER) == []
    assert rig.count(Counter.RX_WRONG_SOURCE) == 1


def test_F_6_the_capability_is_in_sccrq_and_sccrp_and_nowhere_else() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    to_lns(rig)
    carriers = [h.type for h in rig.heard if h.msg is not None and FAILOVER_CAPABILITY in h.body]
    assert carriers == [Msg.SCCRP, Msg.SCCRQ]


def test_F_7_we_say_that_we_can_recover_a_control_channel_and_no_data_numbers() -> None:
    _, heard = begin(Rig())
    assert only(heard, Msg.SCCRP).body.need(FAILOVER_CAPABILITY) == FailoverCap(True, False, 60_000)


def test_F_7_not_advertised_when_switched_off() -> None:
    rig = Rig(failover=FailoverSettings(advertise=False))
    _, heard = begin(rig)
    assert FAILOVER_CAPABILITY not in only(heard, Msg.SCCRP).body
    assert rig.peer is not None
    sccrq = only(rig.take(rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)[1]), Msg.SCCRQ)
    assert FAILOVER_CAPABILITY not in sccrq.body


def test_F_9_recovery_time_counts_only_with_the_control_bit() -> None:
    rig = Rig()
    line = Line(rig, 0x1111)
    raw = bytes.fromhex("000c0000004c00020000270f")
    sccrp = only(line.raw(encode(Msg.SCCRQ, *hello_avps(0x1111)) + raw), Msg.SCCRP)
    line.remote = sccrp.body.need(ASSIGNED_TUNNEL_ID)
    line.say(Msg.SCCCN, *response(Msg.SCCCN, sccrp))
    (record,) = rig.tunnels.values()
    assert record.peer_failover is not None
    assert (record.peer_failover.control, record.peer_failover.recovery_time_ms) == (False, 0)


def test_F_11_a_peer_without_the_capability_gets_an_ordinary_tunnel() -> None:
    rig = Rig()
    line = from_lac(rig, cap=None)
    call_in(line)
    assert rig.session().established
    (record,) = rig.tunnels.values()
    assert record.peer_failover is None
    rig = Rig()
    assert rig.endpoint.tunnels[to_lns(rig, cap=None).remote].established


def test_F_12_the_recovery_time_is_configurable() -> None:
    _, heard = begin(Rig(failover=FailoverSettings(recovery_time_ms=12_345)))
    assert only(heard, Msg.SCCRP).body.need(FAILOVER_CAPABILITY).recovery_time_ms == 12_345


def test_T_3_tunnel_recovery_in_an_sccrp_is_ignored() -> None:
    rig = Rig()
    assert rig.peer is not None
    local, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    ours = only(rig.take(effects), Msg.SCCRQ)
    line = Line(rig, 0x2222)
    line.remote, line.nr = local, 1
    body = encode(Msg.SCCRP, *hello_avps(0x2222, *response(Msg.SCCRP, ours)))
    heard = line.raw(body + bytes.fromhex("80100000004d0000000012340000abcd"))
    assert types(heard) == [Msg.SCCCN]


def test_F_32_no_suggested_sequence_in_an_ordinary_sccrp() -> None:
    _, heard = begin(Rig())
    assert SUGGESTED_CONTROL_SEQUENCE not in only(heard, Msg.SCCRP).body
    assert TUNNEL_RECOVERY not in only(heard, Msg.SCCRP).body


def test_the_record_is_written_before_the_scccn_is_said() -> None:
    rig = Rig()
    to_lns(rig)
    kinds = [type(e) for e in rig.effects]
    written = kinds.index(Persist)
    assert any(isinstance(e, Send) for e in rig.effects[written:])
    before = [h for h in rig.effects[:written] if isinstance(h, Send)]
    assert len(before) == 1, "only the SCCRQ was sent before the record"


def test_the_record_is_written_before_the_scccn_is_acknowledged() -> None:
    rig = Rig()
    line, heard = begin(rig)
    rig.effects.clear()
    line.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    kinds = [type(e) for e in rig.effects]
    assert kinds.index(Persist) < kinds.index(Send)
    assert all(e.lane == line.remote for e in rig.effects if isinstance(e, Persist | Send))


def test_a_set_up_that_takes_too_long_leaves_nothing() -> None:
    rig = Rig()
    begin(rig)
    rig.later(31)
    assert not rig.endpoint.tunnels
    assert not rig.endpoint.ctx.half_open


def test_an_unknown_peer_is_refused_without_state() -> None:
    rig = Rig()
    rig.peer = None
    heard = Line(rig, 0x1111).say(Msg.SCCRQ, *hello_avps(0x1111))
    assert result(only(heard, Msg.STOPCCN))[0] == StopCcn.NOT_AUTHORISED
    assert not rig.endpoint.tunnels


def test_a_journal_that_cannot_write_refuses_new_tunnels_only() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    rig.endpoint.set_admitting(False)
    _, heard = begin(rig, 0x4444)
    assert result(only(heard, Msg.STOPCCN)) == (2, 4)
    cdn = line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0A12), CALL_SERIAL_NUMBER(2))
    assert result(only(cdn, Msg.CDN))[0] == 4
    assert rig.session().established


def test_a_lac_that_accepts_no_tunnels_says_so() -> None:
    rig = Rig(accept_tunnels=False)
    _, heard = begin(rig)
    assert result(only(heard, Msg.STOPCCN))[0] == StopCcn.NOT_AUTHORISED


def test_no_more_tunnels_than_configured() -> None:
    rig = Rig(max_tunnels=2)
    from_lac(rig, 0x1111)
    from_lac(rig, 0x1112)
    _, heard = begin(rig, 0x1113)
    assert result(only(heard, Msg.STOPCCN)) == (2, 4)
    assert len(rig.endpoint.tunnels) == 2


def test_the_peer_host_name_is_checked_when_configured() -> None:
    rig = Rig()
    rig.peer = PeerSettings(name="lac1", secret=SECRET, host_name="another")
    local, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    ours = only(rig.take(effects), Msg.SCCRQ)
    line = Line(rig, 0x2222)
    line.remote, line.nr = local, 1
    heard = line.say(Msg.SCCRP, *hello_avps(0x2222, *response(Msg.SCCRP, ours)))
    assert result(only(heard, Msg.STOPCCN))[0] == StopCcn.NOT_AUTHORISED


def test_a_tunnel_that_came_up_is_told_once_and_its_end_once() -> None:
    rig = Rig()
    line = from_lac(rig)
    rig.take(rig.endpoint.close_tunnel(line.remote, rig.now))
    rig.take(rig.endpoint.close_tunnel(line.remote, rig.now))
    line.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1))
    rig.later(120)
    assert len(rig.of(TunnelUp)) == len(rig.of(TunnelDown)) == 1


def test_the_deadline_is_never_in_the_past_after_the_timers_ran() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    for _ in range(200):
        line.later(0.7)
        at = rig.endpoint.deadline()
        assert at is None or at > rig.now - SECOND


def test_a_lac_hears_of_its_tunnel_after_the_scccn_has_left() -> None:
    rig = Rig()
    to_lns(rig)
    order = [type(e) for e in rig.effects if isinstance(e, (Persist, Send, TunnelUp))]
    assert order[-3:] == [Persist, Send, TunnelUp]
