"""An eBPF plane in a network namespace of its own: a veth pair, a TUN device, a bpffs, and starts as often as wanted."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import structs

from holdfast.dataplane import tundev
from holdfast.dataplane.contract import Entry, Plan
from holdfast.dataplane.ebpf.features import unavailable as bpf_unavailable
from holdfast.dataplane.ebpf.links import Mode
from holdfast.dataplane.ebpf.news import News
from holdfast.dataplane.ebpf.pins import CURRENT, open_pins, remove
from holdfast.dataplane.ebpf.plane import EbpfPlane
from holdfast.dataplane.ebpf.service import Place, Service
from holdfast.dataplane.ebpf.shipped import Object, shipped
from holdfast.dataplane.reconcile import reconcile
from holdfast.lab.netns import claim, entered, ip, unavailable
from holdfast.records import Counters, Side, session_key

LOCAL, PEER = ("192.0.2.2", 1701), ("192.0.2.1", 1701)
DEVICE, INTERFACE = "hf0", "wan"
SMALL = 64


def reason() -> str | None:
    """Why no such plane can be had here; None if it can."""
    return bpf_unavailable() or unavailable()


def entry(number: int, **changes: object) -> Entry:
    """The session of that number: 7/`number`, with an address of its own."""
    plain = Entry(
        key=session_key(7, number),
        side=Side.LNS,
        local_tunnel=7,
        local_session=number,
        peer_tunnel=0x0102,
        peer_session=number,
        peer=PEER,
        local=LOCAL,
        address=f"100.64.{number >> 8}.{number & 255}",
        mtu=1460,
        echo=True,
        magic=number,
    )
    return structs.replace(plain, **changes)


def entries(count: int) -> dict[int, Entry]:
    """That many sessions, by key."""
    return {e.key: e for e in (entry(number) for number in range(1, count + 1))}


class Rig:
    """Starts planes over the same pins, one after the other. `news` is what the last start told."""

    def __init__(self, directory: Path, interfaces: tuple[str, ...] = (INTERFACE,)) -> None:
        self.root = str(directory / "bpf")
        self.interfaces = interfaces
        self.news: list[News] = []
        self.plane: EbpfPlane | None = None
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setblocking(False)
        self._udp.bind(LOCAL)

    def start(
        self,
        want: Mapping[int, Entry] | None = None,
        *,
        programs: Object | None = None,
        sessions: int = SMALL,
        mode: Mode = "auto",
        mss_clamp: bool = False,
        before: Mapping[int, Counters] | None = None,
        meanwhile: Callable[[EbpfPlane], None] = lambda plane: None,
    ) -> tuple[EbpfPlane, Plan]:
        """What a daemon does at its start; the plane, and what had to be changed.

        `before`: the totals in the records. `meanwhile` happens while what was there still forwards.
        """
        self.news = []
        pins = open_pins(self.root, programs or shipped(), sessions, self.news.append)
        device = tundev.attach(tundev.TunSpec(name=DEVICE, routes=tundev.pool_routes(["100.64.0.0/16"])))
        place = Place(self.interfaces, mode, LOCAL, DEVICE)
        service = Service(pins, place, self.news.append)
        plane = EbpfPlane(pins, device, self._udp, service, self.news.append, mss_clamp=mss_clamp)
        plane.resume(before or {})
        changes, wrong = reconcile(plane, want or {})
        assert not wrong
        meanwhile(plane)
        plane.begin()
        self.plane = plane
        return plane, changes

    def stop(self) -> None:
        """What is left when a daemon ends, in whatever way."""
        if self.plane is not None:
            self.plane.close()
            self.plane = None

    def close(self) -> None:
        """Remove everything."""
        self.stop()
        self._udp.close()
        remove(self.root)

    def pins(self, prefix: str) -> set[str]:
        """The names of what is pinned."""
        return {name for name in os.listdir(f"{self.root}/{CURRENT}") if name.startswith(prefix)}

    def told(self, event: str) -> list[News]:
        """The news of one kind."""
        return [news for news in self.news if news.event == event]


@contextmanager
def in_namespace(directory: Path) -> Iterator[Rig]:
    """A rig in its namespace, which the calling thread is in meanwhile."""
    with claim() as lab:
        lab.add("node")
        name = lab.name("node")
        ip(
            f"link add {INTERFACE} type veth peer name away",
            f"link set {INTERFACE} up",
            "link set away up",
            namespace=name,
        )
        ip(f"addr add {LOCAL[0]}/24 dev {INTERFACE}", namespace=name)
        with entered(name):
            rig = Rig(directory)
            try:
                yield rig
            finally:
                rig.close()
