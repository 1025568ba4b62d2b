"""Whatever arrives: no input raises, none finds a bug of ours, and no outsider costs an established session."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.counters import Counter
from holdfast.protocol.session import Call
from holdfast.wire.avp import EncodedAvp
from holdfast.wire.dictionary import ASSIGNED_TUNNEL_ID, ENTRIES
from holdfast.wire.header import control_header
from holdfast.wire.messages import Msg
from protocol.script import (
    LOSES,
    PEER,
    STRANGER,
    Line,
    Rig,
    answer_recovery,
    ask_recovery,
    begin,
    call_in,
    call_out,
    from_lac,
    only,
    recover,
    result_code,
    to_lns,
)
from wire.vectors import VECTORS

EXAMPLES = 40


def waiting_for_sccrp(rig: Rig) -> Line:
    assert rig.peer is not None
    local, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    rig.take(effects)
    line = Line(rig, 0x2222)
    line.remote, line.nr = local, 1
    return line


def waiting_for_scccn(rig: Rig) -> Line:
    return begin(rig)[0]


def with_sessions(rig: Rig) -> Line:
    line = from_lac(rig)
    call_in(line, 1)
    call_in(line, 2)
    return line


def as_lac(rig: Rig) -> Line:
    line = to_lns(rig)
    call_out(line)
    line.note(rig.take(rig.endpoint.place_call(line.remote, Call(), rig.now)[1]))
    return line


def closing(rig: Rig) -> Line:
    line = with_sessions(rig)
    line.note(rig.take(rig.endpoint.close_tunnel(line.remote, rig.now)))
    return line


def closed(rig: Rig) -> Line:
    line = with_sessions(rig)
    line.say(Msg.STOPCCN, ASSIGNED_TUNNEL_ID(line.local), result_code(1))
    return line


def being_recovered(rig: Rig) -> Line:
    line = with_sessions(rig)
    ask_recovery(rig, line)
    return line


def recovered(rig: Rig) -> Line:
    line = with_sessions(rig)
    recover(rig, line)
    return line


def recovery_tunnel_of_the_peer(rig: Rig) -> Line:
    return ask_recovery(rig, with_sessions(rig))[0]


def silent(rig: Rig) -> Line:
    line = with_sessions(rig)
    rig.take(rig.endpoint.probe(line.remote, rig.now))
    rig.later(40)
    return line


def restarted(rig: Rig) -> Line:
    line = with_sessions(rig)
    rig.crash()
    rig.restart()
    return line


def own_recovery_tunnel(rig: Rig) -> Line:
    with_sessions(rig)
    rig.crash()
    return answer_recovery(rig, only(rig.restart(), Msg.SCCRQ))[0]


def both_recovering(rig: Rig) -> Line:
    line = restarted(rig)
    ask_recovery(rig, line, tie=LOSES)
    return line


STATES: list[Callable[[Rig], Line]] = [
    waiting_for_sccrp,
    waiting_for_scccn,
    with_sessions,
    as_lac,
    closing,
    closed,
    being_recovered,
    recovered,
    recovery_tunnel_of_the_peer,
    silent,
    restarted,
    own_recovery_tunnel,
    both_recovering,
]


def established(rig: Rig) -> set[tuple[int, int]]:
    return {
        (t.local_id, s)
        for t in rig.endpoint.ctx.established()
        for s, o in t.sessions.items()
        if o.established
    }


CONTROL = [d for n, d in VECTORS.items() if n.startswith("v2.") and d[:1] == b"\xc8"]

values = st.one_of(st.binary(max_size=40), st.integers(0, 0xFFFF).map(lambda n: n.to_bytes(2, "big")))


@st.composite
def avps(draw: st.DrawFn) -> bytes:
    """One AVP: a known type or any, flags as they come, a value of any length."""
    kind = draw(st.one_of(st.sampled_from([e.type for e in ENTRIES]), st.integers(0, 0xFFFF)))
    value = draw(values)
    flags = draw(st.sampled_from([0x8000, 0x0000, 0xC000, 0x4000, 0xA000, 0x2000]))
    vendor = draw(st.sampled_from([0, 0, 0, 3561, 9]))
    head = (flags | 6 + len(value)).to_bytes(2, "big") + vendor.to_bytes(2, "big") + kind.to_bytes(2, "big")
    return head + value


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body that begins like a message: a type, then AVPs, some of them what the message needs."""
    kind = draw(st.one_of(st.sampled_from(list(Msg)).map(int), st.integers(0, 40)))
    flags = draw(st.sampled_from([0x8008, 0x0008]))
    plain: list[EncodedAvp] = []
    if draw(st.booleans()):
        plain = [ASSIGNED_TUNNEL_ID(draw(st.integers(1, 0xFFFF))), result_code(draw(st.integers(0, 20)))]
    head = flags.to_bytes(2, "big") + bytes(4) + kind.to_bytes(2, "big")
    return head + b"".join(a.data for a in plain) + b"".join(draw(st.lists(avps(), max_size=6)))


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.__name__)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda b: b"\xc8\x02" + b)))
def test_V2_13_arbitrary_datagrams_raise_nothing(state: Callable[[Rig], Line], data: bytes) -> None:
    rig = Rig()
    state(rig)
    before = established(rig)
    rig.feed(data)
    rig.feed(data, STRANGER)
    assert established(rig) == before
    assert not rig.count(Counter.MACHINE_FAULT)


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.__name__)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    original=st.sampled_from(CONTROL),
    flips=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 40),
    aim=st.booleans(),
)
def test_mutated_messages_raise_nothing_and_outsiders_cost_no_session(
    state: Callable[[Rig], Line], original: bytes, flips: list[tuple[int, int]], cut: int, aim: bool
) -> None:
    rig = Rig()
    line = state(rig)
    before = established(rig)
    data = bytearray(original)
    if aim:
        data[4:6] = line.remote.to_bytes(2, "big")
        data[8:12] = line.ns.to_bytes(2, "big") + line.nr.to_bytes(2, "big")
    for at, value in flips:
        data[at % len(data)] = value
    mutated = bytes(data[: len(data) - cut] if cut < len(data) else data)
    rig.feed(mutated, STRANGER)
    assert established(rig) == before
    rig.feed(mutated)
    rig.later(5)
    assert not rig.count(Counter.MACHINE_FAULT)


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.__name__)
@settings(max_examples=EXAMPLES, deadline=None)
@given(script=st.lists(st.tuples(bodies(), st.sampled_from([0, 1, 2, 7, -1])), min_size=1, max_size=6))
def test_a_peer_that_says_anything_in_turn_finds_no_bug(
    state: Callable[[Rig], Line], script: list[tuple[bytes, int]]
) -> None:
    rig = Rig()
    line = state(rig)
    for body, session in script:
        if session < 0:
            tunnel = rig.endpoint.tunnels.get(line.remote)
            session = next(iter(tunnel.sessions), 0) if tunnel is not None else 0
        line.raw(body, session)
        line.zlb()
        rig.later(0.5)
    rig.later(300)
    assert not rig.count(Counter.MACHINE_FAULT)
    ctx = rig.endpoint.ctx
    assert not ctx.half_open
    assert not ctx.opening
    assert len(ctx.tunnel_ids) == len(ctx.tunnels)
    assert set(ctx.by_sccrq.values()) <= set(ctx.tunnels)
    for tunnel in ctx.tunnels.values():
        assert len(tunnel.ids) == len(tunnel.sessions)


@settings(max_examples=EXAMPLES, deadline=None)
@given(body=bodies(), ns=st.integers(0, 0xFFFF), nr=st.integers(0, 0xFFFF), tunnel=st.integers(0, 0xFFFF))
def test_an_outsider_with_any_header_costs_no_session(body: bytes, ns: int, nr: int, tunnel: int) -> None:
    rig = Rig()
    line = with_sessions(rig)
    before = established(rig)
    for target in (tunnel, line.remote, 0):
        rig.feed(control_header(target, 0, ns, nr, len(body)) + body, STRANGER)
    assert established(rig) == before
    assert not rig.count(Counter.MACHINE_FAULT)
