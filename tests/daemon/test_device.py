"""A TUN device that goes away under a running node."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.processes import NodeProcess, config_text
from holdfast.core.errors import LocalError
from holdfast.daemon.device import DeviceWatch
from holdfast.daemon.effects import Log
from holdfast.dataplane.tun import TunPlane
from holdfast.lab.netns import claim, entered, ip, unavailable

REASON = unavailable()
PATIENCE_S = 10.0


class Device:
    """A socket pair in the place of a TUN device."""

    name = "hf0"

    def __init__(self) -> None:
        self.kernel, self._plane = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._plane.setblocking(False)
        self.fd = self._plane.fileno()

    def lose(self) -> None:
        """Readable for ever, and every read fails: what is left of a device after `ip link del`."""
        self.kernel.send(b"")
        other = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(other, self.fd, inheritable=False)
        os.close(other)

    def set_mtu(self, mtu: int) -> None:
        raise AssertionError("nobody asks for another MTU")

    def close(self) -> None:
        self.kernel.close()
        self._plane.close()


def test_a_lost_device_is_watched_no_longer_and_taken_again_with_patience() -> None:
    first, second = Device(), Device()
    answers: list[Device | LocalError] = [LocalError("no such module"), second]
    events: list[str] = []

    def attach() -> Device:
        answer = answers.pop(0)
        if isinstance(answer, LocalError):
            raise answer
        return answer

    async def run() -> None:
        back = asyncio.Event()

        def log(entry: Log) -> None:
            events.append(entry.event)
            if entry.event == "device.back":
                back.set()

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            plane = TunPlane(first, udp)
            loop = asyncio.get_running_loop()
            watch = DeviceWatch(plane, attach, loop, log, lambda fault: None, first_wait_s=0.001)
            watch.begin()
            first.kernel.send(b"\x60" + bytes(40))
            loop.call_soon(first.lose)
            await asyncio.wait_for(back.wait(), PATIENCE_S)
            assert plane.fileno() == second.fd
            watch.end()
            plane.close()

    asyncio.run(run())
    assert events == ["device.lost", "device.missing", "device.back"]


@pytest.fixture
def namespace() -> Iterator[str]:
    with claim() as lab:
        lab.add("node")
        name = lab.name("node")
        ip("link set lo up", namespace=name)
        with entered(name):
            yield name


@pytest.mark.netns
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_a_device_that_somebody_deletes_is_made_again_with_its_routes(namespace: str, tmp_path: Path) -> None:
    config = tmp_path / "holdfast.toml"
    pool = '[[pool]]\nname = "subscribers"\nrange = "100.64.0.0/16"'
    config.write_text(config_text(tmp_path, 1701, pool).replace('kind = "null"', 'kind = "tun"'))
    node = NodeProcess(config)
    try:
        node.wait_for("node.api")
        ip("link del hf0", namespace=namespace)
        node.wait_for("device.lost")
        node.wait_for("device.back")
        ip("route get 100.64.0.9", "route del 100.64.0.0/16 dev hf0", namespace=namespace)
        node.signal(signal.SIGTERM)
        assert node.end()[0] == 0
    finally:
        node.close()
