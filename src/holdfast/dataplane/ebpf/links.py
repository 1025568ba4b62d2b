"""Where the programs are attached: one pinned link for each hook, kept, moved to a new program, made or removed.

Invariant: the pin is what keeps a link, and so forwarding, alive; a link of an interface that has gone is replaced as
soon as another one has its name.
"""

import errno
import os
from typing import Final, Literal, NamedTuple

from holdfast.dataplane.ebpf import syscall
from holdfast.dataplane.ebpf.pins import Pins
from holdfast.dataplane.ebpf.shipped import TC, TUN, XDP
from holdfast.dataplane.ebpf.syscall import Attach, BpfError
from holdfast.dataplane.interfaces import Interface

Mode = Literal["auto", "xdp", "tc"]

NOT_NATIVE: Final = frozenset(
    {"", "veth", "bridge", "bonding", "team", "tun", "dummy", "ifb", "802.1Q VLAN Support"}
)
"""Drivers whose frames often come from a local sender with their checksum unfinished, or that know no XDP."""

_PROGRAM = {"xdp": XDP, "tc": TC, "tun": TUN}
_HOOK = {"xdp": Attach.XDP, "tc": Attach.TCX_INGRESS, "tun": Attach.TCX_EGRESS}
_FLAGS = {"xdp": syscall.XDP_DRIVER, "tc": 0, "tun": 0}
_NO_DRIVER_MODE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOMEM, errno.ENOSPC, errno.E2BIG, 524})


class Attached(NamedTuple):
    """How an interface is served, and why so. `changed`: it was not before."""

    interface: str
    mode: str
    why: str
    changed: bool


def attach(pins: Pins, interface: Interface, mode: Mode) -> Attached:
    """Serve an interface as configured; with "auto" by XDP where its driver runs it. Raises BpfError."""
    if mode == "auto" and likely_mode(interface) == "tc":
        what = interface.driver or "no driver"
        return Attached(
            interface.name, "tc", f"{what}: XDP would lose partial checksums", _ensure(pins, interface, "tc")
        )
    if mode != "auto":
        return Attached(interface.name, mode, "configured", _ensure(pins, interface, mode))
    try:
        return Attached(interface.name, "xdp", f"driver {interface.driver}", _ensure(pins, interface, "xdp"))
    except BpfError as error:
        if error.code not in _NO_DRIVER_MODE:
            raise
        why = f"driver {interface.driver} takes no XDP ({errno.errorcode.get(error.code, error.code)})"
        return Attached(interface.name, "tc", why, _ensure(pins, interface, "tc"))


def attach_tun(pins: Pins, name: str, index: int) -> bool:
    """Encapsulate what is routed to the TUN device; True if that is new. Raises BpfError."""
    return _ensure(pins, Interface(name, index, ethernet=False, up=True), "tun")


def detach_others(pins: Pins, kept: set[str]) -> list[str]:
    """Remove the links of hooks that are not in `kept` (names of pins); returns their names."""
    gone = [name for name in os.listdir(pins.directory) if name.startswith("link_") and name not in kept]
    for name in gone:
        os.unlink(f"{pins.directory}/{name}")
    return gone


def likely_mode(interface: Interface) -> Literal["xdp", "tc"]:
    """What "auto" tries first."""
    return "tc" if interface.driver in NOT_NATIVE else "xdp"


def pinned_mode(directory: str, interface: str) -> str:
    """How an interface is served by the links that are pinned in a directory, "" if it is not."""
    found = (mode for mode in ("xdp", "tc") if os.path.lexists(f"{directory}/{pin_name(interface, mode)}"))
    return next(found, "")


def pin_name(interface: str, mode: str) -> str:
    """What a link is pinned as. A bpffs takes no dots, and interfaces have no colons."""
    return f"link_{interface.replace('.', ':')}_{mode}"


def _ensure(pins: Pins, interface: Interface, mode: str) -> bool:
    """See that a link exists at this hook, and that it runs the set's program; True if it is new."""
    name, program = pin_name(interface.name, mode), pins.programs[_PROGRAM[mode]]
    for directory in dict.fromkeys((pins.directory, pins.former_links)):
        path = f"{directory}/{name}"
        if not directory or not os.path.lexists(path):
            continue
        link = syscall.get_pinned(path)
        try:
            info = syscall.link_info(link)
            if info.interface != interface.index:
                os.unlink(path)
                continue
            if info.program_id != syscall.program_id(program):
                syscall.update_link(link, program, name)
            if directory != pins.directory:
                syscall.pin(link, f"{pins.directory}/{name}")
            return False
        finally:
            os.close(link)
    link = syscall.create_link(program, interface.index, _HOOK[mode], flags=_FLAGS[mode], what=interface.name)
    try:
        syscall.pin(link, f"{pins.directory}/{name}")
    finally:
        os.close(link)
    return True
