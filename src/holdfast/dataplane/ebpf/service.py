"""Where the programs serve: links at the interfaces and the TUN device, and the maps that say which those are.

Invariants: the maps name an interface before its program runs with them; flows are looked up anew whenever
anything of this has changed; an interface that refuses the programs is told of once, and left to the slow path.
"""

import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

from holdfast.dataplane.contract import Address
from holdfast.dataplane.ebpf import abi, links, syscall
from holdfast.dataplane.ebpf.links import Attached, Mode
from holdfast.dataplane.ebpf.news import News, Tell
from holdfast.dataplane.ebpf.pins import Pins
from holdfast.dataplane.ebpf.syscall import BpfError
from holdfast.dataplane.ebpf.table import address_key
from holdfast.dataplane.interfaces import Interface, all_ethernet, finish_checksums, index_of, look_at

FLOW_LIFE_MS = 1000
"""How long the programs trust what they looked up before they ask again."""

_PORT_SIZE = sum(codec.size for codec in abi.PORT.codecs())
_config_network, _config_host = abi.CONFIG.codecs()
_KEY = bytes(4)


class Place(NamedTuple):
    """`interfaces`: where to serve, () for every Ethernet interface that is up; `local`: the daemon's socket, one
    address; `device`: the TUN device.
    """

    interfaces: tuple[str, ...]
    mode: Mode
    local: Address
    device: str


class Service:
    """Keeps the programs attached where they are wanted."""

    def __init__(self, pins: Pins, place: Place, tell: Tell) -> None:
        """Where nothing forwards yet the TUN device is served at once, to learn whether this kernel can.

        Raises BpfError.
        """
        self._pins, self._place, self._tell = pins, place, tell
        self._told: dict[str, News] = {}
        self._served: tuple[Interface, ...] = ()
        self.attached: dict[str, Attached] = {}
        if pins.fresh and not pins.former_links:
            links.attach_tun(pins, place.device, index_of(place.device))

    def begin(self) -> None:
        """Attach everywhere, and nowhere else. Raises BpfError if the TUN device refuses."""
        self._attach(self._interfaces())

    def tend(self) -> None:
        """Attach anew if an interface has come, gone, or become another one. Raises BpfError."""
        interfaces = self._interfaces()
        if interfaces != self._served:
            self._attach(interfaces)

    def _interfaces(self) -> tuple[Interface, ...]:
        names = self._place.interfaces
        if not names:
            return tuple(all_ethernet())
        return tuple(interface for interface in map(look_at, names) if interface is not None)

    def _attach(self, interfaces: tuple[Interface, ...]) -> None:
        pins, place = self._pins, self._place
        tun = index_of(place.device)
        expected = {interface.name for interface in interfaces if self._is_native(interface)}
        self._write(interfaces, expected, tun)
        links.attach_tun(pins, place.device, tun)
        self.attached = {}
        kept = {links.pin_name(place.device, "tun")}
        for interface in interfaces:
            name = interface.name
            try:
                attached = links.attach(pins, interface, place.mode)
            except BpfError as error:
                refused = {"interface": name, "text": str(error)}
                self._tell_once(name, News("dataplane.not_attached", refused, warning=True))
                continue
            kept.add(links.pin_name(name, attached.mode))
            if interface.driver == "veth" and attached.mode == "tc" and finish_checksums(name):
                text = "tx checksum offload off: a LAC in user space would see inner checksums that nobody finished"
                self._tell(News("dataplane.offload", {"interface": name, "text": text}))
            self.attached[name] = attached
            fields = {"interface": name, "mode": attached.mode, "why": attached.why}
            self._tell_once(name, News("dataplane.attached", fields))
        here = {interface.name for interface in interfaces}
        for name in set(place.interfaces) - here:
            self._tell_once(name, News("dataplane.no_interface", {"interface": name}, warning=True))
        self._told = {name: news for name, news in self._told.items() if name in {*place.interfaces, *here}}
        links.detach_others(pins, kept)
        native = {name for name, attached in self.attached.items() if attached.mode == "xdp"}
        if native != expected:
            self._write(interfaces, native, tun)
        self._served = interfaces

    def _is_native(self, interface: Interface) -> bool:
        """Whether XDP serves it, as far as can be said before trying."""
        attached = self.attached.get(interface.name)
        if attached is not None:
            return attached.mode == "xdp"
        mode = self._place.mode
        return (links.likely_mode(interface) if mode == "auto" else mode) == "xdp"

    def _tell_once(self, name: str, news: News) -> None:
        if self._told.get(name) != news:
            self._told[name] = news
            self._tell(news)

    def _write(self, interfaces: Iterable[Interface], native: set[str], tun: int) -> None:
        """Write `locals`, `ports` and `config`."""
        maps, (host, port) = self._pins.maps, self._place.local
        changed = _write_ports(maps, interfaces, native)
        ours = address_key(host)
        size = syscall.map_info(maps["locals"]).max_entries
        addresses, _, count = syscall.lookup_batch(maps["locals"], 4, 4, size)
        for address in (bytes(addresses[at : at + 4]) for at in range(0, 4 * count, 4)):
            if address != ours:
                syscall.delete(maps["locals"], address)
        syscall.update(maps["locals"], ours, (1).to_bytes(4, sys.byteorder))
        before = syscall.lookup(maps["config"], _KEY, abi.CONFIG_SIZE) or bytes(abi.CONFIG_SIZE)
        _, generation, _, _ = _config_host.unpack_from(before, _config_network.size)
        flows = syscall.map_info(maps["rx_flows"]).max_entries
        wanted = partial(abi.config, udp_port=port, tun_ifindex=tun, flows=flows, flow_life_ms=FLOW_LIFE_MS)
        if changed or wanted(generation=generation) != before:
            syscall.update(maps["config"], _KEY, wanted(generation=generation + 1 & 0xFFFFFFFF))


def _write_ports(maps: Mapping[str, int], interfaces: Iterable[Interface], native: set[str]) -> bool:
    """Name these interfaces in `ports`, and no others; True if that is a change."""
    wanted = [bytes(_PORT_SIZE)] * abi.PORTS
    for interface in interfaces:
        place, value = abi.port(interface.index, interface.mac, redirect=interface.name in native)
        wanted[place] = value
    _, values, _ = syscall.lookup_batch(maps["ports"], 4, _PORT_SIZE, abi.PORTS)
    held = (bytes(values[at : at + _PORT_SIZE]) for at in range(0, abi.PORTS * _PORT_SIZE, _PORT_SIZE))
    different = [place for place, value in enumerate(held) if value != wanted[place]]
    for place in different:
        syscall.update(maps["ports"], place.to_bytes(4, sys.byteorder), wanted[place])
    return bool(different)
