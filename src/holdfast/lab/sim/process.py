"""One life of a simulated node, from its start to SIGKILL: node and runner with everything around them.

Invariant: `boundary` is called before each effect that the world can see (a datagram, a change of the data plane, a
submission to the journal, a commit, its answer) and may raise `Killed` there.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random

from holdfast.core.clock import Instant
from holdfast.daemon.config import Config
from holdfast.daemon.effects import Log, Want
from holdfast.daemon.node import Node
from holdfast.daemon.runner import Runner
from holdfast.dataplane.contract import Entry
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.null import NullPlane
from holdfast.lab.sim.host import Disk, Transmit
from holdfast.lab.sim.journal import Luck, VirtualJournal
from holdfast.lab.sim.loop import VirtualLoop
from holdfast.ppp.packet import Code
from holdfast.protocol.effects import Address
from holdfast.records import Counters, session_key
from holdfast.wire.ppp import Protocol

UTC_US = 1_700_000_000_000_000

NEGOTIATED = frozenset((Protocol.LCP, Protocol.IPCP))
ECHOES = frozenset((Code.ECHO_REQUEST, Code.ECHO_REPLY))


class Killed(BaseException):
    """SIGKILL, between two effects. Not an `Exception`: nothing in a node may catch it."""


class Plane(NullPlane):
    """A data plane that says when it is about to change."""

    def __init__(self, boundary: Callable[[], None]) -> None:
        super().__init__()
        self._boundary = boundary

    def install(self, entries: Iterable[Entry]) -> None:
        """See `DataPlane`."""
        self._boundary()
        super().install(entries)

    def remove(self, keys: Iterable[int]) -> dict[int, Counters]:
        """See `DataPlane`."""
        self._boundary()
        return super().remove(keys)


class Process:
    """One life of a node. It is the runner's socket, too."""

    def __init__(
        self,
        config: Config,
        disk: Disk,
        chance: Random,
        clock: Callable[[], Instant],
        draw: Callable[[], Luck],
        boundary: Callable[[], None],
        transmit: Transmit,
        log: Callable[[Log], None],
    ) -> None:
        self.loop = VirtualLoop(clock)
        self.plane = Plane(boundary)
        self.node = Node(config, chance.randbytes, lambda: UTC_US + clock())
        self.journal = VirtualJournal(disk, self.loop, draw, boundary, self._on_health)
        self.runner = Runner(
            self.node, self, self.plane, self.journal.submit, self.loop, clock, log, disk.note, disk.note_call
        )
        self.hung_up: set[str] = set()
        """Subscribers that were told to disconnect."""
        self.outbursts: list[str] = []
        """PPP negotiations that a restored link began by itself."""
        self._boundary, self._transmit = boundary, transmit
        self._arrived: list[tuple[bytes, Address]] = []
        self._silent: dict[tuple[int, int], int] = {}

    def begin(self, disk: Disk, now: Instant) -> None:
        """As `daemon.run` does it: data flows before anything else is done."""
        saved = disk.saved()
        effects = self.node.start(saved, now)
        for line in self.node.lines.values():
            self._silent[line.tunnel.peer_id, line.session.peer_id] = line.key
        wanted = 1 + max((i for i, effect in enumerate(effects) if isinstance(effect, Want)), default=-1)
        self.runner.perform(lambda now: effects[:wanted])
        self.runner.perform(lambda now: effects[wanted:])

    def arrive(self, data: bytes, source: Address) -> None:
        """A datagram arrives."""
        self._arrived.append((data, source))
        if self._silent and not data[0] & 0x80 and _negotiates(data):
            key = session_key(int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:6], "big"))
            self._silent = {ids: k for ids, k in self._silent.items() if k != key}
        self.runner.on_udp_readable()

    def read(self, inbox: Inbox) -> int:
        """See `runner.Socket`."""
        arrived, self._arrived = self._arrived, []
        return inbox.fill(arrived)

    def send(self, data: bytes, to: Address) -> None:
        """See `runner.Socket`."""
        self._boundary()
        if self._silent and not data[0] & 0x80 and _negotiates(data) and data[10] == Code.CONFIGURE_REQUEST:
            ids = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:6], "big")
            if self._silent.get(ids) in self.node.lines:
                self.outbursts.append(f"the restored session {self._silent[ids]:#x} negotiates by itself")
        self._transmit(data, to)

    def send_burst(self, datagrams: Sequence[bytes], to: Address) -> bool:
        """See `runner.Socket`: here they go one by one, so that a crash may come in between."""
        return False

    def _on_health(self, writable: bool) -> None:
        self.runner.perform(lambda now: self.node.journal_health(writable))


def _negotiates(data: bytes) -> bool:
    """Whether a data message (no optional fields) carries LCP or IPCP other than echoes."""
    return len(data) > 10 and int.from_bytes(data[8:10], "big") in NEGOTIATED and data[10] not in ECHOES
