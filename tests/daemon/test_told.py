"""What a node has acknowledged is known after SIGKILL, by a real process in front of a model of xl2tpd."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from daemon.processes import LOOPBACK, NodeProcess, config_text
from daemon.test_run import free_port
from holdfast.core.clock import SECOND
from holdfast.lab.sim.peer_wire import Heard, Kind, read
from holdfast.lab.sim.peers import Xl2tpd
from holdfast.records import Side

PEER = f"""
[[peer]]
name = "lac1"
address = "{LOOPBACK}"
"""
PATIENCE_S = 20


class Lac:
    """The model, with a real socket; its time stands still, so that it says nothing twice."""

    def __init__(self, node_port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK, 0))
        self.socket.settimeout(PATIENCE_S)
        self._node = LOOPBACK, node_port
        self.peer = Xl2tpd(Side.LAC, Random(1), b"", self._send)
        self.tunnel = self.peer.open(SECOND)
        self.hear(lambda _: self.tunnel.up)

    def _send(self, data: bytes) -> None:
        self.socket.sendto(data, self._node)

    def hear(self, enough: Callable[[Heard], bool]) -> Heard:
        """Take in what comes up to the message that is enough."""
        while True:
            data = self.socket.recv(2048)
            self.peer.receive(data, SECOND)
            if enough(heard := read(data)):
                return heard


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "holdfast.toml"
    file.write_text(config_text(tmp_path, free_port(), PEER))
    return file


@pytest.fixture
def lac(config: Path) -> Iterator[Lac]:
    node = NodeProcess(config)
    lac = Lac(node.wait_for("node.started")["port"])
    node.wait_for("tunnel.up")
    lac.hear(lambda heard: heard.nr == lac.tunnel.ns)
    for _ in range(5):
        lac.peer.hello(lac.tunnel, SECOND)
        lac.hear(lambda heard: heard.nr == lac.tunnel.ns)
    node.signal(signal.SIGKILL)  # at once: the journal has the numbers of the set-up
    node.end()
    yield lac
    lac.socket.close()


def test_after_sigkill_the_first_message_carries_the_number_that_was_told_last(
    config: Path, lac: Lac
) -> None:
    again = NodeProcess(config)
    try:
        probe = lac.hear(lambda heard: heard.kind == Kind.HELLO)
        assert probe.nr == lac.tunnel.ns == 7
        lac.hear(lambda heard: heard.kind == Kind.HELLO)
        again.wait_for("recovery.synchronised")
    finally:
        again.close()


def test_a_node_without_the_table_goes_by_the_journal_and_says_so(
    config: Path, lac: Lac, tmp_path: Path
) -> None:
    table = tmp_path / "state" / "journal.db.told"
    assert table.stat().st_mode & 0o777 == 0o600
    table.unlink()
    table.mkdir()
    again = NodeProcess(config)
    try:
        again.wait_for("told.unavailable")
        assert lac.hear(lambda heard: heard.kind == Kind.HELLO).nr < lac.tunnel.ns
    finally:
        again.close()
