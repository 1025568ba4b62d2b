"""Tracing a session of a real LNS under packets: from the eBPF plane and from the one in user space."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import inet_aton

import pytest

from cli.test_trace import records
from dataplane.ebpf.rig import reason
from dataplane.ebpf.test_node_kill import INNER, Scene
from holdfast.dataplane.ebpf import abi, syscall
from holdfast.dataplane.ebpf.pins import CURRENT
from holdfast.lab.netns import claim

REASON = reason()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture(params=["ebpf", "tun"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with claim() as lab, ExitStack() as at_end:
        yield Scene(lab, tmp_path, at_end, request.param)


def trace(scene: Scene, key: int, file: Path, *options: str) -> "subprocess.Popen[bytes]":
    """A trace that has begun."""
    command = [
        sys.executable,
        "-m",
        "holdfast",
        "trace",
        "session",
        str(key),
        "--socket",
        scene.control_socket,
    ]
    process = subprocess.Popen([*command, "-o", str(file), *options], stderr=subprocess.PIPE)
    scene.traffic.until(lambda: file.exists() and file.stat().st_size >= 24, "the start of a trace")
    return process


def end(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """What it says at its end."""
    _, said = process.communicate(timeout=30)
    return process.returncode, said.decode()


def flags(scene: Scene, key: int) -> int:
    """Those of the session's entry in the maps."""
    fd = syscall.get_pinned(f"{scene.pins}/{CURRENT}/map_sessions")
    try:
        value = syscall.lookup(fd, abi.ids_key(key >> 32, key & 0xFFFF), abi.SESSION_SIZE)
        return value[-1] if value is not None else 0
    finally:
        os.close(fd)


def test_a_trace_has_every_packet_of_its_session_and_ends_with_its_reader(
    scene: Scene, tmp_path: Path
) -> None:
    (key, address), *_ = scene.keys.items()
    inner, outer = tmp_path / "inner.pcap", tmp_path / "outer.pcap"
    processes = [trace(scene, key, inner), trace(scene, key, outer, "--raw")]
    scene.all_arrived()
    before = len(records(inner.read_bytes()))
    scene.send(40)
    assert scene.traffic.lost() == (0, 0)
    scene._wait(lambda: len(records(inner.read_bytes())) >= before + 80)
    for process in processes:
        process.send_signal(signal.SIGINT)
        status, said = end(process)
        assert status == 0 and said.endswith(" packets written, 0 missed\n")
    shown = records(inner.read_bytes())
    up = [p for _, size, p in shown if p[12:16] == inet_aton(address)]
    down = [p for _, size, p in shown if p[16:20] == inet_aton(address)]
    assert len(up) >= 40 and len(down) >= 40 and len(up) + len(down) == len(shown)
    assert {size for _, size, _ in shown} == {INNER}
    raw = [p for _, size, p in records(outer.read_bytes()) if size == INNER + 38]
    assert len(raw) >= 80 and all(p[9] == 17 and p[38:39] == b"\x45" for p in raw)
    if os.path.isdir(scene.pins):
        scene._wait(lambda: not flags(scene, key) & abi.Flag.TRACE)


def test_a_trace_ends_with_its_daemon_and_the_next_one_does_not_go_on(scene: Scene, tmp_path: Path) -> None:
    key = next(iter(scene.keys))
    process = trace(scene, key, tmp_path / "x.pcap")
    scene.lns.kill()
    scene.lns.reap()
    status, said = end(process)
    assert status == 3 and "broke off" in said and "packets written" in said
    if os.path.isdir(scene.pins):
        assert flags(scene, key) & abi.Flag.TRACE
    scene.start_again()
    if os.path.isdir(scene.pins):
        assert not flags(scene, key) & abi.Flag.TRACE
        scene.all_arrived()


def test_a_trace_ends_with_its_session(scene: Scene, tmp_path: Path) -> None:
    key = next(iter(scene.keys))
    process = trace(scene, key, tmp_path / "x.pcap")
    scene.lns.control.clear_session(key)
    status, said = end(process)
    assert status == 0 and said.endswith(" (the session has ended)\n"), said
