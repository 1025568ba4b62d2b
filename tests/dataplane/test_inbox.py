"""The inbox on a real UDP socket of the loopback: batches, sources, true lengths."""

import socket
from collections.abc import Iterator
from select import select

import pytest

from holdfast.dataplane.inbox import Inbox


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        sender.bind(("127.0.0.1", 0))
        sender.connect(receiver.getsockname())
        yield receiver, sender


def read_all(inbox: Inbox, receiver: socket.socket, expected: int) -> list[tuple[bytes, tuple[str, int]]]:
    got: list[tuple[bytes, tuple[str, int]]] = []
    while len(got) < expected and select([receiver], [], [], 5)[0]:
        count = inbox.read(receiver.fileno())
        got += [(inbox.datagram(i), inbox.source(i)) for i in range(count)]
    return got


def test_datagrams_come_in_order_with_their_sources(pair: tuple[socket.socket, socket.socket]) -> None:
    receiver, sender = pair
    sent = [bytes([n]) * (n + 1) for n in range(100)]
    for data in sent:
        sender.send(data)
    assert read_all(Inbox(), receiver, 100) == [(data, sender.getsockname()) for data in sent]


def test_an_empty_socket_gives_an_empty_batch(pair: tuple[socket.socket, socket.socket]) -> None:
    inbox = Inbox()
    assert inbox.read(pair[0].fileno()) == 0
    assert (inbox.count, inbox.lengths, inbox.sources) == (0, [], [])


def test_a_datagram_longer_than_a_slot_shows_its_true_length(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    receiver, sender = pair
    inbox = Inbox(slots=4, slot_size=32)
    sender.send(bytes(range(100)))
    assert read_all(inbox, receiver, 1)[0][0] == bytes(range(32))
    assert inbox.lengths == [100]


def test_a_closed_socket_raises() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        fd = closed.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        Inbox().read(fd)


def test_forged_sources_cost_bounded_memory_and_stay_right() -> None:
    inbox = Inbox(slots=1)
    for n in range(10_000):
        source = (f"10.{n >> 8}.{n & 255}.1", n + 1)
        inbox.fill([(b"x", source)])
        assert inbox.source(0) == source
