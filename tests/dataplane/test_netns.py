"""The device for real: made, found, kept, refused, removed; and the packet cases through a TUN of the kernel."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from select import select

import pytest

from dataplane.cases import (
    CASES,
    DOWN,
    IP,
    LNS,
    NODE,
    PEER,
    STRANGER,
    THEIRS,
    Case,
    FromDevice,
    entry,
    packet,
)
from holdfast.dataplane.contract import Address, DeviceLost, Punt, Verdict
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.routing import Route, Rule, routes_through, rules
from holdfast.dataplane.tun import TunPlane
from holdfast.dataplane.tundev import (
    DeviceBusy,
    DeviceError,
    Tun,
    TunSpec,
    attach,
    dropped,
    pool_routes,
    teardown,
)
from holdfast.lab.netns import claim, entered, ip, unavailable
from holdfast.records import Counters

REASON = unavailable()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

POOL = "100.64.0.0/16"
SPEC = TunSpec(name="hf0", mtu=1460, routes=pool_routes([POOL]))
HOLD = """
import sys, time
from holdfast.dataplane.tundev import TunSpec, attach, pool_routes
attach(TunSpec(name="hf0", routes=pool_routes(["100.64.0.0/16"])))
print("pyroute2" in sys.modules, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with claim() as lab:
        lab.add("node")
        name = lab.name("node")
        ip(*(f"addr add {host}/32 dev lo" for host in (NODE[0], PEER[0], STRANGER[0])), namespace=name)
        ip("link add wan type veth peer name away", "link set wan up", "link set away up", namespace=name)
        ip("addr add 203.0.113.1/24 dev wan", "route add default via 203.0.113.2", namespace=name)
        yield name


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A second network namespace."""
    with claim() as lab:
        lab.add("elsewhere")
        yield lab.name("elsewhere")


@pytest.fixture(autouse=True)
def inside(namespace: str) -> Iterator[None]:
    with entered(namespace):
        yield
        teardown(SPEC)


def shown(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], text=True, capture_output=True, check=True).stdout


def index_of(name: str) -> int:
    return socket.if_nametoindex(name)


def test_the_device_is_made_as_specified() -> None:
    tun = attach(SPEC)
    link = shown("-d", "link", "show", "hf0")
    assert " mtu 1460 " in link and " qlen 10000" in link and " persist on " in link and "UP" in link
    assert set(routes_through(index_of("hf0"))) == {Route(POOL)}
    assert tun.changed
    tun.close()


def test_what_is_right_is_taken_as_it_is_and_pyroute2_stays_unloaded() -> None:
    attach(SPEC).close()
    tun = attach(SPEC)
    assert tun.changed == ()
    tun.close()
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "False\n"
        owner.kill()


def test_a_killed_owner_leaves_device_and_route_so_that_nothing_takes_the_default_route() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        owner.send_signal(signal.SIGKILL)
        assert owner.wait() == -signal.SIGKILL
    assert "dev hf0" in shown("route", "get", "100.64.0.7")
    assert "dev wan" in shown("route", "get", "100.65.0.7")
    lost = dropped("hf0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"to a dead daemon", ("100.64.0.7", 9))
    assert dropped("hf0") == lost + 1


def test_a_second_owner_is_refused_with_the_devices_name_and_a_remedy() -> None:
    tun = attach(SPEC)
    with pytest.raises(DeviceBusy, match=rf"hf0 is in use by process {os.getpid()} .*dataplane\.device"):
        attach(SPEC)
    with pytest.raises(DeviceBusy):
        teardown(SPEC)
    tun.close()


def test_a_device_of_the_same_name_in_another_namespace_has_another_owner(elsewhere: str) -> None:
    def holder() -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)

    with entered(elsewhere):
        stranger = holder()
    with stranger, holder() as owner:
        try:
            for process in (stranger, owner):
                assert process.stdout is not None
                assert process.stdout.readline()
            with pytest.raises(DeviceBusy, match=rf"hf0 is in use by process {owner.pid} "):
                attach(SPEC)
        finally:
            stranger.kill()
            owner.kill()


def test_a_device_of_another_kind_and_impossible_names_are_refused() -> None:
    for name in ("wan", "lo", "a-name-that-is-too-long", "sl/ash", ""):
        with pytest.raises(DeviceError):
            attach(TunSpec(name=name))


def test_what_differs_is_repaired_and_what_others_set_is_left_alone() -> None:
    attach(SPEC).close()
    shown("link", "set", "hf0", "mtu", "1300", "txqueuelen", "500")
    shown("route", "del", POOL)
    shown("route", "add", "100.99.0.0/24", "dev", "hf0")
    wider = TunSpec(name="hf0", routes=pool_routes([POOL, "100.70.0.0/16"]))
    attach(wider).close()
    assert set(routes_through(index_of("hf0"))) == {
        Route(POOL),
        Route("100.70.0.0/16"),
        Route("100.99.0.0/24"),
    }
    assert " mtu 1460 " in shown("link", "show", "hf0")
    tun = attach(SPEC)
    assert tun.changed == ("no route 100.70.0.0/16",)
    assert Route("100.99.0.0/24") in routes_through(index_of("hf0"))
    tun.close()


def test_a_lacs_table_and_rule_are_set_and_removed() -> None:
    lac = TunSpec(name="hf0", routes=(Route("0.0.0.0/0", 100),), rules=(Rule(POOL, 100),))
    attach(lac).close()
    assert attach_again_changes_nothing(lac)
    assert Rule(POOL, 100) in rules()
    shown("route", "add", "local", POOL, "dev", "lo")
    assert "dev hf0" in shown("route", "get", "8.8.8.8", "from", "100.64.0.7")
    shown("route", "del", "local", POOL, "dev", "lo")
    teardown(lac)
    assert Rule(POOL, 100) not in rules()


def attach_again_changes_nothing(spec: TunSpec) -> bool:
    tun = attach(spec)
    tun.close()
    return not tun.changed


def test_teardown_removes_device_and_routes() -> None:
    attach(SPEC).close()
    teardown(SPEC)
    assert "hf0" not in shown("link")
    assert "dev wan" in shown("route", "get", "100.64.0.7")


def test_a_network_with_host_bits_is_no_route() -> None:
    with pytest.raises(DeviceError):
        pool_routes(["100.64.0.1/16"])


class Wired:
    """A TUN plane between the kernel's device and UDP sockets, and both ends in the test's hands."""

    def __init__(self, *, mss_clamp: bool = False, icmp_source: str = "") -> None:
        self.tun: Tun = attach(SPEC)
        self.udp = bound(NODE)
        self.plane = TunPlane(
            self.tun, self.udp, lowest_mtu=1460, mss_clamp=mss_clamp, icmp_source=icmp_source
        )
        self.inbox = Inbox()
        self.packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.packets.bind(("hf0", 3))
        self.peers = {address: bound(address) for address in (PEER, STRANGER, (PEER[0], 1702))}

    def written(self) -> tuple[bytes, ...]:
        """Packets that the plane gave to the kernel (and not those that went the other way)."""
        found = []
        while select([self.packets], [], [], 0)[0]:
            data, (_, _, kind, *_) = self.packets.recvfrom(65535)
            if kind != socket.PACKET_OUTGOING:
                found.append(data)
        return tuple(found)

    def sent(self, count: int) -> tuple[tuple[bytes, Address], ...]:
        """Datagrams that reached the peers: `count` are waited for, and all there are is returned."""
        found: list[tuple[bytes, Address]] = []
        while True:
            ready = select(list(self.peers.values()), [], [], 5 if len(found) < count else 0)[0]
            if not ready:
                return tuple(found)
            for sock in ready:
                data, source = sock.recvfrom(65535)
                assert source == NODE
                found.append((data, sock.getsockname()))

    def close(self) -> None:
        self.plane.close()
        for sock in (self.udp, self.packets, *self.peers.values()):
            sock.close()


def bound(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(address)
    return sock


@pytest.fixture
def wired() -> Iterator[list[Wired]]:
    made: list[Wired] = []
    yield made
    for plane in made:
        plane.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packet_case_through_the_kernel(case: Case, wired: list[Wired]) -> None:
    wire = Wired(mss_clamp=case.mss_clamp, icmp_source=case.icmp_source)
    wired.append(wire)
    wire.plane.install(case.entries)
    punted: list[Punt] = []
    if isinstance(case.arrives, FromDevice):
        wire.packets.send(case.arrives.packet)
        assert select([wire.plane.fileno()], [], [], 5)[0]
        wire.plane.on_readable()
    else:
        wire.peers[case.arrives.source].sendto(case.arrives.data, NODE)
        assert select([wire.udp], [], [], 5)[0]
        wire.inbox.read(wire.udp.fileno())
        punted += wire.plane.receive(wire.inbox)
    assert (wire.written(), wire.sent(len(case.to_peer)), tuple(punted)) == (
        case.to_device,
        case.to_peer,
        case.punted,
    )
    assert {v: n for v, n in wire.plane.verdicts().items() if n} == {case.verdict: 1}
    assert {k: c for k, c in wire.plane.all_counters().items() if c != Counters()} == case.counters


def test_bursts_arrive_as_single_datagrams(wired: list[Wired]) -> None:
    wire = Wired()
    wired.append(wire)
    wire.plane.install([LNS])
    packets = [
        packet("198.51.100.1", "100.64.0.7", payload=bytes(size), identification=n + 1)
        for n, size in enumerate((500,) * 20 + (100,) + (1400,) * 20)
    ]
    for data in packets:
        wire.packets.send(data)
    wire.plane.on_readable()
    assert wire.sent(len(packets)) == tuple((THEIRS + IP + data, PEER) for data in packets)
    assert wire.plane.verdicts()[Verdict.TX_FORWARDED] == len(packets)


def test_datagrams_larger_than_the_path_are_fragmented_outside_and_arrive(wired: list[Wired]) -> None:
    wire = Wired()
    wired.append(wire)
    wire.plane.install([entry(mtu=1460)])
    shown("link", "set", "lo", "mtu", "1000")
    try:
        packets = [
            packet("198.51.100.1", "100.64.0.7", payload=bytes(1300), identification=n) for n in (1, 2, 3)
        ]
        for data in packets:
            wire.packets.send(data)
        wire.plane.on_readable()
        assert wire.sent(3) == tuple((THEIRS + IP + data, PEER) for data in packets)
    finally:
        shown("link", "set", "lo", "mtu", "65536")


def test_a_device_deleted_under_the_plane_is_lost_not_silent(wired: list[Wired]) -> None:
    wire = Wired()
    wired.append(wire)
    wire.plane.install([LNS])
    shown("link", "del", "hf0")
    with pytest.raises(DeviceLost):
        wire.plane.on_readable()
    wire.peers[PEER].sendto(b"\0\2\0\7\0\3" + IP + DOWN, NODE)
    select([wire.udp], [], [], 5)
    wire.inbox.read(wire.udp.fileno())
    wire.plane.receive(wire.inbox)
