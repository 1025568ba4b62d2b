"""Datagrams of one turn: grouped where that is cheaper, in order where that matters."""

import socket
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from holdfast.daemon.bursts import LEAST, MOST, Bursts
from holdfast.daemon.effects import Address
from holdfast.daemon.udp import open_udp
from holdfast.records import session_key

PEER = ("192.0.2.2", 1701)


class Wire:
    """Remembers what was sent: single datagrams, and bursts where `able`."""

    def __init__(self, able: bool = True) -> None:
        self.able = able
        self.sent: list[tuple[bytes, Address]] = []
        self.calls = 0
        self.noted: list[tuple[int, bytes]] = []
        self.bursts = Bursts(self.send, self.send_burst, lambda said: self.noted.extend(said.items()))

    def send(self, data: bytes, to: Address) -> None:
        self.calls += 1
        self.sent.append((data, to))

    def send_burst(self, datagrams: Sequence[bytes], to: Address) -> bool:
        if self.able:
            self.calls += 1
            self.sent += [(data, to) for data in datagrams]
        return self.able


def test_datagrams_of_one_kind_leave_with_one_call() -> None:
    wire = Wire()
    for lane in range(1, 11):
        wire.bursts.add(lane, bytes((1, lane)), PEER)
        wire.bursts.add(lane, bytes((2, lane, 0)), PEER)
    assert not wire.sent
    wire.bursts.flush()
    assert wire.calls == 2
    assert len(wire.sent) == 20
    wire.bursts.flush()
    assert wire.calls == 2


def test_a_few_leave_one_by_one() -> None:
    wire = Wire()
    for lane in range(LEAST - 1):
        wire.bursts.add(lane, b"xx", PEER)
    wire.bursts.flush()
    assert wire.calls == LEAST - 1


def test_a_burst_has_an_end() -> None:
    wire = Wire()
    for lane in range(MOST + LEAST):
        wire.bursts.add(lane, b"xx", PEER)
    wire.bursts.flush()
    assert wire.calls == 2


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2)), max_size=200), st.booleans()
)
def test_every_lane_keeps_its_order(added: list[tuple[int, int, int]], able: bool) -> None:
    wire = Wire(able)
    expected: dict[int, list[tuple[bytes, Address]]] = {}
    for number, (lane, size, host) in enumerate(added):
        data = number.to_bytes(2, "big") + bytes((lane,)) * size
        to = (f"192.0.2.{host}", 1701)
        expected.setdefault(lane, []).append((data, to))
        wire.bursts.add(lane, data, to)
    wire.bursts.flush()
    assert len(wire.sent) == len(added)
    for lane, datagrams in expected.items():
        assert [(d, to) for d, to in wire.sent if d[2] == lane] == datagrams


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 2), st.integers(1, 3)), max_size=100))
def test_no_session_overtakes_its_tunnel(added: list[tuple[bool, int, int]]) -> None:
    wire = Wire()
    for number, (is_session, tunnel, size) in enumerate(added):
        lane = session_key(tunnel, number + 1) if is_session else tunnel
        wire.bursts.add(lane, bytes((number, is_session, tunnel)) + bytes(size), PEER)
    wire.bursts.flush()
    for at, (session, _) in enumerate(wire.sent):
        later_of_tunnel = (d for d, _ in wire.sent[at + 1 :] if not d[1] and d[2] == session[2])
        assert not session[1] or all(d[0] > session[0] for d in later_of_tunnel)


def test_the_kernel_cuts_a_burst_up_again() -> None:
    udp = open_udp(("127.0.0.1", 0), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        datagrams = [bytes((i,)) * 60 for i in range(8)]
        if udp.send_burst(datagrams, peer.getsockname()):
            assert [peer.recv(2000) for _ in datagrams] == datagrams
    udp.close()


def test_a_path_that_cannot_is_not_tried_again() -> None:
    udp = open_udp(("127.0.0.1", 0), 0)
    too_long = [bytes(60_000)] * 4
    assert not udp.send_burst(too_long, ("127.0.0.1", 9))
    assert not udp.send_burst([b"xx"] * 4, ("127.0.0.1", 9))
    assert not udp.send_failures
    udp.close()
