"""Network namespaces: made, entered, wired, removed.

Invariants: a namespace carries the token of the `Claim` that owns it; a claim's lock file is locked for as long as
its process lives. So two labs at once never meet, and a lock that can be taken marks what a killed lab left behind:
`claim` sweeps that away first, with the processes in it and the file systems that they have mounted there for pins.
"""

import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.core.errors import LocalError
from holdfast.dataplane.ebpf import bpffs

RUN_DIR = Path("/run/holdfast-lab")
_PREFIX = "hf"
_SCRATCH = "scratch"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class LabUnavailable(LocalError):
    """This machine or this user cannot have a lab; the text says why and what would help."""

    STATUS = 2
    """Exit status of a command that ends for this reason."""


def ip(*commands: str, namespace: str = "") -> None:
    """Run `ip` commands (without the word "ip") as one batch, in `namespace` if given. Raises LabUnavailable."""
    argv = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(commands), text=True, capture_output=True, check=False)
    if done.returncode:
        raise LabUnavailable(f"ip: {done.stderr.strip()} (in: {'; '.join(commands)})")


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Put the calling thread into a namespace; sockets made and processes started meanwhile stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def has_device(namespace: str, device: str) -> bool:
    """Whether a namespace has a network device of that name."""
    with entered(namespace):
        return any(name == device for _, name in socket.if_nameindex())


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise LabUnavailable(f"setns: {os.strerror(ctypes.get_errno())}")


def sysctl(namespace: str, values: Mapping[str, int]) -> None:
    """Set sysctls of a namespace, by their path under /proc/sys/net."""
    with entered(namespace):
        for path, value in values.items():
            Path("/proc/sys/net", path).write_text(f"{value}\n")


class Claim:
    """A lab's own corner of the machine: a token, a directory under /run, and namespaces that carry the token."""

    def __init__(self, token: str, lock: int) -> None:
        self.token = token
        self.directory = RUN_DIR / token
        self._lock = lock

    def name(self, role: str) -> str:
        """The full name of one of this lab's namespaces."""
        return f"{_PREFIX}{self.token}-{role}"

    def add(self, *roles: str) -> None:
        """Make namespaces, each with its loopback up. Raises LabUnavailable."""
        ip(*(f"netns add {self.name(role)}" for role in roles))
        for role in roles:
            ip("link set lo up", namespace=self.name(role))

    def scratch(self) -> Path:
        """The lab's directory on a disk, as in life, and not under /run; it goes with the claim, unless it is kept."""
        link = self.directory / _SCRATCH
        if not link.is_symlink():
            link.symlink_to(tempfile.mkdtemp(prefix="holdfast-lab-"))
        return link.readlink()

    def keep_scratch(self) -> None:
        """Let the scratch directory outlive the claim."""
        (self.directory / _SCRATCH).unlink(missing_ok=True)

    def release(self) -> None:
        """Remove everything that carries the token: processes, namespaces, directories, lock."""
        _remove(self.token)
        os.close(self._lock)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def claim() -> Claim:
    """Sweep what killed labs left, then claim a fresh corner. Raises LabUnavailable."""
    if reason := unavailable():
        raise LabUnavailable(reason)
    with _registry():
        for token in _leftovers():
            _remove(token)
        token = secrets.token_hex(3)
        lock = os.open(RUN_DIR / f"{token}.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        (RUN_DIR / token).mkdir(mode=0o700)
    return Claim(token, lock)


def unavailable() -> str | None:
    """Why this process cannot have a lab, or None if it can."""
    if shutil.which("ip") is None:
        return "the `ip` command is missing (package iproute2)"
    if os.geteuid() != 0:
        return (
            "network namespaces need root: sudo, or `unshare -Urnm` with a tmpfs on /run (scripts/privileged)"
        )
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        return "/dev/net/tun cannot be opened: as root, chmod 666 /dev/net/tun (udev's own mode)"
    except OSError as e:
        return f"/dev/net/tun cannot be opened ({e.strerror}): as root, modprobe tun"
    probe = f"{_PREFIX}-probe-{os.getpid()}"
    try:
        ip(f"netns add {probe}")
        ip(f"netns del {probe}")
    except LabUnavailable as e:
        return f"network namespaces cannot be made: {e}"
    return None


@contextmanager
def _registry() -> Iterator[None]:
    """One lab at a time looks at the locks, so that none is seen before its owner has locked it."""
    RUN_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(RUN_DIR / "registry", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _leftovers() -> list[str]:
    return [lock.stem for lock in RUN_DIR.glob("*.lock") if _ownerless(lock)]


def _ownerless(lock: Path) -> bool:
    with open(lock) as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _remove(token: str) -> None:
    for namespace in _namespaces(f"{_PREFIX}{token}-"):
        for pid in _pids(namespace):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ip(f"netns del {namespace}")
    for directory in _pin_directories(RUN_DIR / token):
        bpffs.unmount(directory)
    if (scratch := RUN_DIR / token / _SCRATCH).is_symlink():
        shutil.rmtree(scratch.readlink(), ignore_errors=True)
    shutil.rmtree(RUN_DIR / token, ignore_errors=True)
    (RUN_DIR / f"{token}.lock").unlink(missing_ok=True)


def _pin_directories(below: Path) -> list[str]:
    """Where something is mounted below a directory; a node mounts nothing but a bpffs."""
    mounted = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [directory for directory in mounted if Path(directory).is_relative_to(below)]


def _namespaces(prefix: str) -> Sequence[str]:
    try:
        return [name for name in os.listdir("/run/netns") if name.startswith(prefix)]
    except FileNotFoundError:
        return []


def _pids(namespace: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", namespace], text=True, capture_output=True, check=False)
    return [int(pid) for pid in done.stdout.split() if int(pid) != os.getpid()]
