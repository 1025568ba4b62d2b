"""Traffic and its measurement, over a path that the kernel routes: no tunnel, no daemon."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.dataplane.ebpf import bpffs
from holdfast.dataplane.ebpf.features import unavailable as bpf_unavailable
from holdfast.lab import netns, topology
from holdfast.lab.capture import capturing
from holdfast.lab.generators import Generators
from holdfast.lab.measure import Moments, data_back, gaps, sessions_after, sessions_before

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(netns.unavailable() is not None, reason=str(netns.unavailable())),
]

ADDRESSES = [f"100.64.0.{i}" for i in range(1, 21)]


@pytest.fixture
def routed() -> Iterator[topology.Topology]:
    """lac - lns - core with the pool routed by the kernels alone."""
    with netns.claim() as claim:
        net = topology.build(claim)
        topology.route_subscribers(net, topology.WIRE, via=topology.LNS_ADDRESS)
        netns.ip(f"route add {topology.POOL} via {topology.LAC_ADDRESS}", namespace=net.lns)
        yield net


def wait_for_traffic(traffic: Generators, since_ns: int) -> int:
    """Spin on the shared boards until every session has had data both ways since `since_ns`; returns the time."""
    deadline = time.monotonic_ns() + 5_000_000_000
    while traffic.live_since(since_ns) < len(ADDRESSES):
        assert time.monotonic_ns() < deadline, f"{traffic.live_since(since_ns)} sessions live"
    return time.monotonic_ns()


def cut(net: topology.Topology, *, up: bool) -> None:
    netns.ip(f"link set {topology.WIRE} {'up' if up else 'down'}", namespace=net.lac)
    if up:
        topology.route_subscribers(net, topology.WIRE, via=topology.LNS_ADDRESS)


def test_traffic_over_a_plain_path_arrives_whole(routed: topology.Topology, tmp_path: Path) -> None:
    with Generators(routed, ADDRESSES, 1000, tmp_path / "traffic") as traffic:
        now = wait_for_traffic(traffic, 1)
        stop = traffic.finish()
        up, down = traffic.measure(Moments(killed_ns=now, dead_ns=now, started_ns=now, stop_ns=stop))
    assert (up.lost, down.lost) == (0, 0)
    assert up.sent == down.sent == traffic.schedule.due_by(stop)
    assert sessions_before(up, down) == frozenset(range(len(ADDRESSES)))


def test_traffic_over_a_path_that_is_cut_and_mended(routed: topology.Topology, tmp_path: Path) -> None:
    with Generators(routed, ADDRESSES, 1000, tmp_path / "traffic") as traffic:
        killed = wait_for_traffic(traffic, 1)
        cut(routed, up=False)
        dead = wait_until_stalled(traffic)
        cut(routed, up=True)
        wait_for_traffic(traffic, dead)
        stop = traffic.finish()
        up, down = traffic.measure(Moments(killed_ns=killed, dead_ns=dead, started_ns=dead, stop_ns=stop))
    base = sessions_before(up, down)
    assert len(base) == len(ADDRESSES)
    assert sessions_after(base, up, down) == base
    first, everything = data_back(base, up, down, dead)
    assert first is not None and everything is not None and 0 < first <= everything
    middle, longest = gaps(base, up, down)
    assert middle is not None and longest is not None and 100_000_000 < middle <= longest
    assert up.lost > 0 and down.lost > 0


def wait_until_stalled(traffic: Generators) -> int:
    """Spin until nothing has arrived for 200 ms; returns the time."""
    while time.monotonic_ns() - max(*traffic.up.last, *traffic.down.last) < 200_000_000:
        pass
    return time.monotonic_ns()


def _claimed() -> set[str]:
    return {lock.stem for lock in netns.RUN_DIR.glob("*.lock")}


def test_a_killed_labs_leftovers_are_swept() -> None:
    others = _claimed()
    victim = os.fork()
    if victim == 0:
        topology.build(netns.claim())
        os._exit(0)
    os.waitpid(victim, 0)
    left = _claimed()
    with netns.claim() as one, netns.claim() as other:
        assert {one.token, other.token} <= _claimed()
        assert not left & _claimed() - others


@pytest.mark.skipif(bpf_unavailable() is not None, reason=str(bpf_unavailable()))
def test_what_a_lab_has_mounted_for_pins_goes_with_it() -> None:
    with netns.claim() as claim:
        pins = claim.directory / "lns" / "bpf"
        assert bpffs.mount(str(pins))
        (pins / "v1").mkdir()
    assert not claim.directory.exists()
    assert str(pins) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is missing")
def test_the_capture_holds_l2tp_and_nothing_else(routed: topology.Topology, tmp_path: Path) -> None:
    hello = bytes.fromhex("c802001400010000000000000008000000000006")
    with capturing(routed.lns, str(tmp_path / "l2tp.pcap"), tmp_path):
        with netns.entered(routed.lac):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            for port in (1701, 1702, 1701):
                sender.sendto(hello, (topology.LNS_ADDRESS, port))
    argv = [
        "tshark",
        "-r",
        str(tmp_path / "l2tp.pcap"),
        "-T",
        "fields",
        "-e",
        "udp.dstport",
        "-e",
        "l2tp.tunnel",
    ]
    read = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert read.stdout.splitlines() == ["1701\t1", "1701\t1"]
