"""The compiled programs that this package ships: where they are, what they are called, and by what to tell them."""

from pathlib import Path
from typing import Final, NamedTuple

from holdfast.core.errors import LocalError

OBJECT: Final = Path(__file__).with_name("holdfast.bpf.o")

XDP: Final = "hf_xdp"
"""The program of an interface whose driver runs XDP itself."""
TC: Final = "hf_tc"
"""The same for any other interface."""
TUN: Final = "hf_tun"
"""What encapsulates packets that the kernel has routed to the TUN device."""
PROGRAMS: Final = (XDP, TC, TUN)


class NotBuilt(LocalError):
    """This installation has no compiled programs."""


class Object(NamedTuple):
    """An object file, and the checksums of what it was made from and of itself (SHA-256, hexadecimal)."""

    path: Path
    sources: str
    checksum: str


def shipped(path: Path = OBJECT) -> Object:
    """The object of this installation. Raises NotBuilt."""
    try:
        sources, checksum = Path(f"{path}.sums").read_text().split()
        path.stat()
    except (OSError, ValueError) as error:
        raise NotBuilt(
            "this installation was built without the eBPF programs: install clang and libbpf-dev, then build it "
            "again (scripts/setup in a clone, pip install --force-reinstall elsewhere)"
        ) from error
    return Object(path, sources, checksum)
