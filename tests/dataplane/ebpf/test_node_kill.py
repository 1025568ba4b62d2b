"""Packets through a real LNS that is killed, started again and upgraded: none is lost, and totals never go backwards."""

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import select

import pytest

from dataplane.ebpf.rig import reason
from holdfast.dataplane.ebpf import syscall
from holdfast.dataplane.ebpf.pins import CURRENT, remove
from holdfast.dataplane.ebpf.shipped import shipped
from holdfast.dataplane.interfaces import finish_checksums, index_of
from holdfast.lab.netns import Claim, claim, entered
from holdfast.lab.nodes import Launch, Node, command, lac_config, lns_config
from holdfast.lab.process import Process, spawn
from holdfast.lab.topology import CORE_ADDRESS, TUN, WIRE, Topology, build, route_subscribers
from holdfast.records import Counters

REASON = reason()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

NAMES = ("ann", "bob", "eve")
PORT = 40000
PAYLOAD = 64
INNER = PAYLOAD + 28
LIMIT_S = 30.0
OTHER_VERSION = """
import sys
from pathlib import Path
from holdfast.cli.main import main
from holdfast.dataplane.ebpf.shipped import shipped
shipped.__defaults__ = (Path({path!r}),)
main(["run", "-c", {config!r}])
"""


class Traffic:
    """Numbered packets both ways for every subscriber, one in each direction a turn; who got which."""

    def __init__(self, net: Topology, addresses: list[str], at_end: ExitStack) -> None:
        self.addresses = addresses
        self.sent = 0
        self._core = self._bind(net.core, CORE_ADDRESS, at_end)
        self._own = [self._bind(net.lac, address, at_end) for address in addresses]
        self.up: set[tuple[str, int]] = set()
        self.down: set[tuple[str, int]] = set()

    def _bind(self, namespace: str, address: str, at_end: ExitStack) -> socket.socket:
        with entered(namespace):
            made = at_end.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made.setblocking(False)
            made.bind((address, PORT))
            return made

    def turn(self) -> None:
        """Send one packet each way for every subscriber, and take what has come."""
        data = self.sent.to_bytes(PAYLOAD, "big")
        for address, own in zip(self.addresses, self._own, strict=True):
            own.sendto(data, (CORE_ADDRESS, PORT))
            self._core.sendto(data, (address, PORT))
        self.sent += 1
        self.take(0.002)

    def take(self, wait_s: float) -> None:
        """Take what comes in that time."""
        end = time.monotonic() + wait_s
        while ready := select([self._core, *self._own], [], [], max(0.0, end - time.monotonic()))[0]:
            for sock in ready:
                data, (source, _) = sock.recvfrom(2048)
                number = int.from_bytes(data, "big")
                if sock is self._core:
                    self.up.add((source, number))
                else:
                    self.down.add((sock.getsockname()[0], number))

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Go on sending until something has come about."""
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end, f"waited for {what}"
            self.turn()

    def lost(self) -> tuple[int, int]:
        """How many have not arrived, up and down, once nothing more comes."""
        every = self.sent * len(self.addresses)
        end = time.monotonic() + LIMIT_S
        while (len(self.up), len(self.down)) != (every, every) and time.monotonic() < end:
            self.take(0.1)
        return every - len(self.up), every - len(self.down)


def send_as_on_a_wire(namespace: str, interface: str) -> None:
    """Let a veth's senders finish checksums and cut bursts (UDP_SEGMENT): otherwise such packets cross it unfinished.

    A LAC in user space would see wrong checksums, and bursts of data messages are the LNS's daemon's business.
    """
    with entered(namespace):
        finish_checksums(interface)


def totals(node: Node) -> dict[int, Counters]:
    """What a node says of every session that forwards."""
    details = [node.control.session(view.key) for view in node.control.sessions()]
    return {d.session.key: d.traffic for d in details if d is not None and d.forwarding}


class Scene:
    """A LAC and an LNS with three subscribers, and packets between them and the core."""

    def __init__(self, lab: Claim, directory: Path, at_end: ExitStack, kind: str = "ebpf") -> None:
        self.net, self.directory = build(lab), directory
        send_as_on_a_wire(self.net.core, "lns")
        send_as_on_a_wire(self.net.lac, WIRE)
        state, run = directory / "state", lab.directory / "lns"
        self.pins, self.control_socket = f"{run}/bpf", f"{run}/control.sock"
        text = lns_config(NAMES, "secret", state, run).replace(
            '[dataplane]\nkind = "tun"',
            f'[dataplane]\nkind = "{kind}"\nmode = "tc"\ninterfaces = ["{WIRE}", "core"]\nmax_sessions = 64',
        )
        self.lns = self._node("lns", text, run, at_end)
        text = lac_config(NAMES, (), 1, "secret", directory / "lac-state", lab.directory / "lac")
        self.lac = self._node("lac", text, lab.directory / "lac", at_end)
        at_end.callback(remove, self.pins)
        at_end.callback(self.lns.close)
        self.lns.start()
        self._wait(lambda: self.lns.reached_ns("node.data_flows"))
        self.lac.start()
        self._wait(lambda: self.lac.reached_ns("node.data_flows"))
        route_subscribers(self.net)
        self._wait(lambda: self.lns.reached_ns("node.api"))
        self._wait(lambda: self.lac.reached_ns("node.api"))
        self._wait(lambda: all(len(totals(node)) == len(NAMES) for node in (self.lns, self.lac)))
        self.keys = {view.key: view.address for view in self.lns.control.sessions()}
        self.traffic = Traffic(self.net, list(self.keys.values()), at_end)
        self._before: dict[int, Counters] = {}

    def _node(self, role: str, config: str, run: Path, at_end: ExitStack) -> Node:
        work = self.directory / role
        for path in (work, run):
            path.mkdir(mode=0o700)
        node = Node(role, self.net.of(role), config, work, run, launch=self._launch)
        at_end.callback(node.close)
        return node

    launch: Launch = staticmethod(command)

    def _launch(self, config: Path, namespace: str, log: Path) -> Process:
        return self.launch(config, namespace, log)

    @staticmethod
    def _wait(condition: Callable[[], object]) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    def send(self, turns: int) -> None:
        """So many packets more."""
        wanted = self.traffic.sent + turns
        self.traffic.until(lambda: self.traffic.sent >= wanted, "packets")

    def all_arrived(self) -> None:
        """Nothing is lost, and the node has counted every packet once."""
        assert self.traffic.lost() == (0, 0)
        seen, sent = totals(self.lns), self.traffic.sent
        for key, before in self._before.items():
            now = seen[key]
            assert now.up_packets >= before.up_packets and now.down_packets >= before.down_packets
            assert now.up_bytes >= before.up_bytes and now.down_bytes >= before.down_bytes
        expected = Counters(sent, sent * INNER, sent, sent * INNER)
        assert seen == dict.fromkeys(self.keys, expected)
        self._before = seen

    def start_again(self) -> None:
        """Start the LNS, with packets on their way, until it has its tunnel back."""
        self.lns.start()
        self.traffic.until(lambda: self.lns.reached_ns("node.synchronised"), "synchronisation")
        self.traffic.until(lambda: self.lns.reached_ns("node.api"), "the API")

    def told(self, event: str) -> list[dict[str, object]]:
        """The events of one name since the last start."""
        self.lns.log.refresh()
        return list(self.lns.log.since(self.lns.started_ns, event))

    def program(self) -> int:
        """The id of the program at the wire."""
        link = syscall.get_pinned(f"{self.pins}/{CURRENT}/link_{WIRE}_tc")
        try:
            return syscall.link_info(link).program_id
        finally:
            os.close(link)


@contextmanager
def another_version(directory: Path) -> Iterator[Launch]:
    """Starts an LNS of an installation whose programs are others, as far as it can tell."""
    path = directory / "other.bpf.o"
    shutil.copy(shipped().path, path)
    Path(f"{path}.sums").write_text(f"{shipped().sources} {'1' * 64}\n")

    def launch(config: Path, namespace: str, log: Path) -> Process:
        code = OTHER_VERSION.format(path=str(path), config=str(config))
        return spawn([sys.executable, "-c", code], namespace, log)

    yield launch


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with claim() as lab, ExitStack() as at_end:
        yield Scene(lab, tmp_path, at_end)


def test_nothing_is_lost_while_the_daemon_is_killed_and_upgraded(scene: Scene, tmp_path: Path) -> None:
    scene.send(50)
    scene.all_arrived()
    first = scene.program()
    for _ in range(2):
        scene.lns.kill()
        scene.send(1)
        scene.lns.reap()
        scene.send(200)
        scene.start_again()
        scene.send(50)
        scene.all_arrived()
        assert [event["adopted"] for event in scene.told("dataplane.chosen")] == [True]
        assert scene.program() == first
        assert not scene.told("dataplane.mismatch")

    with another_version(tmp_path) as launch:
        scene.launch = launch
        scene.lns.kill()
        scene.lns.reap()
        scene.start_again()
        scene.send(50)
        scene.all_arrived()
        assert scene.told("dataplane.upgrade")
        assert scene.program() != first
        assert os.readlink(f"{scene.pins}/{CURRENT}/program") == "1" * 64

    scene.lns.control.stop(teardown=True)
    assert scene.lns.reap() == 0
    assert not os.path.exists(scene.pins)
    with entered(scene.net.lns):
        assert not index_of(TUN)
