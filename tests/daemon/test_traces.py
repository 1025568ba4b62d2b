"""Who watches a session, what they get, what is lost to them, and how their watching ends."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from dataplane.cases import (
    CORE,
    IP,
    KEY,
    LCP,
    LNS,
    NODE,
    OURS,
    PEER,
    SUBSCRIBER,
    THEIRS,
    UP,
    FromDevice,
    FromPeer,
    packet,
)
from dataplane.planes import NullBench
from holdfast.core.errors import LocalError
from holdfast.daemon.effects import Address, Log
from holdfast.daemon.traces import BEAT_S, MOST_OCTETS, MOST_TRACES, PATIENCE_S, TooManyTraces, Trace, Traces
from holdfast.daemon.views import TracedPacket, TraceNews
from holdfast.dataplane.trace import Seen, outer

decode = msgspec.json.Decoder(TracedPacket | TraceNews).decode


class Clock:
    """An event loop whose time stands still; beats come when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        assert delay == BEAT_S
        self.waiting.append(callback)
        return None

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object:
        raise AssertionError("the null plane has nothing to wait for")

    def remove_reader(self, fd: int, /) -> object:
        raise AssertionError("nothing was waited for")

    def beat(self) -> None:
        """A second passes."""
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()


class Scene:
    """Watchers of a null plane with one session."""

    def __init__(self) -> None:
        self.bench, self.clock = NullBench(), Clock()
        self.bench.plane.install([LNS])
        self.sends: Callable[[int, bytes, Address], None] | None = None
        self.exists = True
        self.logged: list[Log] = []
        self.traces = Traces(
            self.bench.plane, self._show_sends, self.clock, NODE, lambda key: self.exists, self.logged.append
        )

    def _show_sends(self, show: Callable[[int, bytes, Address], None] | None) -> None:
        self.sends = show

    def watch(self, *, raw: bool = False, snaplen: int = 65535) -> Trace:
        return self.traces.begin(KEY, raw=raw, snaplen=snaplen)


def taken(trace: Trace) -> tuple[list[TracedPacket], TraceNews]:
    """What a watcher gets when it asks."""
    lines = asyncio.run(asyncio.wait_for(trace.take(), 5)).splitlines()
    *packets, news = map(decode, lines)
    assert isinstance(news, TraceNews) and all(isinstance(p, TracedPacket) for p in packets)
    return packets, news


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_watchers_see_the_packets_of_their_session_each_in_its_form(scene: Scene) -> None:
    plain, raw = scene.watch(), scene.watch(raw=True, snaplen=30)
    scene.bench.inject(FromPeer(OURS + IP + UP), FromPeer(OURS + LCP), FromDevice(packet(CORE, SUBSCRIBER)))
    assert scene.sends is not None
    scene.sends(KEY, THEIRS + LCP, PEER)
    scene.sends(KEY + 1, THEIRS + LCP, PEER)
    packets, news = taken(plain)
    assert [(p.to_peer, p.data) for p in packets] == [(False, UP), (True, packet(CORE, SUBSCRIBER))]
    assert news == TraceNews()
    packets, _ = taken(raw)
    assert [(p.to_peer, len(p.data)) for p in packets] == [(False, 30), (False, 30), (True, 30), (True, 30)]
    assert packets[3].length == len(outer(THEIRS + LCP, NODE, PEER))


def test_what_does_not_fit_is_counted_and_the_rest_is_kept(scene: Scene) -> None:
    trace, seen = scene.watch(raw=True), Seen(KEY, 0, False, 1400, outer(OURS + bytes(1300), PEER, NODE))
    sent = 0
    while not trace.missed:
        trace.offer(seen)
        sent += 1
    assert sent * 1300 < 2 * MOST_OCTETS
    packets, news = taken(trace)
    assert (len(packets), news.missed) == (sent - 1, 1)
    trace.offer(seen)
    assert len(taken(trace)[0]) == 1


def test_the_session_is_traced_exactly_while_somebody_watches(scene: Scene) -> None:
    first, second = scene.watch(), scene.watch()
    first.close()
    assert scene.sends is not None
    scene.bench.inject(FromPeer(OURS + IP + UP))
    assert len(taken(second)[0]) == 1
    second.close()
    second.close()
    assert scene.sends is None
    scene.bench.inject(FromPeer(OURS + IP + UP))
    second.beat()
    assert taken(second)[0] == []
    scene.clock.beat()
    assert scene.clock.waiting == []


def test_a_watcher_that_takes_nothing_is_let_go(scene: Scene) -> None:
    trace = scene.watch()
    for _ in range(int(PATIENCE_S / BEAT_S)):
        assert scene.sends is not None
        scene.clock.beat()
    scene.clock.beat()
    assert scene.sends is None
    assert "nothing was taken" in taken(trace)[1].ended


def test_the_end_of_the_session_is_news(scene: Scene) -> None:
    trace = scene.watch()
    scene.exists = False
    scene.clock.beat()
    assert not trace.over
    assert taken(trace)[1] == TraceNews(0, "the session has ended")
    assert trace.over
    assert [(log.event, log.fields["session"]) for log in scene.logged] == [
        ("trace.begun", 3),
        ("trace.ended", 3),
    ]
    assert scene.sends is None


def test_a_data_plane_that_cannot_leaves_nobody_watching(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def refuse(key: int, sink: object) -> None:
        asked.append(sink)
        raise LocalError("no room")

    monkeypatch.setattr(scene.bench.plane, "trace", refuse)
    with pytest.raises(LocalError, match="no room"):
        scene.watch()
    assert asked[-1] is None and scene.sends is None and scene.clock.waiting == []
    assert [log.event for log in scene.logged] == ["dataplane.failed"]


def test_a_data_plane_that_does_not_say_what_it_missed_keeps_nobody_watching(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise LocalError("no answer")

    trace = scene.watch()
    monkeypatch.setattr(scene.bench.plane, "traced_missed", refuse)
    scene.exists = False
    scene.clock.beat()
    assert taken(trace)[1].ended == "the session has ended"
    assert scene.sends is None
    with pytest.raises(LocalError, match="no answer"):
        scene.watch()
    monkeypatch.undo()
    scene.bench.inject(FromPeer(OURS + IP + UP))
    assert scene.sends is None and taken(scene.watch())[0] == []


def test_there_is_a_limit_to_watchers(scene: Scene) -> None:
    traces = [scene.watch() for _ in range(MOST_TRACES)]
    with pytest.raises(TooManyTraces, match="end one first"):
        scene.watch()
    scene.traces.end_all("the node stops")
    assert taken(traces[0])[1].ended == "the node stops"
    scene.watch()
