"""PPP framing inside L2TP (RFC 1661 2, 6.5, 6.6; RFC 2661 5.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import Malformed
from holdfast.wire.ppp import Protocol, frame, split


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("ff03c021", (Protocol.LCP, 4)),
        ("c021", (Protocol.LCP, 2)),
        ("ff030021", (Protocol.IPV4, 4)),
        ("ff0321", (Protocol.IPV4, 3)),
        ("0021", (Protocol.IPV4, 2)),
        ("21", (Protocol.IPV4, 1)),
        ("ff", (0xFF, 1)),
    ],
)
def test_V2_165_every_form_of_framing_is_read(payload: str, expected: tuple[int, int]) -> None:
    assert split(bytes.fromhex(payload)) == expected
    assert split(memoryview(bytes.fromhex(payload + "4500"))) == expected


@pytest.mark.parametrize("payload", ["", "ff03", "c0", "ff03c0"])
def test_frame_that_is_cut_off_is_malformed(payload: str) -> None:
    with pytest.raises(Malformed):
        split(bytes.fromhex(payload))


@given(st.sampled_from(Protocol), st.binary(max_size=20), st.booleans(), st.booleans())
def test_V2_165_what_we_send_is_read_back(
    protocol: Protocol, information: bytes, acfc: bool, pfc: bool
) -> None:
    payload = frame(protocol, information, acfc=acfc, pfc=pfc)
    kind, start = split(payload)
    assert kind == protocol and payload[start:] == information


def test_V2_165_frames_begin_with_ff03_unless_agreed() -> None:
    assert frame(Protocol.LCP, b"\1").hex() == "ff03c02101"
    assert frame(Protocol.IPV4, b"\1", acfc=True, pfc=True).hex() == "2101"
    assert frame(Protocol.LCP, b"\1", pfc=True).hex() == "ff03c02101"


@given(st.binary(max_size=6))
def test_any_payload_is_split_within_itself_or_malformed(payload: bytes) -> None:
    try:
        protocol, start = split(payload)
    except Malformed:
        return
    assert 0 <= protocol <= 0xFFFF and 1 <= start <= len(payload)
