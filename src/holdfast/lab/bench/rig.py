"""The bench's network and node: lac – lns – core as in the drill, one `holdfast run` as LNS on a core of
its own.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from holdfast.core.errors import LocalError
from holdfast.lab import netns, topology
from holdfast.lab.blast.result import Result
from holdfast.lab.blast.server import cpu_seconds, rss_bytes
from holdfast.lab.control import Control, ControlError
from holdfast.lab.events import EventLog
from holdfast.lab.nodes import lns_config
from holdfast.lab.process import spawn, stop

_START_S = 60.0
SETTLE_S = 1.0
"""Between two measurements on one node: collections and commits of the first are over."""


class BenchFailed(LocalError):
    """A measurement could not be made."""


class Rig:
    """Namespaces, and one LNS at a time in them. Cores: the node's, and those of everything else."""

    def __init__(self, claim: netns.Claim, work: Path) -> None:
        self.net = topology.build(claim)
        self._run = claim.directory
        self._work = work
        cores = sorted(os.sched_getaffinity(0))
        self.node_core = {cores[0]}
        self.other_cores = set(cores[1:]) or {cores[0]}
        self._secret = secrets.token_urlsafe(18)
        self._count = 0

    @contextmanager
    def lns(self, users: int, extra: str = "") -> Iterator["Lns"]:
        """A fresh LNS that knows `users` users: empty journal, nothing up. `extra` is added to its configuration."""
        self._count += 1
        work, run = self._work / str(self._count), self._run / str(self._count)
        (work / "state").mkdir(parents=True, mode=0o700)
        run.mkdir(mode=0o700)
        config = lns_config([f"user{n}" for n in range(1, users + 1)], self._secret, work / "state", run)
        file = work / "holdfast.toml"
        file.touch(mode=0o600)
        file.write_text(config + extra)
        argv = [sys.executable, "-m", "holdfast", "run", "-c", str(file)]
        process = self.spawn(argv, self.net.lns, work / "log", self.node_core)
        try:
            yield Lns(self, process, Control(str(run / "control.sock")), work / "log")
        finally:
            stop(process)

    def spawn(
        self, argv: Sequence[str], namespace: str, stderr: Path, cores: set[int], *, piped: bool = False
    ) -> "subprocess.Popen[bytes]":
        """Start a process in a namespace on some cores."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        try:
            return spawn(argv, namespace, stderr, piped=piped)
        finally:
            os.sched_setaffinity(0, before)

    def blast(self, lns: "Lns", *options: str) -> Result:
        """Run the load generator against a node. Raises BenchFailed if it has no result."""
        process = self.start_blast(lns, *options)
        return self.blast_result(process)

    def start_blast(self, lns: "Lns", *options: str) -> "subprocess.Popen[bytes]":
        """Start the load generator in the LAC's namespace."""
        argv = [
            *(sys.executable, "-m", "holdfast.lab.blast", topology.LNS_ADDRESS, "--json"),
            *("--bind", f"{topology.LAC_ADDRESS}:1701", "--host-name", "lac", "--server-pid", str(lns.pid)),
            *("--tunnel-secret", self._secret, "--secret", self._secret, *options),
        ]
        return self.spawn(argv, self.net.lac, self._work / "blast.log", self.other_cores, piped=True)

    def blast_result(self, process: "subprocess.Popen[bytes]") -> Result:
        """Wait for a load generator and take its result. Raises BenchFailed if it has none."""
        output, _ = process.communicate()
        try:
            return msgspec.json.decode(output, type=Result)
        except msgspec.DecodeError:
            log = (self._work / "blast.log").read_text().splitlines()[-5:]
            raise BenchFailed(f"the load generator failed: {' / '.join(log)}") from None

    def work(self, name: str) -> Path:
        """A file of this run."""
        return self._work / name


class Lns:
    """A running LNS that has said that it is up."""

    def __init__(self, rig: Rig, process: "subprocess.Popen[bytes]", control: Control, log: Path) -> None:
        self.pid = process.pid
        self.control = control
        self._process = process
        self._log = EventLog(log)
        self.wait(lambda: self._log.first_ns("node.started", 0) is not None, "the LNS to start")
        self.wait(
            self._answers, "its control API"
        )  # its import, after the start, costs as much as 1,000 set-ups

    def _answers(self) -> bool:
        with suppress(ControlError):
            self.control.counters()
            return True
        return False

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something of the node. Raises BenchFailed when it takes too long or the node ends."""
        deadline = time.monotonic() + _START_S
        while not condition():
            self._log.refresh()
            if self._process.poll() is not None:
                raise BenchFailed(f"the LNS ended: {' / '.join(self._log.noise[-5:])}")
            if time.monotonic() > deadline:
                raise BenchFailed(f"waited {_START_S:.0f} s in vain for {what}")
            time.sleep(0.02)

    @property
    def rss(self) -> int:
        """Resident memory in octets."""
        return rss_bytes(self.pid)

    @property
    def cpu_s(self) -> float:
        """CPU time so far."""
        return cpu_seconds(self.pid)


@contextmanager
def rig() -> Iterator[Rig]:
    """Make the namespaces, remove them afterwards. Raises LabUnavailable."""
    with netns.claim() as claim, tempfile.TemporaryDirectory(prefix="holdfast-bench-") as work:
        yield Rig(claim, Path(work))
