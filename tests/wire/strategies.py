"""Arbitrary AVP values and messages, from the declarations; every entry of the dictionary has a strategy."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from holdfast.core.errors import LocalError
from holdfast.wire import dictionary as d
from holdfast.wire.avp import Avp, EncodedAvp
from holdfast.wire.dictionary import ENTRIES, MESSAGE_TYPE, RANDOM_VECTOR
from holdfast.wire.messages import SPECS, Msg, encode

U8 = st.integers(0, 0xFF)
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

COMPOSITE: dict[Avp[Any], SearchStrategy[Any]] = {
    d.RESULT_CODE: st.builds(d.ResultCode, U16, U16, TEXT),
    d.Q931_CAUSE: st.builds(d.Q931Cause, U16, U8, TEXT),
    d.PPP_DISCONNECT_CAUSE: st.builds(d.PppDisconnect, U16, U16, U8, TEXT),
    d.CALL_ERRORS: st.builds(d.CallErrors, U32, U32, U32, U32, U32, U32),
    d.ACCM: st.builds(d.Accm, U32, U32),
    d.FAILOVER_CAPABILITY: st.one_of(
        st.builds(d.FailoverCap, st.just(True), st.booleans(), U32), st.just(d.FailoverCap(False, True))
    ),
    d.TUNNEL_RECOVERY: st.builds(d.TunnelRecovery, U16, U16),
    d.SUGGESTED_CONTROL_SEQUENCE: st.builds(d.SuggestedSequence, U16, U16),
    d.FAILOVER_SESSION_STATE: st.builds(d.SessionState, U16, U16),
    d.CONNECT_SPEED_UPDATE: st.builds(d.ConnectSpeed, U16, U32, U32),
    d.ACCESS_LINE_TYPE: U8,
    d.PROXY_AUTHEN_ID: U8,
}


def values(avp: Avp[Any]) -> SearchStrategy[Any]:
    """Values that may be sent in `avp`."""
    if avp in COMPOSITE:
        return COMPOSITE[avp]
    low, high = avp.sizes.start, avp.sizes.stop - 1
    kind = avp.layout.name
    if kind == "presence":
        return st.just(True)
    if kind == "ASCII":
        return st.text(st.characters(max_codepoint=0xFF), min_size=low, max_size=40)
    if kind == "UTF-8":
        return TEXT
    if kind == "octets":
        return st.binary(min_size=low, max_size=min(high, 80))
    smallest = 0 if avp.valid is None else 1
    return st.integers(smallest, 256**low - 1)


SENDABLE = [e for e in ENTRIES if e is not MESSAGE_TYPE]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[Msg, list[EncodedAvp], bytes]:
    """A message that we would send: its type, its AVPs and its body."""
    msg = draw(st.sampled_from(Msg))
    spec = SPECS[msg]
    optional = sorted(spec.allowed.keys() - spec.required - {RANDOM_VECTOR.key})
    keys = sorted(spec.required) + [k for k in optional if draw(st.booleans())]
    avps: list[EncodedAvp] = []
    for key in draw(st.permutations(keys)):
        avp = spec.allowed[key]
        copies = draw(st.integers(1, 3)) if avp.repeats else 1
        avps += [avp(draw(values(avp))) for _ in range(copies)]
    try:
        return msg, avps, encode(msg, *avps)
    except LocalError:  # a recovery tunnel's rules: keep what is mandatory
        avps = [e for e in avps if e.avp.key in spec.required]
        return msg, avps, encode(msg, *avps)
