"""Speaking for a node that is stopped, and hearing on the wire what was said."""

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from msgspec.structs import replace

from holdfast.core.errors import LocalError
from holdfast.lab import netns
from holdfast.lab.netns import claim, entered
from holdfast.lab.stand_in import exchange_hellos
from holdfast.lab.tap import Said, Tap, count
from holdfast.protocol.channel import ControlChannel
from holdfast.protocol.settings import ChannelSettings
from holdfast.records import Side
from holdfast.records.writes import Save
from holdfast.state import inspect
from holdfast.state.journal import Journal, JournalLocked
from holdfast.wire.codes import Msg
from holdfast.wire.header import parse_control
from state.samples import tunnel

MISSING = netns.unavailable()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

US, PEER = ("127.0.0.2", 1701), ("127.0.0.3", 1701)
TUNNEL = tunnel(
    17,
    peer_id=904,
    local_address=US[0],
    peer_address=PEER[0],
    initiator=True,
    side=Side.LAC,
    peer_name="peer",
    secret="",
    local_failover=None,
    peer_failover=None,
    acked=65_400,
    nr=3,
)


@pytest.fixture
def namespace() -> Iterator[str]:
    with claim() as lab:
        lab.add("there")
        yield lab.name("there")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    journal.submit([Save(TUNNEL)])
    journal.close()
    return path


class Peer:
    """Acknowledges what comes in order, until it is closed."""

    def __init__(self, namespace: str) -> None:
        with entered(namespace):
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(PEER)
        self._channel = ControlChannel(ChannelSettings(), TUNNEL.local_id)
        self._channel.reset(TUNNEL.nr, TUNNEL.acked, 0)
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        channel = self._channel
        while True:
            datagram, source = self._sock.recvfrom(2048)
            if not datagram:
                return
            header = parse_control(datagram)
            channel.receive(header.session_id, header.ns, header.nr, datagram[12 : header.end], 0)
            channel.finish(0)
            for answer in channel.out:
                self._sock.sendto(answer, source)
            channel.out.clear()

    def close(self) -> None:
        self._sock.sendto(b"", PEER)
        self._thread.join()
        self._sock.close()


def test_hellos_past_the_wrap_are_acknowledged_and_recorded(namespace: str, journal: Path) -> None:
    tap = Tap(namespace, "lo")
    peer = Peer(namespace)
    found = exchange_hellos(journal, namespace, "peer", 300)
    peer.close()
    heard = tap.take()
    tap.close()
    assert found == TUNNEL
    [after] = inspect.show(journal).saved.tunnels
    assert (after.acked, after.nr) == ((65_400 + 300) % 65_536, 3)
    assert count(heard, Msg.HELLO, US[0]) == 2 * 300, "the loopback interface shows everything twice"
    assert replace(heard[0], at_ns=0) == Said(US[0], PEER[0], Msg.HELLO, TUNNEL.peer_id, 0, 65_400, 3)


def test_no_tunnel_with_that_peer_and_a_running_node(namespace: str, journal: Path) -> None:
    with pytest.raises(LocalError, match="no tunnel with stranger"):
        exchange_hellos(journal, namespace, "stranger", 1)
    owner = Journal.open(journal)
    with pytest.raises(JournalLocked):
        exchange_hellos(journal, namespace, "peer", 1)
    owner.close()
