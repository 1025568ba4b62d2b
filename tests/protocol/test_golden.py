"""The recovery dialogue in bytes that other code made (tests/data/vectors.json), fed to both roles."""

from collections.abc import Callable

from holdfast.protocol.endpoint import Endpoint
from holdfast.records import FailoverCapability, SessionRecord, Side, TunnelRecord, session_key
from holdfast.wire.dictionary import BEARER_CAPABILITIES, FAILOVER_CAPABILITY, VENDOR_NAME, FailoverCap
from holdfast.wire.messages import Message, Msg, decode
from protocol.script import (
    PEER,
    SECRET,
    Heard,
    Line,
    Rig,
    call_in,
    hello_avps,
    only,
    response,
    result,
    states,
    types,
)
from state.samples import tunnel
from wire.vectors import VECTORS, body

OLD_RE, OLD_RM, RT_RE, RT_RM = 0x1234, 0xABCD, 0x5678, 0x9ABC
TIE = bytes(range(1, 9))


def drawing(tunnel_id: int, challenge: bytes) -> Callable[[int], bytes]:
    """Chance that happens to draw the vectors' values."""
    values = {2: tunnel_id.to_bytes(2, "big"), 4: bytes(4), 8: TIE, 16: challenge}
    return lambda n: values[n]


def tunnel_record(local: int, peer: int, peer_name: str, side: Side) -> TunnelRecord:
    capable = FailoverCapability(True, True, 30_000)
    return tunnel(
        local,
        peer_id=peer,
        peer_address=PEER[0],
        peer_port=PEER[1],
        side=side,
        local_host_name="lns1",
        peer_host_name=peer_name,
        peer_name=peer_name,
        secret=SECRET.decode(),
        local_failover=capable,
        peer_failover=capable,
        acked=0,
        nr=0,
    )


def session_record(tunnel: int, local: int, peer: int) -> SessionRecord:
    return SessionRecord(
        tunnel_id=tunnel, local_id=local, peer_id=peer, side=Side.LNS, call_serial=1, established_utc_us=0
    )


def same(ours: Message, name: str) -> None:
    """Our message says what the vector says; that we also name ourselves and our bearers is allowed."""
    theirs = decode(body(name), SECRET)
    extra = {VENDOR_NAME.key, BEARER_CAPABILITIES.key}
    assert ours.type == theirs.type
    assert {k: v for k, v in ours.values.items() if k not in extra} == dict(theirs.values)


def as_recovery_endpoint() -> tuple[Rig, list[Heard]]:
    rig = Rig()
    rig.endpoint = Endpoint(
        rig.settings, lambda a, n: rig.peer, drawing(RT_RE, bytes(range(0x10, 0x20))), lambda: 0
    )
    rig.tunnels = {OLD_RE: tunnel_record(OLD_RE, OLD_RM, "lac1", Side.LNS)}
    for local, peer in ((0x11, 0x0A11), (0x12, 0x0A12)):
        rig.sessions[session_key(OLD_RE, local)] = session_record(OLD_RE, local, peer)
    return rig, rig.restart()


def test_F_80_to_F_90_golden_dialogue_as_recovery_endpoint() -> None:
    rig, said = as_recovery_endpoint()
    sccrq = only(said, Msg.SCCRQ)
    assert (sccrq.tunnel_id, sccrq.session_id, sccrq.ns, sccrq.nr) == (0, 0, 0, 0)
    same(sccrq.body, "v2.sccrq.recovery")
    said = rig.feed(VECTORS["v2.sccrp.recovery"])
    assert [h.data for h in said] == [VECTORS["v2.scccn.recovery"]]
    said = rig.feed(VECTORS["v2.zlb.recovery"])
    assert said[0].data == VECTORS["v2.stopccn.recovery"]
    fsq = said[1]
    wanted = VECTORS["v2.fsq"]
    assert fsq.data[:12] == wanted[:12]
    assert sorted(states(fsq)) == [(0x11, 0x0A11), (0x12, 0x0A12)]
    assert sorted(fsq.data[20:]) == sorted(wanted[20:])
    assert rig.feed(VECTORS["v2.stopccn.zlb"]) == []
    said = rig.feed(VECTORS["v2.fsr"])
    assert [h.data for h in said] == [VECTORS["v2.fsr.zlb"]]
    assert list(rig.endpoint.tunnels) == [OLD_RE]
    assert list(rig.tunnel().sessions) == [0x11]


def test_F_69_golden_cdn() -> None:
    rig, _ = as_recovery_endpoint()
    for name in ("v2.sccrp.recovery", "v2.zlb.recovery", "v2.fsr"):
        rig.feed(VECTORS[name])
    icrq = bytes.fromhex("c8020026") + OLD_RE.to_bytes(2, "big") + bytes.fromhex("000000650004")
    icrq += bytes.fromhex("800800000000000a80080000000e0a11800a0000000f00000001")
    said = rig.feed(icrq)
    cdn, wanted = only(said, Msg.CDN), VECTORS["v2.cdn.icrq-for-established"]
    assert cdn.data[4:12] == wanted[4:12]
    assert result(cdn) == (2, 5)
    assert cdn.data.endswith(wanted[-8:])


def test_F_33_golden_refusal() -> None:
    rig, _ = as_recovery_endpoint()
    assert types(rig.feed(VECTORS["v2.stopccn.reject"])) == [0]
    assert Msg.SCCRQ in types(rig.later(0.1)), "one refusal is not the end"
    rig.later(40)
    assert not rig.endpoint.tunnels


def test_F_80_to_F_90_golden_dialogue_as_remote_endpoint() -> None:
    rig = Rig(host_name="lac1")
    draws = iter([OLD_RM, 0x0A11, RT_RM])
    challenge = bytes(range(0x20, 0x30))

    def chance(n: int) -> bytes:
        return next(draws).to_bytes(2, "big") if n == 2 else challenge[:n] if n == 16 else bytes(n)

    rig.endpoint = Endpoint(rig.settings, lambda a, n: rig.peer, chance, lambda: 0)
    line = Line(rig, OLD_RE)
    capability = FAILOVER_CAPABILITY(FailoverCap(True, True, 30_000))
    sccrp = only(line.say(Msg.SCCRQ, *hello_avps(OLD_RE, capability, host="lns1")), Msg.SCCRP)
    line.remote = OLD_RM
    line.say(Msg.SCCCN, *response(Msg.SCCCN, sccrp))
    assert call_in(line, 0x11) == 0x0A11
    rig.tunnel().channel.reset(100 - 16, 3 - 16 & 0xFFFF, rig.now)
    said = rig.feed(VECTORS["v2.sccrq.recovery"])
    sccrp = only(said, Msg.SCCRP)
    assert sccrp.data[4:12] == VECTORS["v2.sccrp.recovery"][4:12]
    same(sccrp.body, "v2.sccrp.recovery")
    said = rig.feed(VECTORS["v2.scccn.recovery"])
    assert VECTORS["v2.zlb.recovery"] in [h.data for h in said]
    assert [(h.ns, h.nr) for h in said if h.type == Msg.FSQ] == [(100, 3)]
    assert [h.data for h in rig.feed(VECTORS["v2.stopccn.recovery"])] == [VECTORS["v2.stopccn.zlb"]]
    said = rig.feed(VECTORS["v2.fsq"])
    said += rig.feed(bytes.fromhex("c802000cabcd000000040065"))
    fsr = only(said, Msg.FSR)
    assert fsr.data[12:] == body("v2.fsr")
    assert fsr.nr == 4
