"""Which data plane a node has, and why: chosen by the configuration and by what this machine allows.

Nothing of the eBPF plane is imported before it is wanted. Invariant: what a plane in the kernel has pinned goes on
forwarding only while it is the plane; a start with another one removes it.
"""

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from holdfast.core.errors import LocalError
from holdfast.daemon.config import no_ebpf
from holdfast.daemon.config_keys import Config
from holdfast.daemon.device import Watched
from holdfast.daemon.effects import INFO, WARNING, Log
from holdfast.dataplane import tundev
from holdfast.dataplane.contract import DataPlane
from holdfast.dataplane.null import NullPlane
from holdfast.dataplane.tun import Socket, TunPlane
from holdfast.records import Counters


class Choice(msgspec.Struct, frozen=True, gc=False):
    """A kind of plane, and why it is that."""

    kind: str
    why: str


class Taken(NamedTuple):
    """A plane, the same again if it has a device to be watched, and what sessions had counted in the one before."""

    plane: DataPlane
    watched: Watched | None
    counted: Mapping[int, Counters] = {}


def choose(config: Config) -> Choice:
    """The plane that this configuration has on this machine, as far as can be told without making it."""
    kind = config.dataplane.kind
    if kind != "auto":
        return Choice(kind, "configured")
    if (unfit := no_ebpf(config)) is not None:
        return Choice("tun", " ".join(unfit))
    from holdfast.dataplane.ebpf.features import unavailable

    reason = unavailable(config.paths.pins)
    return Choice("tun", reason) if reason is not None else Choice("ebpf", "possible here")


def take(config: Config, device: tundev.TunSpec | None, socket: Socket, log: Callable[[Log], None]) -> Taken:
    """Make the plane, or adopt it from a predecessor. Raises LocalError."""
    if device is None:
        counted = remove_pins(config, log)
        plane = NullPlane(mss_clamp=config.dataplane.mss_clamp, icmp_source=config.ppp.local_address)
        return Taken(plane, None, counted)
    choice = choose(config)
    if choice.kind == "ebpf":
        try:
            return _take_ebpf(config, device, socket, log, choice)
        except tundev.DeviceError:  # which the other plane could not have either
            raise
        except LocalError as error:
            if config.dataplane.kind == "ebpf":
                raise
            choice = Choice("tun", str(error))
    if config.dataplane.kind == "auto":
        log(Log("dataplane.chosen", {"kind": choice.kind, "why": choice.why}, WARNING))
    counted = remove_pins(config, log)
    tun = _attach(device, log)
    tun_plane = TunPlane(
        tun,
        socket,
        mtu=device.mtu,
        mss_clamp=config.dataplane.mss_clamp,
        icmp_source=config.ppp.local_address,
    )
    return Taken(tun_plane, tun_plane, counted)


def remove_pins(config: Config, log: Callable[[Log], None]) -> Mapping[int, Counters]:
    """Detach and remove whatever a plane in the kernel has left; what cannot be removed is told of.

    Returns what its sessions had counted, as far as that can be read.
    """
    directory = config.paths.pins
    counted: dict[int, Counters] = {}
    if not os.path.isdir(directory):
        return counted
    from holdfast.dataplane.ebpf.pins import detach, remove

    try:
        counted = detach(directory)
        removed = remove(directory)
    except (LocalError, OSError) as error:
        log(Log("dataplane.not_removed", {"directory": directory, "text": str(error)}, WARNING))
        return counted
    if removed:
        log(Log("dataplane.removed", {"directory": directory}))
    return counted


def _take_ebpf(
    config: Config, device: tundev.TunSpec, socket: Socket, log: Callable[[Log], None], choice: Choice
) -> Taken:
    from holdfast.dataplane.ebpf.news import News
    from holdfast.dataplane.ebpf.pins import open_pins
    from holdfast.dataplane.ebpf.plane import EbpfPlane
    from holdfast.dataplane.ebpf.service import Place, Service
    from holdfast.dataplane.ebpf.shipped import NotBuilt, Object, shipped

    def tell(news: News) -> None:
        log(Log(news.event, news.fields, WARNING if news.warning else INFO))

    settings, listen = config.dataplane, config.listen
    programs: Object | None
    try:
        programs = shipped()
    except NotBuilt:
        programs = None
    pins = open_pins(config.paths.pins, programs, settings.max_sessions, tell)
    tun: tundev.Tun | None = None
    try:
        tun = _attach(device, log)
        place = Place(settings.interfaces, settings.mode, (listen.address, listen.port), device.name)
        plane = EbpfPlane(
            pins,
            tun,
            socket,
            Service(pins, place, tell),
            tell,
            mtu=device.mtu,
            mss_clamp=settings.mss_clamp,
            icmp_source=config.ppp.local_address,
        )
    except BaseException:
        if tun is not None:
            tun.close()
        pins.close()
        raise
    log(Log("dataplane.chosen", {"kind": "ebpf", "why": choice.why, "adopted": not pins.fresh}))
    return Taken(plane, plane)


def _attach(device: tundev.TunSpec, log: Callable[[Log], None]) -> tundev.Tun:
    tun = tundev.attach(device)
    if tun.changed:
        log(Log("device.set_up", {"device": tun.name, "changed": list(tun.changed)}))
    return tun
