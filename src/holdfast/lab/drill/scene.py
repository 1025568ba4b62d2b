"""Both sides up, every subscriber connected; waiting, and looking at what either side holds."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from holdfast.daemon.views import SessionView, TunnelView
from holdfast.lab import netns, topology
from holdfast.lab.control import ControlError
from holdfast.lab.display import Display, Progress
from holdfast.lab.drill.laboratory import DrillFailed, Laboratory
from holdfast.lab.drill.sides import Sides, taking_part
from holdfast.lab.nodes import Node
from holdfast.lab.options import Options, Role
from holdfast.lab.snapshot import Snapshot, facing, join

_POLL_S = 0.05
_REASON = "data_reason_"


@contextmanager
def scene(options: Options, display: Display, lab: Laboratory) -> Iterator["Scene"]:
    """Everybody started and every base subscriber connected, ready for the first round."""
    with taking_part(options, lab) as sides:
        made = Scene(options, display, lab, sides)
        made.bring_up()
        yield made


class Scene:
    """Who takes part, where, and what is shown of it. `progress` is there while traffic flows."""

    def __init__(self, options: Options, display: Display, lab: Laboratory, sides: Sides) -> None:
        self.options = options
        self.display = display
        self.net = lab.net
        self.work = lab.work
        self.nodes = sides.nodes
        self.peer = sides.peer
        self.names = sides.names
        self.lac_end = sides.lac_end
        self._installations = deque(sides.installations)
        self.progress: Progress | None = None
        self._up: list[Node] = []

    def bring_up(self) -> None:
        """Start both sides and wait until every base subscriber is connected."""
        options = self.options
        self.display.phase(f"starting {options.cast}, {_count(options.sessions, 'subscriber')}")
        if self.peer:
            self.peer.start()
            self.wait(self.peer.ready, f"{options.peer} to start")
        for node in self.nodes.values():
            node.start()
            self._up.append(node)
        self.wait(self._started, "our nodes to start")
        if self.peer:
            self.wait(self.peer.dial, f"{options.peer} to call")
        if not self.lac_end:
            self.wait(self._route_subscribers, "the LAC's device for its subscribers")
        self.wait(
            lambda: self.all_connected(self.names.base) is not None,
            "all subscribers to be connected",
            every_s=self.list_pause_s,
        )
        self.display.phase(
            f"{_count(options.sessions, 'subscriber')} connected in {_count(options.tunnels, 'tunnel')}"
        )

    def install_next(self) -> None:
        """Before an upgraded node starts: it will do so from the installation that it does not run from now."""
        if self._installations:
            self._installations.rotate()
            self.nodes["lns"].launch = self._installations[0]

    def snapshot(self) -> Snapshot:
        """What both sides hold. Raises ControlError, PeerFailed."""
        views = self._views()
        if self.peer is None:
            return join(views["lac"], views["lns"])
        [(role, ours)] = views.items()
        return facing(role, ours, self.peer.sees)

    def all_connected(self, names: Iterable[str]) -> Snapshot | None:
        """What both sides hold if all of `names` are connected. A peer is not asked before our node has all of them."""
        wanted = set(names)
        with suppress(ControlError):
            if self.peer and not all(
                wanted <= {s.user for s in sessions if s.address} for _, sessions in self._views().values()
            ):
                return None
            now = self.snapshot()
            return now if now.whole().keys() >= wanted else None
        return None

    def _views(self) -> dict[Role, tuple[list[TunnelView], list[SessionView]]]:
        return {role: (node.control.tunnels(), node.control.sessions()) for role, node in self.nodes.items()}

    def stale_cleared(self, role: Role) -> int:
        """How many sessions a node has cleared after a recovery; 0 if it does not answer."""
        with suppress(ControlError):
            return self.nodes[role].control.counters().get("stale_cleared", 0)
        return 0

    def plane_counters(self) -> dict[str, int]:
        """What the LNS's data plane in the kernel counts, by reason; nothing for one in user space."""
        if self.options.in_kernel:
            with suppress(ControlError):
                counters = self.nodes["lns"].control.counters()
                return {
                    name.removeprefix(_REASON): count
                    for name, count in counters.items()
                    if name.startswith(_REASON)
                }
        return {}

    def kernel_counters(self) -> dict[str, dict[str, int]]:
        """What the kernel counts as lost, by namespace."""
        return {role: topology.kernel_counters(self.net.of(role)) for role in ("lac", "lns", "core")}

    @property
    def list_pause_s(self) -> float:
        """Between two listings of all sessions: they are not free for the nodes."""
        return max(0.1, self.options.sessions / 10_000)

    def wait(
        self, condition: Callable[[], bool], what: str, *, every_s: float = _POLL_S, fatal: bool = True
    ) -> None:
        """Wait until `condition` holds. Raises DrillFailed when patience ends, unless it is not `fatal`."""
        deadline = time.monotonic() + self.options.patience_s
        while not condition():
            if time.monotonic() > deadline:
                if fatal:
                    raise DrillFailed(f"waited {self.options.patience_s:.0f} s in vain for {what}")
                return
            self.pause(every_s)

    def pause(self, seconds: float) -> None:
        """Wait, keep the display alive, and notice a node that ends by itself."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for node in self._up:
                node.check()
            self.display.tick(self.progress)
            time.sleep(min(left, _POLL_S))

    def _started(self) -> bool:
        return all(node.reached_ns("node.started") is not None for node in self.nodes.values())

    def _route_subscribers(self) -> bool:
        try:
            topology.route_subscribers(self.net, self.peer.device if self.peer else topology.TUN)
        except netns.LabUnavailable:  # the device is not there yet
            return False
        return True


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
