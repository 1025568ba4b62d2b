"""The UDP socket on the loopback interface."""

import errno
import os
import socket

import pytest

from holdfast.daemon.effects import Address
from holdfast.daemon.udp import ListenError, UdpSocket, adopt_udp, open_udp, owner_of
from holdfast.dataplane.inbox import Inbox

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def received(udp: UdpSocket, limit: int = 8) -> list[tuple[bytes, Address]]:
    """One batch."""
    inbox = Inbox(slots=limit)
    return [(inbox.datagram(i), inbox.source(i)) for i in range(udp.read(inbox))]


def no_sleep(seconds: float) -> None:
    """Time passes."""


def test_it_is_bound_where_configured_without_reuse_and_with_df_off() -> None:
    port = free_port()
    udp = open_udp((LOOPBACK, port), 1 << 20)
    assert udp.address == (LOOPBACK, port)
    assert udp.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
    assert udp.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    assert udp.socket.getsockopt(socket.IPPROTO_IP, 10) == 0, "IP_MTU_DISCOVER is DONT"
    assert udp.receive_buffer > 0
    udp.close()


def test_it_reads_a_bounded_batch_and_then_the_rest() -> None:
    one, two = open_udp((LOOPBACK, free_port()), 0), open_udp((LOOPBACK, free_port()), 0)
    for i in range(5):
        one.send(bytes([i]), two.address)
    assert received(two, 3) == [(bytes([i]), one.address) for i in range(3)]
    assert received(two, 3) == [(bytes([i]), one.address) for i in (3, 4)]
    assert received(two, 3) == []
    one.close()
    two.close()


def test_an_absent_peer_changes_nothing() -> None:
    udp, other = open_udp((LOOPBACK, free_port()), 0), open_udp((LOOPBACK, free_port()), 0)
    for _ in range(3):
        udp.send(b"hello", (LOOPBACK, free_port()))  # answered by an ICMP port unreachable
    assert received(udp) == []
    udp.send(b"still here", other.address)
    assert received(other) == [(b"still here", udp.address)]
    udp.close()
    other.close()


def test_what_cannot_be_sent_is_counted_by_reason() -> None:
    udp = open_udp((LOOPBACK, free_port()), 0)
    udp.send(bytes(65_530), (LOOPBACK, 9))
    assert udp.send_failures == {errno.EMSGSIZE: 1}
    assert udp.counters()["udp_send_emsgsize"] == 1
    udp.close()


def test_a_full_receive_buffer_shows_in_the_drop_counter() -> None:
    udp = open_udp((LOOPBACK, free_port()), 0)
    udp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sender = open_udp((LOOPBACK, free_port()), 0)
    for _ in range(50):
        sender.send(bytes(1000), udp.address)
    arrived = len(received(udp, 100))
    assert arrived < 50
    assert udp.drops() == 50 - arrived
    udp.close()
    sender.close()


def test_a_taken_port_is_an_error_that_names_its_owner_and_the_remedy() -> None:
    holder = open_udp((LOOPBACK, free_port()), 0)
    with pytest.raises(ListenError) as refused:
        open_udp(holder.address, 0, taken_for_s=0.1, sleep=no_sleep)
    assert f"(process {os.getpid()})" in str(refused.value)
    assert "listen.port" in str(refused.value)
    assert owner_of(("0.0.0.0", holder.address[1])).endswith(f"(process {os.getpid()})")
    holder.close()


def test_a_port_that_is_given_back_in_time_is_taken_over() -> None:
    holder = open_udp((LOOPBACK, free_port()), 0)
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            holder.close()

    udp = open_udp(holder.address, 0, sleep=sleep)
    assert len(waited) == 3
    udp.close()


def test_an_address_of_another_machine_is_refused_at_once() -> None:
    with pytest.raises(ListenError, match=r"listen\.address"):
        open_udp(("198.51.100.1", 1701), 0, sleep=no_sleep)


def test_F_34_a_predecessors_socket_is_adopted_with_what_waited_in_it() -> None:
    predecessor = open_udp((LOOPBACK, free_port()), 0)
    peer = open_udp((LOOPBACK, free_port()), 0)
    peer.send(b"while it was dead", predecessor.address)
    udp = adopt_udp([os.dup(predecessor.fileno())], predecessor.address, 0)
    predecessor.close()
    assert isinstance(udp, UdpSocket)
    assert received(udp) == [(b"while it was dead", peer.address)]
    udp.close()
    peer.close()


def test_a_socket_of_another_address_is_not_adopted() -> None:
    other = open_udp((LOOPBACK, free_port()), 0)
    assert adopt_udp([os.dup(other.fileno())], (LOOPBACK, 1), 0) is None
    other.close()
