"""What this kernel and this process can do with eBPF, found out by trying."""

import os

from holdfast.dataplane.ebpf import syscall
from holdfast.dataplane.ebpf.syscall import BpfError, MapType


def unavailable() -> str | None:
    """Why this process cannot make maps, in words with a remedy; None if it can."""
    try:
        os.close(syscall.create_map(MapType.ARRAY, 4, 8, 1, name="hf_probe"))
    except BpfError as error:
        return str(error)
    return None
