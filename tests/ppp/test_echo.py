"""Echo and magic numbers: P-9, P-10, and the held verdict of K-7."""

import msgspec
import pytest

from holdfast.ppp.effects import Cause, Finished, NetworkDown, Transmit
from holdfast.ppp.link import Link
from holdfast.ppp.state import Phase
from ppp.harness import (
    CLIENT,
    LCP,
    MAGIC,
    SERVER,
    at,
    body_of,
    client,
    connect,
    head,
    kinds,
    lcp,
    opened,
    reached,
    sent,
    server,
)


def magics(link: Link) -> tuple[bytes, bytes]:
    assert link.record is not None
    return link.record.local_lcp.magic.to_bytes(4, "big"), link.record.peer_lcp.magic.to_bytes(4, "big")


def until_the_end(link: Link) -> list[tuple[int, list[object]]]:
    said: list[tuple[int, list[object]]] = []
    while link.deadline is not None:
        said.append((link.deadline, list(link.timer(link.deadline))))
    return said


def test_P_9_the_reply_has_our_magic_and_the_requests_identifier_and_data() -> None:
    s, _ = opened()
    local, peer = magics(s)
    assert s.receive(lcp(9, 42, peer + b"data"), at(1)) == [Transmit(lcp(10, 42, local + b"data"))]


def test_P_9_the_magic_is_0_if_it_was_not_negotiated() -> None:
    link, said = reached(Phase.ESTABLISH)
    request = sent(said)[0]
    [request] = sent(link.receive(lcp(4, head(request)[2], body_of(request)[-6:]), 0))
    link.receive(lcp(1, 1, MAGIC), 0)
    link.receive(lcp(2, head(request)[2], body_of(request)), 0)
    assert sent(link.receive(lcp(9, 1, bytes(4)), 0)) == [lcp(10, 1, bytes(4))]


def test_P_9_no_reply_in_other_states() -> None:
    link, _ = reached(Phase.ESTABLISH)
    assert link.receive(lcp(9, 1, bytes(4)), 0) == []
    link, _ = reached(Phase.AUTHENTICATE)
    assert kinds(link.receive(lcp(9, 1, bytes(4)), 0)) == [(LCP, 10)]
    link.close(0)
    assert link.receive(lcp(9, 1, bytes(4)), 0) == []


def test_P_10_an_echo_with_our_own_magic_is_a_loop() -> None:
    s, _ = opened()
    local, _ = magics(s)
    for _ in range(6):
        assert s.receive(lcp(9, 1, local), at(1)) == []
    assert s.receive(lcp(10, 1, local), at(1)) == [NetworkDown(), Finished(Cause.LOOPBACK)]


def test_P_10_an_echo_with_a_foreign_magic_comes_from_another_peer() -> None:
    s, _ = opened()
    said = [e for _ in range(7) for e in s.receive(lcp(10, 1, b"\1\2\3\4"), at(1))]
    assert said == [NetworkDown(), Finished(Cause.MISCONFIGURED)]


def test_P_10_a_stray_one_is_forgiven() -> None:
    s, _ = opened()
    local, peer = magics(s)
    for _ in range(50):
        assert s.receive(lcp(9, 1, local), at(1)) == []
        assert kinds(s.receive(lcp(9, 1, peer), at(1))) == [(LCP, 10)]
    assert s.opened


def test_P_10_discard_request_is_discarded() -> None:
    s, _ = opened()
    _, peer = magics(s)
    assert s.receive(lcp(11, 1, peer + b"x"), at(1)) == []


def test_a_short_echo_is_discarded() -> None:
    s, _ = opened()
    assert s.receive(lcp(9, 1, b"\0\0"), at(1)) == []


def test_a_silent_peer_is_asked_and_given_up() -> None:
    s, _ = opened()
    said = until_the_end(s)
    assert [now for now, _ in said] == [at(10 * i) for i in range(1, 8)]
    echoes = [e.payload for _, effects in said for e in effects if isinstance(e, Transmit)]
    assert [head(e)[:2] for e in echoes] == [(LCP, 9)] * 6
    assert len({head(e)[2] for e in echoes}) == 6
    assert {body_of(e) for e in echoes} == {magics_of(s)}
    assert said[-1][1] == [NetworkDown(), Finished(Cause.ECHO_TIMEOUT)]


def magics_of(link: Link) -> bytes:
    return magics(link)[0]


def test_an_answer_starts_the_count_anew() -> None:
    s, c = opened()
    now = at(0)
    for _ in range(100):
        assert s.deadline is not None
        now = s.deadline
        [echo] = sent(s.timer(now))
        [reply] = sent(c.receive(echo, now))
        assert s.receive(reply, now) == []
    assert s.opened and now == at(1000)


def test_whatever_comes_proves_life() -> None:
    s, _ = opened()
    for frame in (b"\xff\x03\x00\x21\x45", b"\x21\x45\x00", b"\x00\x21\x45\x00\x00\x14"):
        s.timer(at(10))
        assert s.receive(frame, at(15)) == []
        assert s.deadline == at(25)
    s.activity(at(20))
    assert s.deadline == at(30) and s.timer(at(25)) == []


def test_echo_can_be_turned_off() -> None:
    s, c = (
        server(msgspec.structs.replace(SERVER, echo_interval=0)),
        client(msgspec.structs.replace(CLIENT, echo_interval=0)),
    )
    connect(s, c)
    assert s.opened and s.deadline is None and c.deadline is None
    s.activity(at(3))
    assert s.deadline is None


@pytest.mark.parametrize("failures", [1, 3])
def test_interval_and_failures_are_configurable(failures: int) -> None:
    s, c = server(msgspec.structs.replace(SERVER, echo_interval=at(2), echo_failures=failures)), client()
    connect(s, c)
    assert until_the_end(s)[-1][0] == at(2 * (failures + 1))


def test_K_7_the_verdict_is_held_and_the_count_starts_anew_afterwards() -> None:
    s, _ = opened()
    for i in range(1, 5):
        s.timer(at(10 * i))
    s.hold(True)
    for i in range(5, 100):
        assert kinds(s.timer(at(10 * i))) == [(LCP, 9)], "scheduled echoes go on"
    s.hold(False)
    assert until_the_end(s)[-1][0] == at(10 * 106)


def test_K_7_a_held_link_is_not_ended_by_stray_magic() -> None:
    s, _ = opened()
    s.hold(True)
    for _ in range(100):
        assert s.receive(lcp(9, 1, b"\1\2\3\4"), at(1)) == []
    assert s.opened


def test_a_link_can_be_asked_out_of_turn_and_tells_whether_anything_came() -> None:
    s, c = opened()
    assert s.record is not None
    restored = Link.restore(SERVER, s.record, lambda n: bytes(n), at(0))
    assert not restored.heard
    [echo] = sent(restored.ask(at(1)))
    assert restored.deadline == at(11)
    assert not restored.heard
    [reply] = sent(c.receive(echo, at(1)))
    restored.receive(reply, at(1))
    assert restored.heard
    assert restored.unanswered == 0


def test_P_10_a_stray_magic_is_no_sign_of_life() -> None:
    s, _ = opened()
    assert s.record is not None
    restored = Link.restore(SERVER, s.record, lambda n: bytes(n), at(0))
    restored.receive(lcp(10, 1, b"\1\2\3\4"), at(1))
    assert not restored.heard


def test_a_link_that_is_not_open_is_not_asked() -> None:
    link, _ = reached(Phase.ESTABLISH)
    assert link.ask(at(1)) == []


@pytest.mark.parametrize("head_of", [b"\xff\x03\xc0\x21", b"\xc0\x21"], ids=["ff03", "acfc"])
def test_an_echo_is_understood_in_every_framing_that_a_peer_may_use(head_of: bytes) -> None:
    """LCP's own number is never compressed to one octet (RFC 1661 6.5); address and control may be left out."""
    s, _ = opened()
    assert s.record is not None
    _, peer = magics(s)
    restored = Link.restore(SERVER, s.record, lambda n: bytes(n), at(0))
    request = lcp(9, 7, peer)
    assert kinds(restored.receive(head_of + request[4:], at(1))) == [(LCP, 10)]
    assert restored.heard
