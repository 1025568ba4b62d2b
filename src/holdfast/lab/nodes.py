"""The drill's two nodes: their configurations, and their processes with what can be seen of them."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Literal, TypeAlias

from holdfast.core.errors import LocalError
from holdfast.lab.control import Control
from holdfast.lab.events import EventLog
from holdfast.lab.process import Process, fork, spawn, stop
from holdfast.lab.topology import CORE_WIRE, LAC_ADDRESS, LNS_ADDRESS, LNS_CORE_ADDRESS, POOL, TUN, WIRE

TUN_PLANE = f'kind = "tun"\ndevice = "{TUN}"'
"""The table `dataplane` of a node's file, for one in user space."""


def kernel_plane(mode: Literal["tc", "xdp"], sessions: int) -> str:
    """The same for an LNS that forwards in the kernel, for at least so many sessions."""
    served = f'interfaces = ["{WIRE}", "{CORE_WIRE}"]'
    return f'kind = "ebpf"\nmode = "{mode}"\n{served}\nmax_sessions = {max(64, sessions)}\ndevice = "{TUN}"'


class NodeFailed(LocalError):
    """A node did not start, or ended by itself."""


Launch: TypeAlias = Callable[[Path, str, Path], Process]
"""Starts a node: with this configuration, in this namespace, its output appended to this file."""


def command(config: Path, namespace: str, log: Path) -> Process:
    """As in life: `holdfast run`."""
    return spawn([sys.executable, "-m", "holdfast", "run", "-c", str(config)], namespace, log)


def lac_end(config: Path, namespace: str, log: Path) -> Process:
    """A LAC that carries its subscribers' packets itself (`lab.lac_end`)."""
    return spawn([sys.executable, "-m", "holdfast.lab.lac_end", "-c", str(config)], namespace, log)


def forked(config: Path, namespace: str, log: Path) -> Process:
    """The same program in a child of this process, which has everything imported: for where imports take seconds."""
    from holdfast.daemon.config import load
    from holdfast.daemon.run import run

    import_module("holdfast.daemon.api")  # here, for all children
    return fork(lambda: run(load(config)), namespace, log)


class Node:
    """One `holdfast run` process, started and killed as often as one likes; its events and control API."""

    def __init__(
        self,
        role: str,
        namespace: str,
        config: str,
        directory: Path,
        run_dir: Path,
        *,
        launch: Launch = command,
    ) -> None:
        self.role = role
        self.launch = launch
        self._namespace = namespace
        self._config = directory / "holdfast.toml"
        self._config.touch(mode=0o600)
        self._config.write_text(config)
        self.log_path = directory / "log"
        self.log = EventLog(self.log_path)
        self.control = Control(str(run_dir / "control.sock"))
        self._process: Process | None = None
        self.started_ns = 0
        self.killed_ns = 0
        self.dead_ns = 0

    def start(self) -> None:
        """Start the process; `started_ns` is the moment before."""
        _end_line(self.log_path)
        self.started_ns = time.monotonic_ns()
        self._process = self.launch(self._config, self._namespace, self.log_path)

    def kill(self) -> None:
        """SIGKILL, without waiting."""
        self.killed_ns = time.monotonic_ns()
        os.kill(self._running().pid, signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, the planned way, without waiting; `killed_ns` is that moment too."""
        self.killed_ns = time.monotonic_ns()
        os.kill(self._running().pid, signal.SIGTERM)

    def reap(self) -> int:
        """Wait until the process that was told to end is gone, and return its status; `dead_ns` is the moment after."""
        status = self._running().wait()
        self.dead_ns = time.monotonic_ns()
        return status

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Raise NodeFailed if the process has ended by itself."""
        process = self._running()
        if (status := process.poll()) is not None:
            self.log.refresh()
            last = "\n".join(self.log.noise[-15:]) or str(self.log.events[-3:])
            raise NodeFailed(f"the {self.role} ended with status {status}; see {self.log_path}\n{last}")

    def reached_ns(self, event: str) -> int | None:
        """When the running process first logged `event`, in ns, or None if it has not."""
        self.check()
        self.log.refresh()
        return self.log.first_ns(event, self.started_ns)

    def close(self) -> None:
        """Kill the process if it runs."""
        if self._process is not None:
            stop(self._process)

    def _running(self) -> Process:
        if self._process is None:
            raise NodeFailed(f"the {self.role} was never started")
        return self._process


def _end_line(log: Path) -> None:
    """A line that the kill cut off must not swallow the next process's first one."""
    if log.exists() and not log.read_bytes().endswith(b"\n"):
        with open(log, "ab") as f:
            f.write(b"\n")


def lns_config(
    names: Iterable[str], secret: str, state_dir: Path, run_dir: Path, dataplane: str = TUN_PLANE
) -> str:
    """The LNS: one peer, one pool, a user per subscriber. `dataplane` is what that table of its file holds."""
    return "\n".join(
        [
            *_common("lns", LNS_ADDRESS, state_dir, run_dir, dataplane),
            f'[ppp]\nauth = ["chap"]\nlocal_address = "{LNS_CORE_ADDRESS}"',
            f'[[peer]]\nname = "lac"\naddress = "{LAC_ADDRESS}"\nsecret = "{secret}"',
            f'[[pool]]\nname = "subscribers"\nrange = "{POOL}"',
            *(f'[[user]]\nname = "{name}"\nsecret = "{secret}"' for name in names),
            "",
        ]
    )


def lac_config(
    base: Iterable[str],
    extra: Iterable[str],
    tunnels: int,
    secret: str,
    state_dir: Path,
    run_dir: Path,
    dataplane: str = TUN_PLANE,
) -> str:
    """The LAC: `base` subscribers connect at start, `extra` ones only on command."""
    return "\n".join(
        [
            *_common("lac", LAC_ADDRESS, state_dir, run_dir, dataplane),
            f'[[peer]]\nname = "lns"\naddress = "{LNS_ADDRESS}"\nsecret = "{secret}"',
            f"connect = true\ntunnels = {tunnels}",
            *_subscribers(base, secret, "true"),
            *_subscribers(extra, secret, "false"),
            "",
        ]
    )


def _common(role: str, address: str, state_dir: Path, run_dir: Path, dataplane: str) -> Iterator[str]:
    yield f'[node]\nname = "{role}"\nrole = "{role}"'
    yield f'[paths]\nrun_dir = "{run_dir}"\nstate_dir = "{state_dir}"'
    yield f'[listen]\naddress = "{address}"'
    yield '[log]\nformat = "json"'
    yield f"[dataplane]\n{dataplane}"


def _subscribers(names: Iterable[str], secret: str, auto: str) -> Iterator[str]:
    for name in names:
        yield f'[[subscriber]]\nname = "{name}"\nsecret = "{secret}"\ntunnel = "lns"\nauto = {auto}'
