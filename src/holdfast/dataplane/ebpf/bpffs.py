"""A file system for pins, our own, below the run directory: what is pinned there lives without any process.

Not /sys/fs/bpf: `ip netns exec` mounts a fresh /sys, which hides it.

Invariant: a directory that is mounted already is taken as it is.
"""

import ctypes
import os
import struct
from contextlib import suppress
from errno import EINVAL, ENOENT, EPERM
from pathlib import Path

from holdfast.core.errors import LocalError

_BPF_FS_MAGIC = 0xCAFE4A11
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MNT_DETACH = 2
_STATFS_SIZE = 256
_libc = ctypes.CDLL(None, use_errno=True)


class NoBpffs(LocalError):
    """The file system for pins cannot be had; the text says why and what would help."""


def is_bpffs(directory: str) -> bool:
    """Whether a bpffs is mounted there, or above."""
    held = ctypes.create_string_buffer(_STATFS_SIZE)
    if _libc.statfs(os.fsencode(directory), held):
        return False
    return bool(struct.unpack_from("=Q", held.raw)[0] & 0xFFFFFFFF == _BPF_FS_MAGIC)


def mount(directory: str) -> bool:
    """Mount a bpffs there unless there is one; True if it had to be. Raises NoBpffs."""
    if is_bpffs(directory):
        return False
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise NoBpffs(f"{directory} cannot be made ({error.strerror}): set paths.run_dir") from error
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if _libc.mount(b"bpf", os.fsencode(directory), b"bpf", flags, b"mode=0700"):
        code = ctypes.get_errno()
        remedy = (
            f"mount it before this starts (mount -t bpf bpf {directory}), or run with CAP_SYS_ADMIN outside of "
            "user namespaces"
            if code == EPERM
            else "this kernel needs CONFIG_BPF_SYSCALL"
        )
        raise NoBpffs(f"no bpffs can be mounted at {directory} ({os.strerror(code)}): {remedy}")
    return True


def unmount(directory: str) -> None:
    """Unmount a bpffs with all that is pinned in it, and remove the directory; nothing if there is none.

    Raises NoBpffs, with the pins removed all the same.
    """
    if is_bpffs(directory):
        clear(directory)
        if _libc.umount2(os.fsencode(directory), _MNT_DETACH):
            code = ctypes.get_errno()
            if code not in (EINVAL, ENOENT, EPERM):  # whoever mounted it for us may unmount it: it is empty
                raise NoBpffs(f"{directory} cannot be unmounted: {os.strerror(code)}")
    with suppress(OSError):  # not empty, or somebody else's mount: it does no harm
        os.rmdir(directory)


def clear(directory: str) -> None:
    """Remove every pin below a directory, links first: what is detached cannot forward with maps half gone.

    Names with a dot are the kernel's own; nothing else can have one.
    """
    names = (name for name in os.listdir(directory) if "." not in name)
    for name in sorted(names, key=lambda name: (not name.startswith("link_"), name)):
        path = f"{directory}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            clear(path)
            os.rmdir(path)
        else:
            os.unlink(path)


def is_private(directory: str, proc: Path = Path("/proc")) -> bool:
    """Whether the mount ends with this process: it is in a mount namespace that the system's first process is not in.

    `ip netns exec` makes such a namespace. False as far as we cannot see.
    """
    try:
        if os.readlink(proc / "1/ns/mnt") == os.readlink(proc / "self/ns/mnt"):
            return False
        mounts = (proc / "1/mountinfo").read_text().splitlines()
    except OSError:
        return False
    return not any(line.split()[4] == os.path.realpath(directory) for line in mounts)
