"""A node as a process: its start, its ends, and what it leaves behind."""

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.processes import LOOPBACK, NodeProcess, config_text
from holdfast.cli.client import Client, NodeUnreachable

SLOW_IMPORTS = ("typer", "rich", "click", "litestar", "uvicorn", "pyroute2")

REPORT_IMPORTS = f"""
import sys
from holdfast.cli.main import main
import holdfast.cli.run
from holdfast.daemon.config import load
from holdfast.daemon.run import run
def report():
    print(*(name for name in {SLOW_IMPORTS!r} if name in sys.modules), flush=True)
run(load(sys.argv[1]), data_flows=report)
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "holdfast.toml"
    file.write_text(config_text(tmp_path, free_port()))
    return file


@pytest.fixture
def node(config: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(config)
    yield node
    node.close()


def test_nothing_slow_is_imported_when_data_flows(config: Path) -> None:
    node = NodeProcess(config, "-c", REPORT_IMPORTS, str(config))
    try:
        node.wait_for("node.data_flows")
        node.wait_for("node.synchronised")
        node.signal(signal.SIGTERM)
        assert node.end()[:2] == (0, "\n")
    finally:
        node.close()


def test_a_start_goes_through_its_stages_in_order(node: NodeProcess) -> None:
    node.wait_for("node.api")
    names = [event["event"] for event in node.events if event["event"].startswith("node.")]
    assert names == ["node.started", "node.data_flows", "node.synchronised", "node.api"]
    times = [event["monotonic_us"] for event in node.events]
    assert times == sorted(times)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(node: NodeProcess, number: signal.Signals) -> None:
    node.wait_for("node.data_flows")
    node.signal(number)
    status, _, log = node.end()
    assert status == 0
    assert "node.stopped" in log


def test_it_answers_and_stops_by_its_api(node: NodeProcess) -> None:
    node.wait_for("node.api")
    client = Client(node.socket)
    assert client.call("GET", "node")["pid"] == node.pid
    counters = client.call("GET", "counters")
    assert (counters["internal_errors"], counters["journal_beside_failures"]) == (0, 0)
    client.call("POST", "stop")
    assert node.end()[0] == 0
    with pytest.raises(NodeUnreachable):
        client.call("GET", "node")
    client.close()


def test_a_teardown_without_tunnels_ends_at_once(node: NodeProcess) -> None:
    node.wait_for("node.api")
    client = Client(node.socket)
    client.call("POST", "stop", teardown="true")
    client.close()
    assert node.end()[0] == 0


def test_it_comes_back_after_sigkill_with_the_same_socket(node: NodeProcess, config: Path) -> None:
    address = node.wait_for("node.started")["port"]
    node.signal(signal.SIGKILL)
    node.end()
    again = NodeProcess(config)
    try:
        assert again.wait_for("node.started")["port"] == address
        again.wait_for("node.synchronised")
    finally:
        again.close()


def test_a_second_node_on_the_same_state_is_refused_with_the_owners_id(
    node: NodeProcess, config: Path, tmp_path: Path
) -> None:
    node.wait_for("node.started")
    other = tmp_path / "other.toml"
    other.write_text(config_text(tmp_path, free_port()))
    second = NodeProcess(other)
    status, _, errors = second.end()
    assert status == 1
    assert str(node.pid) in errors
    assert "state_dir" in errors


def test_what_it_writes_is_its_owners_only(node: NodeProcess, tmp_path: Path) -> None:
    node.wait_for("node.api")
    for path in (tmp_path / "state" / "journal.db", tmp_path / "run" / "control.sock"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    for path in (tmp_path / "state", tmp_path / "run"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_a_wrong_configuration_is_one_line_and_status_2(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.toml"
    file.write_text("[nod]\n")
    node = NodeProcess(file)
    status, _, errors = node.end()
    assert status == 2
    assert errors == f"holdfast: {file}: nod is not known: did you mean node?\n"


def test_under_systemd_it_stores_its_socket_and_gives_signs_of_life(config: Path, tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(30)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"}
    node = NodeProcess(config, environment=environment)
    try:
        message, fds, _, _ = socket.recv_fds(manager, 4096, 4)
        assert message.startswith(b"FDSTORE=1\nFDNAME=udp")
        with socket.socket(fileno=fds[0]) as stored:
            assert stored.getsockname()[1] == node.wait_for("node.started")["port"]
        assert manager.recv(4096).startswith(b"READY=1")
        assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        node.signal(signal.SIGTERM)
        while (last := manager.recv(4096)) == b"WATCHDOG=1":
            pass
        assert last.startswith(b"STOPPING=1")
        assert node.end()[0] == 0
    finally:
        node.close()
        manager.close()


def test_a_stored_socket_of_another_address_is_given_back(config: Path, tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(30)
    stored = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stored.bind((LOOPBACK, 0))
    handed_over = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
    )
    handed_over += "from holdfast.cli.main import main; main(['run', '-c', sys.argv[2]])"
    os.set_inheritable(stored.fileno(), True)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "udp"}
    node = NodeProcess(
        config, "-c", handed_over, str(stored.fileno()), str(config), environment=environment, close_fds=False
    )
    try:
        assert manager.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=udp"
        assert manager.recv(4096).startswith(b"FDSTORE=1")
    finally:
        node.close()
        stored.close()
        manager.close()
