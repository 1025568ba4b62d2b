"""Whatever comes, nothing is raised, and nothing grows."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.auth import CHAP, PAP
from holdfast.ppp.config import LinkConfig
from holdfast.ppp.effects import Authenticate, Transmit
from holdfast.ppp.link import Link
from holdfast.ppp.packet import MAX_PACKET, packet
from holdfast.ppp.state import Phase
from ppp.harness import ACCEPT, CLIENT, IPCP, LCP, SERVER, at, of, opened, reached, response_to, sent

PROTOCOLS = st.sampled_from([LCP, IPCP, PAP, CHAP, 0x21, 0x57, 0x8057, 0x80FD, 0xC025])
OPTIONS = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 17, 19, 129, 131]), st.binary(max_size=8)), max_size=6
).map(lambda found: b"".join(bytes((kind, len(value) + 2)) + value for kind, value in found))
PACKETS = st.builds(
    packet, PROTOCOLS, st.integers(0, 16), st.integers(0, 255), OPTIONS | st.binary(max_size=40)
)
FRAMES = (
    st.binary(max_size=64) | PACKETS | PACKETS.map(lambda frame: frame[2:]) | PACKETS.map(lambda f: f[:-1])
)
STEPS = st.lists(st.tuples(FRAMES | st.none(), st.integers(0, 4_000_000)), max_size=30)


def links(seed: int) -> list[Link]:
    """A link in every phase."""
    fresh = [Link(config, Random(seed).randbytes) for config in (SERVER, CLIENT)]
    for link in fresh:
        link.start(0)
    return [*fresh, reached(Phase.AUTHENTICATE)[0], reached(Phase.NETWORK)[0], *opened()]


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 1000))
def test_arbitrary_input_never_raises_and_answers_are_bounded(
    steps: list[tuple[bytes | None, int]], seed: int
) -> None:
    for link in links(seed):
        now = at(1)
        for frame, pause in steps:
            now += pause
            said = link.receive(frame, now) if frame is not None else link.timer(now)
            if of(Authenticate, said):
                said += link.answer(ACCEPT, now)
            assert len(said) <= 6
            assert all(len(f) <= MAX_PACKET + 4 for f in sent(said))
            assert link.phase is not Phase.OVER or link.deadline is None
            assert link.opened <= (link.phase is Phase.NETWORK)
            assert link.opened or link.phase is Phase.OVER or link.deadline is not None, (
                "nobody would wake it"
            )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_are_taken(data: bytes) -> None:
    for link in opened():
        link.receive(data, at(1))
        link.receive(b"\xff\x03\xc0\x21" + data, at(1))


@pytest.mark.parametrize("config", [SERVER, CLIENT])
def test_an_oversized_control_packet_is_not_looked_at(config: LinkConfig) -> None:
    link = Link(config, Random(1).randbytes)
    link.start(0)
    assert link.receive(packet(LCP, 1, 1, b"\x7f\x02" * 20_000), 0) == []


def test_a_flood_of_authentication_asks_aaa_once() -> None:
    link, said = reached(Phase.AUTHENTICATE)
    response = response_to(sent(said)[0])
    asked = [e for _ in range(1000) for e in link.receive(response, 0)]
    assert len(asked) == 1
    wrong = [e for i in range(1000) for e in link.receive(packet(CHAP, 2, i & 255, b"\x10" + bytes(16)), 0)]
    assert wrong == []


def test_a_flood_of_requests_gets_one_answer_each() -> None:
    link, _ = reached(Phase.NETWORK)
    for i in range(1000):
        [answer] = link.receive(packet(IPCP, 1, i & 255, b"\x03\x06" + bytes(4)), 0)
        assert isinstance(answer, Transmit)
