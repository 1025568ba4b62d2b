"""Processes of the lab that are forks of this one, in a namespace of their own."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.lab import netns
from holdfast.lab.netns import claim
from holdfast.lab.process import fork, stop

MISSING = netns.unavailable()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


@pytest.fixture
def namespace() -> Iterator[str]:
    with claim() as lab:
        lab.add("there")
        yield lab.name("there")


def for_ever() -> int:
    signal.pause()
    return 0


def test_a_fork_lives_in_its_namespace_and_tells_how_it_ended(namespace: str, tmp_path: Path) -> None:
    def main() -> int:
        print(sorted(name for _, name in socket.if_nameindex()))
        return 3

    child = fork(main, namespace, tmp_path / "said")
    assert child.wait() == child.poll() == 3
    assert (tmp_path / "said").read_text() == "['lo']\n"


def test_a_fault_in_a_fork_is_told_and_ends_it(namespace: str, tmp_path: Path) -> None:
    def main() -> int:
        raise ValueError("a fault")

    child = fork(main, namespace, tmp_path / "said")
    assert child.wait() == 1
    assert "ValueError: a fault" in (tmp_path / "said").read_text()


def test_a_fork_that_is_killed(namespace: str, tmp_path: Path) -> None:
    child = fork(for_ever, namespace, tmp_path / "said")
    assert child.poll() is None
    stop(child)
    assert child.poll() == -signal.SIGKILL
    child.kill()


def test_a_fork_keeps_nothing_open_that_its_parent_closes(namespace: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = fork(for_ever, namespace, tmp_path / "said")
    try:
        os.close(writing)
        assert os.read(reading, 1) == b""
    finally:
        os.close(reading)
        stop(child)
