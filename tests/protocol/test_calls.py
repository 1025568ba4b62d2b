"""Incoming calls in both roles: RFC 2661 6.6–6.8, 6.12, 7.4; rows V2-100, V2-110, V2-141."""

from collections.abc import Callable

import pytest

from holdfast.core.counters import Counter
from holdfast.protocol.calls import TunnelNotOpen
from holdfast.protocol.effects import Cause, SessionDown, SessionUp
from holdfast.protocol.session import SESSION, Call, Session, SessionInput, SessionState
from holdfast.wire.avp import EncodedAvp
from holdfast.wire.codes import Cdn
from holdfast.wire.dictionary import (
    ASSIGNED_SESSION_ID,
    ASSIGNED_TUNNEL_ID,
    CALL_SERIAL_NUMBER,
    CALLED_NUMBER,
    CALLING_NUMBER,
    FRAMING_TYPE,
    SEQUENCING_REQUIRED,
    TX_CONNECT_SPEED,
)
from holdfast.wire.messages import Msg
from protocol.script import (
    PEER,
    Heard,
    Line,
    Rig,
    begin,
    call_in,
    call_out,
    from_lac,
    hello_avps,
    only,
    response,
    result,
    result_code,
    to_lns,
    types,
)

ICRQ = [ASSIGNED_SESSION_ID(0x0A11), CALL_SERIAL_NUMBER(1)]
ICRP = [ASSIGNED_SESSION_ID(0x0B11)]
ICCN = [TX_CONNECT_SPEED(1_000_000), FRAMING_TYPE(1)]
AVPS: dict[Msg, list[EncodedAvp]] = {
    Msg.ICRQ: ICRQ,
    Msg.ICRP: ICRP,
    Msg.ICCN: ICCN,
    Msg.CDN: [result_code(3), ASSIGNED_SESSION_ID(0x0A11)],
}


def downs(rig: Rig) -> list[SessionDown]:
    return [n for n in rig.news if isinstance(n, SessionDown)]


def offered(line: Line) -> int:
    """An ICRQ was sent and answered; returns the endpoint's session id."""
    heard = line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0A11), CALL_SERIAL_NUMBER(1))
    return only(heard, Msg.ICRP).body.need(ASSIGNED_SESSION_ID)


def placed(line: Line) -> tuple[int, Heard]:
    """The endpoint as LAC has sent an ICRQ; returns its session id and the ICRQ."""
    local, effects = line.rig.endpoint.place_call(line.remote, Call("42", "1"), line.rig.now)
    return local, only(line.note(line.rig.take(effects)), Msg.ICRQ)


def in_state(rig: Rig, role: str, state: SessionState) -> tuple[Line, int]:
    """A session in that state, in that role."""
    line = from_lac(rig) if role == "lns" else to_lns(rig)
    if role == "lns":
        return line, offered(line) if state is SessionState.WAIT_CONNECT else call_in(line)
    return line, placed(line)[0] if state is SessionState.WAIT_REPLY else call_out(line)


@pytest.mark.parametrize("state", list(SessionState))
@pytest.mark.parametrize("how", list(SessionInput))
def test_V2_100_every_state_meets_every_input(state: SessionState, how: SessionInput) -> None:
    following = SESSION.get((state, how))
    if how in (SessionInput.CDN, SessionInput.CLOSE):
        assert following is SessionState.CLOSED
    elif (state, how) == (SessionState.WAIT_TUNNEL, SessionInput.TUNNEL_OPEN):
        assert following is SessionState.WAIT_REPLY
    elif (state, how) in (
        (SessionState.WAIT_REPLY, SessionInput.ICRP),
        (SessionState.WAIT_CONNECT, SessionInput.ICCN),
    ):
        assert following is SessionState.ESTABLISHED
    else:
        assert following is None


def test_V2_100_the_lac_places_a_call() -> None:
    rig = Rig()
    line = to_lns(rig)
    local, icrq = placed(line)
    assert icrq.session_id == 0
    assert icrq.body.need(ASSIGNED_SESSION_ID) == local
    assert icrq.body.get(CALLING_NUMBER) == "42"
    assert icrq.body.get(CALLED_NUMBER) == "1"
    iccn = only(line.say(Msg.ICRP, *ICRP, session=local), Msg.ICCN)
    assert iccn.session_id == 0x0B11
    assert rig.session().established
    assert rig.of(SessionUp) == [SessionUp(line.remote, local)]


def test_V2_100_call_serial_numbers_differ() -> None:
    rig = Rig()
    line = to_lns(rig)
    serials = set()
    for _ in range(5):
        line.zlb()
        icrq = placed(line)[1]
        serials.add(icrq.body.need(CALL_SERIAL_NUMBER))
    assert len(serials) == 5


def test_V2_100_a_call_waits_for_its_tunnel() -> None:
    rig = Rig()
    assert rig.peer is not None
    tunnel_id, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    rig.take(effects)
    local, effects = rig.endpoint.place_call(tunnel_id, Call(), rig.now)
    assert rig.take(effects) == []
    assert rig.session().state is SessionState.WAIT_TUNNEL
    rig.take(rig.endpoint.close_session(tunnel_id, local, rig.now))
    assert not rig.tunnel().sessions
    assert Msg.CDN not in types(rig.heard)


def test_V2_100_when_the_tunnel_opens_the_waiting_call_goes_out() -> None:
    rig = Rig()
    assert rig.peer is not None
    tunnel_id, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    sccrq = only(rig.take(effects), Msg.SCCRQ)
    rig.take(rig.endpoint.place_call(tunnel_id, Call(), rig.now)[1])
    line = Line(rig, 0x2222)
    line.remote, line.nr = tunnel_id, 1
    heard = line.say(Msg.SCCRP, *hello_avps(0x2222, *response(Msg.SCCRP, sccrq)))
    assert types(heard) == [Msg.SCCCN, Msg.ICRQ]


def test_V2_100_a_call_on_a_tunnel_that_is_not_there_is_our_own_mistake() -> None:
    rig = Rig()
    with pytest.raises(TunnelNotOpen):
        rig.endpoint.place_call(17, Call(), rig.now)
    line = to_lns(rig)
    rig.take(rig.endpoint.close_tunnel(line.remote, rig.now))
    with pytest.raises(TunnelNotOpen):
        rig.endpoint.place_call(line.remote, Call(), rig.now)


@pytest.mark.parametrize(
    ("state", "kind", "answer"),
    [
        (SessionState.WAIT_REPLY, Msg.ICRQ, Msg.CDN),
        (SessionState.WAIT_REPLY, Msg.ICCN, 0),
        (SessionState.WAIT_REPLY, Msg.CDN, 0),
        (SessionState.ESTABLISHED, Msg.ICRQ, Msg.CDN),
        (SessionState.ESTABLISHED, Msg.ICRP, Msg.CDN),
        (SessionState.ESTABLISHED, Msg.ICCN, Msg.CDN),
        (SessionState.ESTABLISHED, Msg.CDN, 0),
    ],
)
def test_V2_100_lac_messages_out_of_turn_end_the_session(state: SessionState, kind: Msg, answer: int) -> None:
    rig = Rig()
    line, local = in_state(rig, "lac", state)
    avps = [result_code(3), *ICRP] if kind is Msg.CDN else AVPS[kind]
    heard = line.say(kind, *avps, session=local)
    assert types(heard) == [answer]
    assert not rig.tunnel().sessions
    assert len(downs(rig)) == 1
    assert rig.tunnel().established


@pytest.mark.parametrize(
    ("state", "kind", "answer"),
    [
        (SessionState.WAIT_CONNECT, Msg.ICRQ, Msg.CDN),
        (SessionState.WAIT_CONNECT, Msg.ICRP, Msg.CDN),
        (SessionState.WAIT_CONNECT, Msg.CDN, 0),
        (SessionState.ESTABLISHED, Msg.ICRQ, Msg.CDN),
        (SessionState.ESTABLISHED, Msg.ICRP, Msg.CDN),
        (SessionState.ESTABLISHED, Msg.ICCN, Msg.CDN),
        (SessionState.ESTABLISHED, Msg.CDN, 0),
    ],
)
def test_V2_110_lns_messages_out_of_turn_end_the_session(state: SessionState, kind: Msg, answer: int) -> None:
    rig = Rig()
    line, local = in_state(rig, "lns", state)
    heard = line.say(kind, *AVPS[kind], session=local)
    assert types(heard)[-1] == answer
    assert not rig.tunnel().sessions
    assert rig.tunnel().established


@pytest.mark.parametrize(("kind", "answer"), [(Msg.ICRP, Msg.CDN), (Msg.ICCN, 0), (Msg.CDN, 0)])
def test_V2_110_lns_messages_for_a_session_that_is_not_there(kind: Msg, answer: int) -> None:
    rig = Rig()
    line = from_lac(rig)
    heard = line.say(kind, *AVPS[kind], session=777)
    assert types(heard) == [answer]
    if answer:
        assert heard[0].session_id == 0x0B11
    assert rig.tunnel().established


@pytest.mark.parametrize("kind", [Msg.ICRP, Msg.ICCN, Msg.CDN])
def test_V2_100_lac_messages_for_a_session_that_is_not_there(kind: Msg) -> None:
    rig = Rig()
    line = to_lns(rig)
    assert types(line.say(kind, *AVPS[kind], session=777)) == [0]
    assert rig.count(Counter.RX_UNKNOWN_SESSION) == 1


def test_V2_141_a_call_that_we_give_up_before_its_icrp_is_ended_when_that_comes() -> None:
    """A CDN that cannot name the call in its header finds none at l2tpns, and ends the whole tunnel at xl2tpd."""
    rig = Rig()
    line = to_lns(rig)
    local, _ = placed(line)
    assert not rig.take(rig.endpoint.close_session(line.remote, local, rig.now))
    assert not rig.tunnel().sessions
    cdn = only(line.say(Msg.ICRP, *ICRP, session=local), Msg.CDN)
    assert (cdn.session_id, cdn.body.need(ASSIGNED_SESSION_ID)) == (0x0B11, local)


def test_V2_141_such_an_icrp_that_names_a_live_session_ends_nothing() -> None:
    rig = Rig()
    line = to_lns(rig)
    alive = call_out(line)
    local, _ = placed(line)
    rig.take(rig.endpoint.close_session(line.remote, local, rig.now))
    assert Msg.CDN not in types(line.say(Msg.ICRP, *ICRP, session=local))
    assert list(rig.tunnel().sessions) == [alive]


def test_V2_110_the_lns_takes_a_call() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    assert rig.of(SessionUp) == [SessionUp(line.remote, local)]
    assert rig.session().peer_id == 0x0A11


def test_V2_110_a_lac_takes_no_incoming_calls() -> None:
    rig = Rig()
    line = to_lns(rig)
    cdn = only(line.say(Msg.ICRQ, *ICRQ), Msg.CDN)
    assert result(cdn)[0] == Cdn.NO_FACILITIES_PERMANENT
    assert cdn.session_id == 0x0A11
    assert not rig.tunnel().sessions


def test_V2_110_too_many_sessions_are_refused_and_the_others_live() -> None:
    rig = Rig(max_sessions_per_tunnel=2)
    line = from_lac(rig)
    call_in(line, 1)
    call_in(line, 2)
    cdn = only(line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(3), CALL_SERIAL_NUMBER(3)), Msg.CDN)
    assert result(cdn)[0] == Cdn.NO_FACILITIES_TEMPORARY
    assert len(rig.tunnel().sessions) == 2


def test_V2_110_a_call_that_wants_sequencing_is_refused_and_never_was_up() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = offered(line)
    cdn = only(line.say(Msg.ICCN, *ICCN, SEQUENCING_REQUIRED(True), session=local), Msg.CDN)
    assert result(cdn)[0] == Cdn.NO_FACILITIES_PERMANENT
    assert not rig.of(SessionUp)
    assert [d.established for d in downs(rig)] == [False]


def test_V2_110_a_set_up_that_takes_too_long_ends_with_its_own_result() -> None:
    rig = Rig()
    line = from_lac(rig)
    offered(line)
    line.zlb()
    cdn = only(line.later(30.1), Msg.CDN)
    assert result(cdn)[0] == Cdn.NOT_IN_TIME
    assert not rig.tunnel().sessions


def test_V2_100_the_lac_gives_up_a_call_that_is_not_answered() -> None:
    rig = Rig()
    line = to_lns(rig)
    local, _ = placed(line)
    line.zlb()
    cdn = only(line.later(30.1), Msg.CDN)
    assert result(cdn)[0] == Cdn.NOT_IN_TIME
    assert cdn.session_id == 0
    assert cdn.body.need(ASSIGNED_SESSION_ID) == local


def test_V2_141_a_cdn_is_answered_by_the_transport_only() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    heard = line.say(Msg.CDN, result_code(3), ASSIGNED_SESSION_ID(0x0A11), session=local)
    assert types(heard) == [0]
    (down,) = downs(rig)
    assert (down.cause, down.result, down.established) == (Cause.PEER, 3, True)
    assert not rig.sessions


def test_V2_141_a_cdn_before_the_icrp_is_matched_by_its_avp() -> None:
    rig = Rig()
    line = from_lac(rig)
    offered(line)
    line.say(Msg.CDN, result_code(1), ASSIGNED_SESSION_ID(0x0A11))
    assert not rig.tunnel().sessions
    assert len(downs(rig)) == 1


def test_V2_141_also_when_the_session_is_up_here() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line, 0x0A11)
    kept = call_in(line, 0x0A12)
    line.say(Msg.CDN, result_code(1), ASSIGNED_SESSION_ID(0x0A11))
    assert list(rig.tunnel().sessions) == [kept]


def test_T_10_and_V2_141_a_late_cdn_does_not_hit_the_session_that_inherited_its_id() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line, 0x0A11)
    line.say(Msg.CDN, result_code(3), ASSIGNED_SESSION_ID(0x0BBB), session=local)
    assert rig.session().established
    line.say(Msg.CDN, result_code(3), ASSIGNED_SESSION_ID(0x0A11), session=local)
    assert not rig.tunnel().sessions


def test_V2_141_a_cdn_without_a_result_code_still_ends_the_session() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    assert types(line.raw(bytes.fromhex("800800000000000e"), session=local)) == [0]
    assert not rig.tunnel().sessions


def test_V2_141_our_own_cdn_names_both_ids() -> None:
    rig = Rig()
    line = from_lac(rig)
    local = call_in(line)
    cdn = only(line.note(rig.take(rig.endpoint.close_session(line.remote, local, rig.now))), Msg.CDN)
    assert (cdn.session_id, cdn.body.need(ASSIGNED_SESSION_ID)) == (0x0A11, local)
    assert result(cdn)[0] == Cdn.ADMINISTRATIVE
    assert not rig.sessions


def test_the_end_of_a_tunnel_ends_its_sessions_once_each() -> None:
    rig = Rig()
    line = from_lac(rig)
    for k in range(3):
        call_in(line, 0x0A00 + k)
    line.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1))
    assert [d.cause for d in downs(rig)] == [Cause.TUNNEL] * 3
    assert not rig.sessions


def test_session_messages_on_a_tunnel_that_is_not_up_do_nothing() -> None:
    rig = Rig()
    line, _ = begin(rig)
    assert types(line.say(Msg.ICRQ, *ICRQ)) == [0]
    assert not rig.tunnel().sessions


def test_an_internal_error_costs_the_session_it_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    line = from_lac(rig)
    kept = call_in(line, 1)
    local = offered(line)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", broken_once(Session.step))
        cdn = only(line.say(Msg.ICCN, *ICCN, session=local), Msg.CDN)
    assert result(cdn) == (2, 6)
    assert list(rig.tunnel().sessions) == [kept]
    assert rig.count(Counter.MACHINE_FAULT) == 1


def broken_once(step: Callable[[Session, SessionInput], None]) -> Callable[[Session, SessionInput], None]:
    """A machine with a bug in one transition."""

    def broken(session: Session, how: SessionInput) -> None:
        if how is SessionInput.ICCN:
            raise ZeroDivisionError
        step(session, how)

    return broken


@pytest.mark.parametrize("known", [True, False])
def test_V2_141_the_acknowledgement_of_a_cdn_names_the_session_that_the_peer_has_ended(known: bool) -> None:
    line = from_lac(Rig())
    session_id = offered(line) if known else 0x0BAD
    heard = line.say(Msg.CDN, result_code(3), ASSIGNED_SESSION_ID(0x0A11), session=session_id)
    assert [(h.type, h.session_id) for h in heard] == [(0, 0x0A11)]
