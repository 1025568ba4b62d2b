"""Whatever arrives: a message or Malformed, nothing else; and what was accepted can be said again."""

import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.errors import Malformed
from holdfast.wire.avp import EncodedAvp
from holdfast.wire.dictionary import ENTRIES, RANDOM_VECTOR
from holdfast.wire.hiding import hide, unhide
from holdfast.wire.messages import SPECS, Hiding, Message, Msg, decode, encode
from holdfast.wire.shapes import REMEMBERED_LENGTH, Shapes
from wire.strategies import SENDABLE, bodies, values
from wire.vectors import MESSAGES, SECRET, VECTOR, body


def accept(data: bytes, secret: bytes = SECRET) -> Message | None:
    try:
        return decode(data, secret)
    except Malformed as e:
        assert str(e)
        return None


def check_again(message: Message | None) -> None:
    """A message without a fault encodes to one that is equal in all that was understood."""
    if message is None or message.fault is not None or message.type not in SPECS:
        return
    spec = SPECS[message.type]
    if spec.required <= message.values.keys():
        plain = spec.head + b"".join(e.data for e in message.avps())
        again = decode(plain)
        assert (again.type, again.values) == (message.type, message.values)
        assert again.fault is None and not again.ignored and not again.unknown and not again.bad


avp_octets = st.builds(
    lambda flags, vendor, kind, value: struct.pack(">HHH", flags | 6 + len(value), vendor, kind) + value,
    st.sampled_from([0, 0x8000, 0x4000, 0xC000, 0x0400]),
    st.sampled_from([0, 0, 0, 9, 3561]),
    st.one_of(st.sampled_from([e.type for e in ENTRIES]), st.integers(0, 0xFFFF)),
    st.binary(max_size=40),
)


@given(st.binary(max_size=80))
def test_V2_25_any_octets(data: bytes) -> None:
    check_again(accept(data))


@given(st.sampled_from(Msg), st.lists(avp_octets, max_size=12), st.booleans())
@settings(max_examples=300)
def test_V2_24_any_avps(msg: Msg, avps: list[bytes], secret: bool) -> None:
    check_again(accept(SPECS[msg].head + b"".join(avps), SECRET if secret else b""))


@given(bodies())
@settings(max_examples=300)
def test_what_we_send_is_what_is_received(sent: tuple[Msg, list[EncodedAvp], bytes]) -> None:
    msg, avps, data = sent
    message = decode(data)
    message.check()
    assert message.type is msg and not message.ignored and not message.bad
    assert sorted(e.data for e in message.avps()) == sorted(e.data for e in avps)
    check_again(message)


@given(bodies(), st.data())
@settings(max_examples=300)
def test_V2_13_mutated_messages(sent: tuple[Msg, list[EncodedAvp], bytes], choice: st.DataObject) -> None:
    data = bytearray(sent[2])
    for _ in range(choice.draw(st.integers(1, 4))):
        at = choice.draw(st.integers(0, len(data) - 1))
        data[at] = choice.draw(st.integers(0, 255))
    check_again(accept(bytes(data)))


@given(st.sampled_from(MESSAGES), st.data())
def test_V2_13_mutated_vectors(name: str, choice: st.DataObject) -> None:
    data = bytearray(body(name))
    at = choice.draw(st.integers(0, len(data) - 1))
    data[at] ^= 1 << choice.draw(st.integers(0, 7))
    check_again(accept(bytes(data)))


@given(st.data())
@settings(max_examples=300)
def test_every_avp_decodes_to_what_was_encoded(choice: st.DataObject) -> None:
    avp = choice.draw(st.sampled_from(SENDABLE))
    value: Any = choice.draw(values(avp))
    assert avp.decode(avp(value).data[6:]) == value


@given(bodies(), st.binary(max_size=20))
def test_V2_37_hidden_messages_say_the_same(
    sent: tuple[Msg, list[EncodedAvp], bytes], padding: bytes
) -> None:
    msg, avps, data = sent
    hidable = frozenset(e.avp for e in avps if e.avp.hidable)
    hiding = Hiding(secret=SECRET, vector=VECTOR, avps=hidable, padding=padding)
    hidden = decode(encode(msg, *avps, hiding=hiding), SECRET)
    plain = decode(data)
    assert {k: v for k, v in hidden.values.items() if k != RANDOM_VECTOR.key} == plain.values


@given(
    st.integers(0, 0xFFFF), st.binary(max_size=60), st.binary(), st.binary(min_size=1), st.binary(max_size=9)
)
def test_V2_37_hiding_is_undone(
    kind: int, value: bytes, secret: bytes, vector: bytes, padding: bytes
) -> None:
    hidden = hide(kind, value, secret, vector, padding)
    assert len(hidden) == 2 + len(value) + len(padding)
    assert unhide(kind, hidden, secret, vector) == value


@given(st.binary(max_size=60))
def test_V2_39_any_hidden_octets(hidden: bytes) -> None:
    try:
        assert len(unhide(7, hidden, SECRET, VECTOR)) <= len(hidden) - 2
    except Malformed as e:
        assert str(e)


def test_remembered_shapes_are_bounded() -> None:
    spec = SPECS[Msg.ICCN]
    shapes = Shapes(spec.allowed)
    for flags in range(0, 0x10000, 0x0400):
        for size in range(0x400):
            for kind in (26, 33, 4000):
                shapes[struct.pack(">HHH", flags | size, 0, kind)]
    assert len(shapes) == 2 * 2 * (REMEMBERED_LENGTH + 1)
