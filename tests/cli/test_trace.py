"""`holdfast trace session`: what it writes and where, and how it ends."""

import io
import json
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.pretend import Host, PretendNode
from dataplane.cases import CORE, IP, LCP, NODE, OURS, PEER, SUBSCRIBER, UP
from holdfast.core.errors import LocalError
from holdfast.daemon.traces import TooManyTraces
from holdfast.dataplane.trace import Seen, outer

Trace = Callable[..., "subprocess.CompletedProcess[bytes]"]


def seen(data: bytes, number: int = 0) -> Seen:
    """A packet from the peer."""
    packet = outer(OURS + data, PEER, NODE)
    return Seen(0, 1_700_000_000_000_001_000 + number * 1_000_000_000, False, len(packet), packet)


@pytest.fixture
def node() -> PretendNode:
    node = PretendNode()
    node.packets = [seen(IP + UP), seen(LCP, 1), seen(IP + UP, 2)]
    node.trace_ends = "the session has ended"
    return node


@pytest.fixture
def socket(tmp_path: Path, node: PretendNode) -> Iterator[str]:
    host = Host(node, tmp_path / "control.sock")
    yield str(tmp_path / "control.sock")
    host.stop()


def command(socket: str, *options: str, session: str = "17/1") -> list[str]:
    return [sys.executable, "-m", "holdfast", "trace", "session", session, *options, "--socket", socket]


@pytest.fixture
def trace(socket: str) -> Trace:
    def run(*options: str, session: str = "17/1") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(command(socket, *options, session=session), capture_output=True, timeout=60)

    return run


def records(pcap: bytes) -> list[tuple[int, int, bytes]]:
    """Seconds, length and octets of each packet."""
    file, found = io.BytesIO(pcap), []
    assert struct.unpack("=IHHiIII", file.read(24))[:3] == (0xA1B2C3D4, 2, 4)
    while head := file.read(16):
        seconds, _, captured, length = struct.unpack("=IIII", head)
        found.append((seconds, length, file.read(captured)))
    return found


def test_the_inner_packets_go_to_standard_output(trace: Trace) -> None:
    done = trace()
    assert (done.returncode, done.stderr.decode()) == (
        0,
        "2 packets written, 0 missed (the session has ended)\n",
    )
    assert records(done.stdout) == [(1_700_000_000, len(UP), UP), (1_700_000_002, len(UP), UP)]
    assert done.stdout[20:24] == (101).to_bytes(4, sys.byteorder)


def test_raw_has_the_tunnels_headers_and_ppp(trace: Trace, tmp_path: Path, node: PretendNode) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(b"something longer that was here before" * 9)
    file.chmod(0o644)
    assert trace("--raw", "--snaplen", "40", "-o", str(file)).returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert records(file.read_bytes()) == [
        (1_700_000_000 + i, packet.length, packet.packet[:40]) for i, packet in enumerate(node.packets)
    ]


def test_json_is_a_line_for_each_packet(trace: Trace) -> None:
    first, second, third = map(json.loads, trace("--json", "--raw").stdout.splitlines())
    assert first["summary"] == f"l2tp 3: {SUBSCRIBER} > {CORE} udp"
    assert (second["summary"], second["direction"]) == ("l2tp 3: lcp code 9 id 1", "from-peer")
    assert third["time"] == "2023-11-14T22:13:22.000001Z"
    (inner, _) = map(json.loads, trace("--json").stdout.splitlines())
    assert (inner["summary"], inner["length"]) == (f"{SUBSCRIBER} > {CORE} udp", len(UP))
    assert bytes.fromhex(inner["hex"]) == UP


def test_it_ends_after_so_many_packets(trace: Trace, node: PretendNode) -> None:
    node.trace_ends = ""
    done = trace("--count", "1")
    assert (done.returncode, done.stderr) == (0, b"1 packets written, 0 missed\n")
    assert len(records(done.stdout)) == 1
    assert node.left.wait(10), "the node hears that the client is gone"


def test_it_ends_after_some_time(trace: Trace, node: PretendNode) -> None:
    node.trace_ends = ""
    done = trace("--seconds", "0.2")
    assert (done.returncode, len(records(done.stdout))) == (0, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_a_whole_file(
    number: signal.Signals, socket: str, node: PretendNode, tmp_path: Path
) -> None:
    node.trace_ends = ""
    file = tmp_path / "x.pcap"
    os.mkfifo(file)
    with subprocess.Popen(command(socket, "-o", str(file)), stderr=subprocess.PIPE) as process:
        with file.open("rb") as reader:
            written = reader.read(24 + 2 * (16 + len(UP)))
            process.send_signal(number)
            written += reader.read()
        assert process.stderr is not None
        assert process.stderr.read() == b"2 packets written, 0 missed\n"
    assert process.returncode == 0
    assert len(records(written)) == 2
    assert node.left.wait(10)


def test_a_session_that_does_not_exist_leaves_no_file(trace: Trace, tmp_path: Path) -> None:
    done = trace("-o", str(tmp_path / "x.pcap"), session="17/9999")
    assert (done.returncode, done.stderr) == (1, b"holdfast: there is no such session\n")
    assert not (tmp_path / "x.pcap").exists()


@pytest.mark.parametrize(
    "fault", [TooManyTraces("8 traces run already"), LocalError("no room in the maps")], ids=str
)
def test_a_node_that_cannot_says_why(
    fault: LocalError, trace: Trace, node: PretendNode, tmp_path: Path
) -> None:
    node.fault = fault
    done = trace("-o", str(tmp_path / "x.pcap"))
    assert (done.returncode, done.stderr.decode()) == (1, f"holdfast: {fault}\n")
    assert not (tmp_path / "x.pcap").exists()


def test_pcap_is_not_for_a_terminal(socket: str) -> None:
    leader, follower = os.openpty()
    done = subprocess.run(command(socket), stdout=follower, stderr=subprocess.PIPE, timeout=60)
    os.close(follower)
    os.close(leader)
    assert done.returncode == 2
    assert b"not for a terminal" in done.stderr


def test_without_a_node_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(command(str(tmp_path / "none")), capture_output=True, timeout=60)
    assert done.returncode == 3
    assert b"no node is running" in done.stderr
