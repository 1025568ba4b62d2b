"""What this kernel and this process can do with eBPF, found out by trying."""

import os

from holdfast.core.errors import LocalError
from holdfast.dataplane.ebpf import libbpf, pins, syscall
from holdfast.dataplane.ebpf.shipped import shipped
from holdfast.dataplane.ebpf.syscall import BpfError, MapType


def unavailable(root: str = "") -> str | None:
    """Why there can be no plane with its pins below `root`, in words with a remedy; None if there may be one.

    What is pinned already needs neither libbpf nor programs of this installation.
    """
    if (refusal := no_maps()) is not None:
        return refusal
    if root and pins.pinned(root):
        return None
    try:
        shipped()
        libbpf.library()
    except LocalError as error:
        return str(error)
    return None


def no_maps() -> str | None:
    """Why this process cannot make maps; None if it can."""
    try:
        os.close(syscall.create_map(MapType.ARRAY, 4, 8, 1, name="hf_probe"))
    except BpfError as error:
        return str(error)
    return None
