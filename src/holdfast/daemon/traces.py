"""Who watches the packets of a session: each watcher has a queue of lines, in octets bounded, that it takes away.

Invariants: what does not fit into a queue is counted and gone; a session is traced in the data plane exactly while
somebody watches it; a watcher is let go when it says so, when its session has ended, and when it has taken nothing for
`PATIENCE_S`: a client that went away, or stopped reading, leaves nothing behind.
"""

import time
from asyncio import Event
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from holdfast.core.errors import LocalError
from holdfast.daemon.effects import ERROR, Address, Log
from holdfast.daemon.views import TracedPacket, TraceNews
from holdfast.dataplane.trace import Seen, Sink, decapsulated, outer
from holdfast.records import split_key

MOST_TRACES: Final = 8
"""At once, of all sessions."""
MOST_OCTETS: Final = 1 << 20
"""That wait for one watcher."""
BEAT_S: Final = 1.0
"""How often a watcher hears that all is well, so that a client that went away is noticed."""
PATIENCE_S: Final = 30.0

_encode = msgspec.json.Encoder().encode


class TooManyTraces(LocalError):
    """The limit is reached."""


class Plane(Protocol):
    """What is needed of the data plane."""

    def trace(self, key: int, sink: Sink | None) -> None: ...
    def traces_fileno(self) -> int: ...
    def show_traced(self) -> None: ...
    def traced_missed(self) -> int: ...


class Loop(Protocol):
    """What is needed of the event loop."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object: ...
    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object: ...
    def remove_reader(self, fd: int, /) -> object: ...


class Trace:
    """A watcher. `missed` counts packets that it should have had; `ended` says why there will be no more, and once that
    was taken it is `over`.
    """

    def __init__(self, key: int, *, raw: bool, snaplen: int, leave: "Callable[[Trace], None]") -> None:
        self.key = key
        self.missed = 0
        self.ended = ""
        self.over = False
        self.idle_beats = 0
        self._raw, self._snaplen, self._leave = raw, snaplen, leave
        self._lines: list[bytes] = []
        self._octets = 0
        self._ready = Event()
        self._ready.set()  # that it has begun is news

    def offer(self, seen: Seen) -> None:
        """A packet has passed."""
        found = seen if self._raw else decapsulated(seen)
        if found is None:
            return
        if self._octets >= MOST_OCTETS:
            self.missed += 1
            return
        packet = TracedPacket(found.at_ns // 1000, found.to_peer, found.length, found.packet[: self._snaplen])
        line = _encode(packet) + b"\n"
        self._lines.append(line)
        self._octets += len(line)
        self._ready.set()

    def beat(self) -> None:
        """Time has passed."""
        self.idle_beats += 1
        self._ready.set()

    def end(self, why: str) -> None:
        """There will be no more."""
        self.ended = self.ended or why
        self._ready.set()

    async def take(self) -> bytes:
        """The next lines, as soon as there are any: packets, and news behind them."""
        await self._ready.wait()
        self._ready.clear()
        self.idle_beats = 0
        self.over = bool(self.ended)
        lines, self._lines, self._octets = self._lines, [], 0
        return b"".join(lines) + _encode(TraceNews(self.missed, self.ended)) + b"\n"

    def close(self) -> None:
        """The watcher leaves."""
        self._leave(self)


class Traces:
    """All watchers of a node."""

    def __init__(
        self,
        plane: Plane,
        show_sends: Callable[[Callable[[int, bytes, Address], None] | None], None],
        loop: Loop,
        local: Address,
        exists: Callable[[int], bool],
        log: Callable[[Log], None],
    ) -> None:
        """`show_sends` has the runner show what the node itself sends, by session key; `exists` knows sessions."""
        self._plane, self._show_sends, self._loop = plane, show_sends, loop
        self._local, self._exists, self._log = local, exists, log
        self._by_key: dict[int, list[Trace]] = {}
        self._beating = False
        self._plane_missed = 0

    def begin(self, key: int, *, raw: bool, snaplen: int) -> Trace:
        """Watch a session. Raises TooManyTraces, and LocalError if the data plane cannot."""
        if sum(map(len, self._by_key.values())) >= MOST_TRACES:
            raise TooManyTraces(f"{MOST_TRACES} traces run already: end one first")
        trace = Trace(key, raw=raw, snaplen=snaplen, leave=self._leave)
        first = not self._by_key
        if first:
            self._plane_missed = self._plane.traced_missed()
        if key not in self._by_key:
            try:
                self._plane.trace(key, self._on_seen)
            except LocalError:
                self._untrace(key)
                raise
        if first:
            self._show_sends(self._on_sent)
            if (fd := self._plane.traces_fileno()) >= 0:
                self._loop.add_reader(fd, self._plane.show_traced)
        self._by_key.setdefault(key, []).append(trace)
        self._log(Log("trace.begun", {**_ids(key), "raw": raw}))
        if not self._beating:
            self._beating = True
            self._loop.call_later(BEAT_S, self._beat)
        return trace

    def end_all(self, why: str) -> None:
        """Nobody watches any more."""
        for trace in self._all():
            trace.end(why)
            self._leave(trace)

    def _all(self) -> list[Trace]:
        return [trace for traces in self._by_key.values() for trace in traces]

    def _leave(self, trace: Trace) -> None:
        traces = self._by_key.get(trace.key, [])
        if trace not in traces:
            return
        traces.remove(trace)
        self._log(Log("trace.ended", {**_ids(trace.key), "missed": trace.missed, "text": trace.ended}))
        if traces:
            return
        del self._by_key[trace.key]
        self._untrace(trace.key)
        if not self._by_key:
            self._show_sends(None)
            if (fd := self._plane.traces_fileno()) >= 0:
                self._loop.remove_reader(fd)

    def _untrace(self, key: int) -> None:
        try:
            self._plane.trace(key, None)
        except LocalError as error:
            self._log(Log("dataplane.failed", {"text": str(error)}, ERROR))

    def _beat(self) -> None:
        self._beating = bool(self._by_key)
        if not self._beating:
            return
        self._loop.call_later(BEAT_S, self._beat)
        lost = self._newly_missed()
        for trace in self._all():
            trace.missed += lost
            if not self._exists(trace.key):
                trace.end("the session has ended")
            elif trace.idle_beats * BEAT_S >= PATIENCE_S:
                trace.end(f"nothing was taken for {PATIENCE_S:.0f} s")
            trace.beat()
            if trace.ended:
                self._leave(trace)

    def _newly_missed(self) -> int:
        try:
            missed = self._plane.traced_missed()
        except LocalError as error:  # watchers end all the same
            self._log(Log("dataplane.failed", {"text": str(error)}, ERROR))
            return 0
        lost, self._plane_missed = missed - self._plane_missed, missed
        return lost

    def _on_seen(self, seen: Seen) -> None:
        for trace in self._by_key.get(seen.key, ()):
            trace.offer(seen)

    def _on_sent(self, key: int, datagram: bytes, to: Address) -> None:
        if key in self._by_key:
            packet = outer(datagram, self._local, to)
            self._on_seen(Seen(key, time.time_ns(), True, len(packet), packet))


def _ids(key: int) -> dict[str, object]:
    tunnel, session = split_key(key)
    return {"tunnel": tunnel, "session": session}
