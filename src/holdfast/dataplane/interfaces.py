"""Network interfaces of this namespace: index, kind and driver, by ioctl. (sysfs shows another namespace's.)"""

import ctypes
import socket
import struct
from fcntl import ioctl

import msgspec

_SIOCGIFFLAGS, _SIOCGIFHWADDR, _SIOCETHTOOL = 0x8913, 0x8927, 0x8946
_ETHTOOL_GDRVINFO, _ETHTOOL_GTXCSUM, _ETHTOOL_STXCSUM = 3, 0x16, 0x17
_DRVINFO_SIZE, _DRIVER_AT, _DRIVER_SIZE = 196, 4, 32
_IFF_UP, _IFF_SLAVE = 0x1, 0x800
_ARPHRD_ETHER = 1


class Interface(msgspec.Struct, frozen=True, gc=False):
    """An interface as it is now. `driver` is "" where it says nothing."""

    name: str
    index: int
    ethernet: bool
    up: bool
    driver: str = ""
    mac: bytes = bytes(6)


def index_of(name: str) -> int:
    """The interface's index, 0 if there is none of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def look_at(name: str) -> Interface | None:
    """One interface, None if there is none of that name."""
    index = index_of(name)
    if not index:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        try:
            (flags,) = struct.unpack_from("=H", _ask(control, _SIOCGIFFLAGS, name))
            kind, mac = struct.unpack_from("=H6s", _ask(control, _SIOCGIFHWADDR, name))
        except OSError:  # it went meanwhile
            return None
        ethernet = kind == _ARPHRD_ETHER and not flags & _IFF_SLAVE
        return Interface(name, index, ethernet, bool(flags & _IFF_UP), _driver(control, name), mac)


def all_ethernet() -> list[Interface]:
    """Every Ethernet interface that is up; the members of a bond are left out, since the bond stands for them."""
    found = (look_at(name) for _, name in socket.if_nameindex())
    return [interface for interface in found if interface is not None and interface.ethernet and interface.up]


def finish_checksums(name: str) -> bool:
    """Have the kernel finish every checksum before this interface sends (tx off); True if that is a change.

    False also where the interface does not let us.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        try:
            if not _ethtool(control, name, _ETHTOOL_GTXCSUM, 0):
                return False
            _ethtool(control, name, _ETHTOOL_STXCSUM, 0)
        except OSError:
            return False
    return True


def _ethtool(control: socket.socket, name: str, command: int, value: int) -> int:
    """One number asked for or set. Raises OSError."""
    held = ctypes.create_string_buffer(struct.pack("=II", command, value), 8)
    ioctl(control, _SIOCETHTOOL, struct.pack("16sQ16x", name.encode(), ctypes.addressof(held)))
    answer: int = struct.unpack("=II", held.raw)[1]
    return answer


def _ask(control: socket.socket, request: int, name: str) -> bytes:
    return ioctl(control, request, struct.pack("16s24x", name.encode()))[16:]


def _driver(control: socket.socket, name: str) -> str:
    held = ctypes.create_string_buffer(_DRVINFO_SIZE)
    struct.pack_into("=I", held, 0, _ETHTOOL_GDRVINFO)
    try:
        ioctl(control, _SIOCETHTOOL, struct.pack("16sQ16x", name.encode(), ctypes.addressof(held)))
    except OSError:
        return ""
    return held.raw[_DRIVER_AT : _DRIVER_AT + _DRIVER_SIZE].split(b"\0", 1)[0].decode(errors="replace")
