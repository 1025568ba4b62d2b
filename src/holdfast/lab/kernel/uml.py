"""One command inside a User-Mode Linux kernel whose file system is this machine's.

Invariants: the kernel is an ordinary process, ended with its caller's time-out; nothing that the command writes is
kept, except below `OUTPUT`, which is a directory of the host. There is no network to the outside.
"""

import os
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from holdfast.core.errors import LocalError
from holdfast.lab.process import stop

OUTPUT = "/run/output"
"""Where the command finds the output directory."""

MODULES = ("l2tp_ppp", "tun")

_OUTPUT_PARAMETER = "holdfast_output"
"""A kernel parameter of ours: the first process gets it, and its children, as an environment variable."""

_INHERITED = ("PYTHONPATH",)
"""Variables of the caller's environment that the command finds in its own; the kernel itself hands on none."""

_PROGRAM = "linux.uml"
_KERNEL_MODULES = Path("/usr/lib/uml/modules")
_INIT = Path(__file__).with_name("init.sh")
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_MEMORY_DIR = Path("/dev/shm")
_POLL_S = 0.1
_CONSOLE_LINES = 30


class KernelFailed(LocalError):
    """The kernel did not come up, crashed, or ran out of time; the text ends with its console."""


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """How a kernel is started: memory in MiB, modules loaded before the command, longest time in seconds."""

    memory_mib: int = 512
    modules: tuple[str, ...] = MODULES
    limit_s: float = 300.0


def unavailable() -> str | None:
    """Why there can be no kernel here, or None if there can."""
    if shutil.which(_PROGRAM) is None or not _KERNEL_MODULES.is_dir():
        return f"{_PROGRAM} is missing (package user-mode-linux)"
    if shutil.which("modprobe", path=_SYSTEM_PATH) is None:
        return "modprobe is missing (package kmod)"
    return None


def inside() -> bool:
    """Whether this process runs in such a kernel."""
    return _OUTPUT_PARAMETER in os.environ


def run(command: Sequence[str], output: Path, kernel: Kernel, echo: Callable[[bytes], None]) -> int:
    """Run a command in the caller's working directory, as root of a kernel of its own; returns its exit status.

    `output` is a directory that the command sees as `OUTPUT`; the command's standard output and error are there too
    ("log"), and `echo` gets them as they come. Raises KernelFailed.
    """
    if reason := unavailable():
        raise KernelFailed(reason)
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    for leftover in ("status", "log"):
        (output / leftover).unlink(missing_ok=True)
    (output / "log").touch()
    (output / "main").write_text(_main(command, kernel.modules))
    _allow_many_files()
    with open(output / "console", "wb") as console:
        process = subprocess.Popen(
            _argv(output, kernel),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=os.environ | {"TMPDIR": str(_memory_dir())},
        )
    try:
        _watch(process, output / "log", kernel.limit_s, echo)
    except subprocess.TimeoutExpired:
        raise KernelFailed(f"the kernel ran longer than {kernel.limit_s:.0f} s\n{_tail(output)}") from None
    finally:
        stop(process)
    try:
        return int((output / "status").read_text())
    except (FileNotFoundError, ValueError):
        raise KernelFailed(f"the kernel ended before the command did\n{_tail(output)}") from None


def _allow_many_files() -> None:
    """Each file of the host that the kernel has in its cache is an open file of its process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _argv(output: Path, kernel: Kernel) -> list[str]:
    return [
        _PROGRAM,
        f"mem={kernel.memory_mib}M",
        *("rootfstype=hostfs", "rootflags=/", "ro", "init=/bin/sh"),
        *("con=null", "con0=null,fd:1", "ssl=null", "quiet", "loglevel=4"),
        *(f"uml_dir={output}/", "umid=uml"),
        f"{_OUTPUT_PARAMETER}={output}",
        *("--", str(_INIT)),
    ]


def _memory_dir() -> Path:
    """The kernel's memory is a mapped file: in memory itself, where that is possible."""
    return _MEMORY_DIR if os.access(_MEMORY_DIR, os.W_OK) else Path("/tmp")


def _main(command: Sequence[str], modules: Sequence[str]) -> str:
    """What init runs: the command between loopback up and power off."""
    return "\n".join(
        [
            "export HOME=/run",
            *(f"export {name}={shlex.quote(os.environ[name])}" for name in _INHERITED if name in os.environ),
            "ip link set lo up",
            *(f"modprobe {module}" for module in modules),
            f"cd {shlex.quote(os.getcwd())}",
            f"( exec {shlex.join(command)} ) </dev/null >{OUTPUT}/log 2>&1",
            f"echo $? >{OUTPUT}/status",
            "echo o >/proc/sysrq-trigger",
            "sleep 5",
            "",
        ]
    )


def _watch(
    process: "subprocess.Popen[bytes]", log: Path, limit_s: float, echo: Callable[[bytes], None]
) -> None:
    until = time.monotonic() + limit_s
    with open(log, "rb") as said:
        while process.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(_PROGRAM, limit_s)
            if news := said.read():
                echo(news)
            time.sleep(_POLL_S)
        echo(said.read())


def _tail(output: Path) -> str:
    lines = (output / "console").read_text(errors="replace").splitlines()
    return "\n".join(lines[-_CONSOLE_LINES:])
