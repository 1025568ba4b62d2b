"""The TUN device of a running node: watched, and taken again after somebody has deleted it.

Invariants: a lost device is watched no longer, so it cannot keep the event loop busy; sessions stay up without it, and
forward again as soon as it is back, since their entries stay in the plane. Making a device anew may take 200 ms of
netlink and imports, so that happens in another thread.
"""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from holdfast.core.errors import LocalError
from holdfast.daemon.effects import ERROR, WARNING, Log
from holdfast.dataplane.contract import DeviceLost
from holdfast.dataplane.tun import Device

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 30.0


class NamedDevice(Device, Protocol):
    """A device with a name (`tundev.Tun`)."""

    name: str


class Watched(Protocol):
    """A plane with a device."""

    def fileno(self) -> int: ...
    def on_readable(self) -> None: ...
    def change_device(self, device: Device) -> None: ...


class DeviceWatch:
    """Lets a plane forward whenever its device has something, and gives it a new device when that one is lost."""

    def __init__(
        self,
        plane: Watched,
        attach: Callable[[], NamedDevice],
        loop: AbstractEventLoop,
        log: Callable[[Log], None],
        report: Callable[[BaseException], None],
        *,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """`attach` takes the device or raises LocalError; `report` hears what should not have happened."""
        self._plane = plane
        self._attach = attach
        self._loop = loop
        self._log = log
        self._report = report
        self._first_wait_s = first_wait_s
        self._ended = False

    def begin(self) -> None:
        """Forward from now on."""
        self._loop.add_reader(self._plane.fileno(), self._on_readable)

    def end(self) -> None:
        """Forward no more."""
        self._ended = True
        self._loop.remove_reader(self._plane.fileno())

    def _on_readable(self) -> None:
        try:
            self._plane.on_readable()
        except DeviceLost as lost:
            self._loop.remove_reader(self._plane.fileno())
            self._log(Log("device.lost", {"text": str(lost)}, ERROR))
            self._loop.call_later(self._first_wait_s, self._take, self._first_wait_s)
        except Exception as fault:  # noqa: BLE001 - the last line of defence: one packet never ends the node
            self._report(fault)

    def _take(self, wait_s: float) -> None:
        if not self._ended:
            taken = self._loop.run_in_executor(None, self._attach)
            taken.add_done_callback(partial(self._on_taken, wait_s))

    def _on_taken(self, wait_s: float, taken: "Future[NamedDevice]") -> None:
        try:
            device = taken.result()
            if self._ended:
                device.close()
                return
            self._plane.change_device(device)
        except LocalError as error:
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            self._log(Log("device.missing", {"text": str(error), "next_try_s": wait_s}, ERROR))
            with suppress(RuntimeError):  # the loop is closed: nobody needs the device any more
                self._loop.call_later(wait_s, self._take, wait_s)
            return
        self.begin()
        self._log(Log("device.back", {"device": device.name}, WARNING))
