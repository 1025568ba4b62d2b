"""Talking to systemd: a datagram socket stands in for it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.daemon.systemd import Notifier, notifier, passed_fds, watchdog_interval

US_PID = 4711


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


@pytest.fixture
def to_manager(manager: socket.socket) -> Iterator[Notifier]:
    speaker = Notifier(manager.getsockname())
    yield speaker
    speaker.close()


def test_each_message_has_its_assignments(manager: socket.socket, to_manager: Notifier) -> None:
    assert to_manager.ready("4 tunnels")
    assert to_manager.status("synchronised\nREADY=0")
    assert to_manager.watchdog()
    assert to_manager.extend_timeout(2_000_000)
    assert to_manager.unstore()
    assert to_manager.stopping()
    assert [manager.recv(4096) for _ in range(6)] == [
        b"READY=1\nSTATUS=4 tunnels",
        b"STATUS=synchronised READY=0",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=2000000",
        b"FDSTOREREMOVE=1\nFDNAME=udp",
        b"STOPPING=1",
    ]


def test_the_stored_descriptor_is_the_same_socket(manager: socket.socket, to_manager: Notifier) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        assert to_manager.store(udp.fileno())
        message, fds, _, _ = socket.recv_fds(manager, 4096, 4)
        assert message == b"FDSTORE=1\nFDNAME=udp\nFDPOLL=0"
        with socket.socket(fileno=fds[0]) as stored:
            assert stored.getsockname() == udp.getsockname()


def test_an_abstract_socket_is_found() -> None:
    name = f"holdfast-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(5)
        speaker = Notifier("@" + name)
        assert speaker.ready()
        speaker.close()
        assert listener.recv(100) == b"READY=1"


def test_without_a_manager_everything_is_a_no_op() -> None:
    environment: dict[str, str] = {}
    nobody = notifier(environment)
    assert not nobody.connected
    assert not nobody.ready() and not nobody.watchdog() and not nobody.store(0)
    nobody.close()


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    speaker = Notifier(str(tmp_path / "nobody"))
    assert speaker.connected and not speaker.ready() and not speaker.store(0)
    speaker.close()
    assert not speaker.connected and not speaker.ready()


def test_a_manager_that_does_not_read_never_blocks_the_node(to_manager: Notifier) -> None:
    while to_manager.watchdog():
        pass


def test_the_environment_is_not_left_for_children(manager: socket.socket) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "10000000",
        "WATCHDOG_PID": str(US_PID),
        "LISTEN_FDS": "0",
        "LISTEN_PID": str(US_PID),
        "LISTEN_FDNAMES": "",
        "PATH": "/bin",
    }
    notifier(environment).close()
    assert watchdog_interval(environment, US_PID) == 5_000_000
    assert passed_fds(environment, US_PID) == {}
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1_500_000),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_per_limit(environment: dict[str, str], interval: int | None) -> None:
    assert watchdog_interval(environment, US_PID) == interval


@pytest.fixture
def two_fds() -> Iterator[tuple[int, int]]:
    """Two descriptors in a row, inheritable as systemd passes them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, open(os.devnull) as other:
        os.dup2(one.fileno(), 200)
        os.dup2(other.fileno(), 201)
        yield 200, 201
        os.close(200)
        os.close(201)


def as_passed(names: str, count: int, pid: int = US_PID) -> dict[str, str]:
    return {"LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "LISTEN_PID": str(pid)}


def test_passed_descriptors_come_by_name_and_are_not_inherited(two_fds: tuple[int, int]) -> None:
    assert passed_fds(as_passed("udp:other", 2), US_PID, first=200) == {"udp": [200], "other": [201]}
    assert not os.get_inheritable(200) and not os.get_inheritable(201)


def test_names_may_repeat_or_be_missing(two_fds: tuple[int, int]) -> None:
    assert passed_fds(as_passed("udp:udp", 2), US_PID, first=200) == {"udp": [200, 201]}
    assert passed_fds(as_passed("udp", 2), US_PID, first=200) == {"udp": [200], "unknown": [201]}


def test_descriptors_for_another_process_are_not_ours(two_fds: tuple[int, int]) -> None:
    assert passed_fds(as_passed("udp:other", 2, pid=1), US_PID, first=200) == {}


def test_announced_descriptors_that_are_not_there_are_left_out(two_fds: tuple[int, int]) -> None:
    assert passed_fds(as_passed("udp:other:third", 3), US_PID, first=200) == {"udp": [200], "other": [201]}
