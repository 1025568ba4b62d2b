"""PPP over L2TP in the kernel that this process runs in: whether it has it, and pppd's files without this machine's."""

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

SETTINGS = Path("/etc/ppp")
"""pppd reads its secrets nowhere else."""

_AF_PPPOX = 24  # linux/socket.h
_PX_PROTO_OL2TP = 1  # linux/if_pppox.h
_DEVICE = Path("/dev/ppp")
_MARK = "HOLDFAST_PRIVATE_PPP"
_PRIVATE = f'mount -t tmpfs none /run && mkdir /run/netns && mount -t tmpfs none {SETTINGS} && exec "$@"'
_NAMESPACES = ("unshare", "-mpf", "--propagation", "private", "--mount-proc", "--kill-child", "--")


def unavailable() -> str | None:
    """Why this kernel has none, or None. Loads the module where that is possible."""
    if os.geteuid() == 0:
        subprocess.run(["modprobe", "-q", "l2tp_ppp"], check=False, stderr=subprocess.DEVNULL)
    try:
        socket.socket(_AF_PPPOX, socket.SOCK_DGRAM, _PX_PROTO_OL2TP).close()
    except OSError as e:
        return f"this kernel has no PPP over L2TP ({e.strerror}; module l2tp_ppp)"
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return f"{_DEVICE} cannot be opened ({e.strerror})"
    return None


def not_private() -> str | None:
    """Why this process cannot have a mount namespace with an /etc/ppp of its own, or None."""
    if os.geteuid() != 0:
        return "PPP over L2TP in this machine's own kernel needs root"
    if shutil.which("unshare") is None:
        return "unshare is missing (package util-linux)"
    tried = subprocess.run(_private(["true"]), capture_output=True, text=True, check=False)
    return f"there can be no mount namespace ({tried.stderr.strip()})" if tried.returncode else None


def become_private(command: Sequence[str]) -> NoReturn:
    """Become a command in namespaces of its own, with an empty /run and an empty /etc/ppp; they end with it."""
    os.environ[_MARK] = "1"
    argv = _private(command)
    os.execvp(argv[0], argv)


def private() -> bool:
    """Whether this process was started by `become_private`."""
    return _MARK in os.environ and SETTINGS.is_mount()


def _private(command: Sequence[str]) -> list[str]:
    return [*_NAMESPACES, "sh", "-c", _PRIVATE, "holdfast", *command]
