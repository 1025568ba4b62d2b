"""The TUN device: made once, found again, never silently shared.

The device is persistent and the pool's routes lead to it, so with the daemon dead the subscribers' traffic
ends there instead of leaving by the default route. A start reads back what there is (ioctl and rtnetlink, a
millisecond) and changes only what is wrong; pyroute2 is imported only if the queue, a route or a rule has to change.

Invariants: one process owns the device (no IFF_MULTI_QUEUE, so the kernel refuses a second); only routes and
rules that carry our protocol number are ever removed.
"""

import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EBUSY, EINVAL, EPERM
from fcntl import ioctl
from pathlib import Path
from typing import Any

import msgspec

from holdfast.core.errors import LocalError
from holdfast.dataplane.routing import MAIN_TABLE, OUR_PROTOCOL, Route, Rule, routes_through, rules

QUEUE_LENGTH = 10_000  # packets that wait while the daemon is busy elsewhere for some tens of milliseconds
_NAME_SIZE = 16

_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
_IFF_TUN, _IFF_NO_PI, _IFF_UP = 0x0001, 0x1000, 0x0001
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922
_SIOCGIFINDEX = 0x8933
_SIOCGIFTXQLEN = 0x8942


class DeviceError(LocalError):
    """The device cannot be had or set up; the text says which device, and what would help."""


class DeviceBusy(DeviceError):
    """Another process owns the device."""


class TunSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How the device has to be. `routes` lead to it; `rules` send what comes from a prefix to another table
    (LAC).
    """

    name: str
    mtu: int = 1460
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    queue_length: int = QUEUE_LENGTH


def pool_routes(prefixes: Iterable[str], table: int = MAIN_TABLE) -> tuple[Route, ...]:
    """The routes of address pools. Raises DeviceError for what is not a network."""
    return tuple(Route(_network(prefix), table) for prefix in prefixes)


def _network(prefix: str) -> str:
    try:
        return str(ipaddress.IPv4Network(prefix))
    except ValueError as error:
        raise DeviceError(f"{prefix!r} is not an IPv4 network: {error}") from error


class Tun:
    """An attached TUN device. `changed` says in words what the attachment had to make or repair."""

    def __init__(self, name: str, fd: int, changed: tuple[str, ...] = ()) -> None:
        self.name, self.fd, self.changed = name, fd, changed

    def set_mtu(self, mtu: int) -> None:
        """Change the device's MTU. Raises DeviceError."""
        with _control() as control:
            _set(control, self.name, _SIOCSIFMTU, mtu, "MTU")

    def close(self) -> None:
        """Let go of the device; it stays, with its routes."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def attach(spec: TunSpec) -> Tun:
    """Take the device, made and set up as `spec` says, or found so. Raises DeviceBusy or DeviceError."""
    fd = _open(spec.name)
    try:
        return Tun(spec.name, fd, _set_up(spec, fd))
    except BaseException:
        os.close(fd)
        raise


def teardown(spec: TunSpec) -> None:
    """Remove the device, its routes with it, and the rules. Raises DeviceBusy while a daemon owns it."""
    fd = _open(spec.name)
    try:
        ioctl(fd, _TUNSETPERSIST, 0)
    finally:
        os.close(fd)
    _change_rules(wanted=frozenset(), tables=frozenset(rule.table for rule in spec.rules))


def dropped(name: str) -> int:
    """Packets that the kernel dropped on the way to us since the device was made: a full queue, or nobody
    there.
    """
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        device, _, fields = line.partition(":")
        if device.strip() == name:
            return int(fields.split()[11])
    return 0


def _open(name: str) -> int:
    """A descriptor of the device, which is created if it does not exist."""
    encoded = name.encode()
    if (
        not 0 < len(encoded) < _NAME_SIZE
        or b"/" in encoded
        or b"%" in encoded
        or any(c <= 32 for c in encoded)
    ):
        raise DeviceError(
            f"{name!r} is no name for a network device (up to {_NAME_SIZE - 1} octets, no / % or space)"
        )
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceError(
            f"{name}: /dev/net/tun cannot be opened ({error.strerror}); load the module (modprobe tun), or let "
            "this process have the device (DeviceAllow=/dev/net/tun rw under systemd)"
        ) from error
    try:
        ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", encoded, _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        raise _refusal(name, error) from error
    return fd


def _refusal(name: str, error: OSError) -> DeviceError:
    if error.errno == EBUSY:
        owner = _owner(name)
        return DeviceBusy(
            f"{name} is in use by {owner or 'another process'}; stop that one, or give this node another "
            "name in dataplane.device"
        )
    if error.errno == EPERM:
        return DeviceError(
            f"{name}: not permitted; run with CAP_NET_ADMIN, or as the user that the device belongs to"
        )
    if error.errno == EINVAL:
        return DeviceError(
            f"{name} exists and is no TUN device of one queue; choose another name in dataplane.device"
        )
    return DeviceError(f"{name}: {error.strerror}")


def _owner(name: str) -> str:
    """The process that holds the device, as far as we may look; "" if none is seen.

    Only in our network namespace: in another one a device of the same name is another device.
    """
    here = os.readlink("/proc/thread-self/ns/net")
    for info in Path("/proc").glob("[0-9]*/fdinfo/*"):
        process = info.parent.parent
        with suppress(OSError):
            if f"iff:\t{name}\n" in info.read_text() and os.readlink(process / "ns/net") == here:
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return ""


def _set_up(spec: TunSpec, fd: int) -> tuple[str, ...]:
    """Compare the device with `spec` and repair what differs; returns what was changed."""
    changed: list[str] = []
    with _control() as control:
        index = _get(control, spec.name, _SIOCGIFINDEX)
        if not _get(control, spec.name, _SIOCGIFFLAGS) & _IFF_UP:
            ioctl(fd, _TUNSETOWNER, os.geteuid())
            ioctl(fd, _TUNSETPERSIST, 1)
            _no_ipv6(spec.name)
            changed.append("created or brought up")
        if _get(control, spec.name, _SIOCGIFMTU) != spec.mtu:
            _set(control, spec.name, _SIOCSIFMTU, spec.mtu, "MTU")
            changed.append(f"MTU {spec.mtu}")
        if _get(control, spec.name, _SIOCGIFTXQLEN) != spec.queue_length:
            _lengthen_queue(index, spec.queue_length)
            changed.append(f"queue length {spec.queue_length}")
        flags = _get(control, spec.name, _SIOCGIFFLAGS)
        if not flags & _IFF_UP:
            _set(control, spec.name, _SIOCSIFFLAGS, flags | _IFF_UP, "flags")
    changed += _change_routes(index, frozenset(spec.routes))
    changed += _change_rules(frozenset(spec.rules), frozenset(rule.table for rule in spec.rules))
    return tuple(changed)


def _lengthen_queue(index: int, packets: int) -> None:
    """By rtnetlink: the ioctl for this (SIOCSIFTXQLEN) is refused inside a user namespace."""
    with _kernel() as kernel:
        kernel.link("set", index=index, txqlen=packets)


def _change_routes(index: int, wanted: frozenset[Route]) -> list[str]:
    have = routes_through(index)
    missing, extra = (
        wanted - have.keys(),
        {r for r, protocol in have.items() if protocol == OUR_PROTOCOL} - wanted,
    )
    if not missing and not extra:
        return []
    with _kernel() as kernel:
        for route in missing:
            kernel.route(
                "replace", dst=route.prefix, oif=index, table=route.table, proto=OUR_PROTOCOL, scope="link"
            )
        for route in extra:
            kernel.route(
                "del", dst=route.prefix, oif=index, table=route.table, proto=OUR_PROTOCOL, scope="link"
            )
    if left := wanted - routes_through(index).keys():
        raise DeviceError(
            f"the routes {sorted(route.prefix for route in left)} were not accepted by the kernel"
        )
    return [f"route {r.prefix}" for r in sorted(missing)] + [f"no route {r.prefix}" for r in sorted(extra)]


def _change_rules(wanted: frozenset[Rule], tables: frozenset[int]) -> list[str]:
    if not tables:
        return []
    have = rules()
    missing = wanted - have.keys()
    extra = {r for r, protocol in have.items() if protocol == OUR_PROTOCOL and r.table in tables} - wanted
    if not missing and not extra:
        return []
    with _kernel() as kernel:
        for rule in missing:
            kernel.rule("add", src=rule.source, table=rule.table, protocol=OUR_PROTOCOL)
        for rule in extra:
            kernel.rule("del", src=rule.source, table=rule.table, protocol=OUR_PROTOCOL)
    if left := wanted - rules().keys():
        raise DeviceError(f"the rules {sorted(rule.source for rule in left)} were not accepted by the kernel")
    return [f"rule {r.source}" for r in sorted(missing)] + [f"no rule {r.source}" for r in sorted(extra)]


@contextmanager
def _kernel() -> Iterator[Any]:
    """pyroute2's view of the kernel, whose refusals are DeviceErrors; 200 ms of imports, so only for changes."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as kernel:
            yield kernel
    except NetlinkError as error:
        raise DeviceError(f"the kernel refuses a change of the device: {error}") from error


def _no_ipv6(name: str) -> None:
    """Keep router solicitations off the device. Where /proc/sys is read-only they are counted as TX_NOT_IPV4."""
    with suppress(OSError):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")


def _control() -> socket.socket:
    """Any socket: device ioctls need one of the right network namespace."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _get(control: socket.socket, name: str, request: int) -> int:
    """An integer of the device; the flags are its low 16 bits."""
    answer = ioctl(control, request, struct.pack("16si20x", name.encode(), 0))
    value: int = struct.unpack_from("i", answer, _NAME_SIZE)[0]
    return value & 0xFFFF if request == _SIOCGIFFLAGS else value


def _set(control: socket.socket, name: str, request: int, value: int, what: str) -> None:
    try:
        ioctl(control, request, struct.pack("16si20x", name.encode(), value))
    except OSError as error:
        raise DeviceError(f"{name}: the {what} {value} was not accepted: {error.strerror}") from error
