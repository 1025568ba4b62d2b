"""The runner on a loop in virtual time, with a journal and a node that a test plays by hand."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from pathlib import Path

import pytest

from holdfast.core.clock import MILLISECOND, SECOND, Instant
from holdfast.daemon.effects import Address, Effect, Lane, Log, Persist, Release, Send, Unwant, Want
from holdfast.daemon.runner import Done, Runner
from holdfast.daemon.udp import UdpSocket, open_udp
from holdfast.dataplane.contract import Entry
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.null import NullPlane
from holdfast.records import EndpointRecord, SessionRecord, Side, session_key
from holdfast.records.writes import ForgetSession, Hint, Save, Write
from holdfast.state.errors import Fault, JournalError

LOOPBACK = "127.0.0.1"
FULL = JournalError(Path("journal.db"), Fault.FULL)
RECORD = Save(EndpointRecord(name="x"))
FORGET = ForgetSession(7)
SAVED = Save(
    SessionRecord(tunnel_id=1, local_id=2, peer_id=3, side=Side.LNS, call_serial=4, established_utc_us=0)
)
CONTROL_MESSAGE = bytes.fromhex("c802000c00010000 00000000".replace(" ", ""))
PPP_MESSAGE = bytes.fromhex("0002 0001 0002 ff03c021 09010008 00000000".replace(" ", ""))


class VirtualLoop:
    """Timers in order of time; nothing else."""

    def __init__(self) -> None:
        self.now: Instant = 0
        self.armed = 0
        self._heap: list[tuple[Instant, int, Timer]] = []

    def call_later(self, delay: float, callback: Callable[[], object]) -> "Timer":
        self.armed += 1
        timer = Timer(callback)
        heappush(self._heap, (self.now + round(delay * SECOND), self.armed, timer))
        return timer

    def advance(self, to: Instant) -> None:
        while self._heap and self._heap[0][0] <= to:
            self.now, _, timer = heappop(self._heap)
            if timer.live:
                timer.callback()
        self.now = to


class Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.live = True

    def cancel(self) -> None:
        self.live = False


class ScriptedNode:
    """Answers each input with what the test put there, and notes what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []
        self.recorded: list[Lane] = []
        self.on_control: Callable[[bytes], Iterable[Effect]] = lambda data: ()
        self.on_ppp: Callable[[int], Iterable[Effect]] = lambda key: ()
        self.on_failure: Callable[[Lane], Iterable[Effect]] = lambda lane: ()
        self.at: Instant | None = None

    def control(self, data: bytes, source: Address, now: Instant) -> Iterable[Effect]:
        self.heard.append(("control", data))
        return self.on_control(data)

    def ppp(self, key: int, payload: bytes, source: Address, now: Instant) -> Iterable[Effect]:
        self.heard.append(("ppp", key))
        return self.on_ppp(key)

    def timer(self, now: Instant) -> Iterable[Effect]:
        self.heard.append(("timer", now))
        self.at = None
        return ()

    def deadline(self) -> Instant | None:
        return self.at

    def committed(self, lane: Lane) -> None:
        self.recorded.append(lane)

    def commit_failed(self, lane: Lane, now: Instant) -> Iterable[Effect]:
        self.heard.append(("commit_failed", lane))
        return self.on_failure(lane)

    def release(self, pool: str, address: str) -> None:
        self.heard.append(("release", pool, address))


class Bench:
    """A runner with everything around it. `peer` is the other end of the wire."""

    def __init__(self) -> None:
        self.loop, self.node, self.plane = VirtualLoop(), ScriptedNode(), NullPlane()
        self.udp, self.peer = (open_udp((LOOPBACK, 0), 0) for _ in range(2))
        self.submitted: list[tuple[Sequence[Write], Done | None]] = []
        self.logged: list[Log] = []
        self.noted: list[tuple[dict[Lane, bytes], list[bytes]]] = []
        """What the runner noted, and what had arrived at the peer by then."""
        self.runner = Runner(
            self.node,
            self.udp,
            self.plane,
            lambda writes, done: self.submitted.append((writes, done)),
            self.loop,
            lambda: self.loop.now,
            self.logged.append,
            lambda said: self.noted.append((dict(said), self.sent())),
        )

    def do(self, *effects: Effect) -> None:
        self.runner.perform(lambda now: effects)

    def send(self, lane: Lane, data: bytes) -> Send:
        return Send(lane, data, self.peer.address)

    def sent(self) -> list[bytes]:
        """What has arrived at the peer since the last call."""
        return received(self.peer)

    def finish(self, i: int, error: JournalError | None = None) -> None:
        """The journal answers the group `i`."""
        done = self.submitted[i][1]
        assert done is not None
        done(error)


def received(udp: UdpSocket) -> list[bytes]:
    inbox = Inbox()
    return [inbox.datagram(i) for i in range(udp.read(inbox))]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.udp.close()
    bench.peer.close()


def entry(key: int, address: str = "100.64.0.1") -> Entry:
    return Entry(
        key=session_key(1, key),
        side=Side.LNS,
        local_tunnel=1,
        local_session=key,
        peer_tunnel=1,
        peer_session=1,
        peer=(LOOPBACK, 1701),
        address=address,
    )


def test_effects_are_carried_out_in_order(bench: Bench) -> None:
    bench.do(
        bench.send(1, b"a"),
        Want(1, entry(5)),
        bench.send(1, b"b"),
        Unwant(1, session_key(1, 5)),
        Release(1, "p", "x"),
    )
    assert bench.sent() == [b"a", b"b"]
    assert list(bench.plane.enumerate()) == []
    assert bench.node.heard == [("release", "p", "x")]


def test_what_is_sent_can_be_shown_in_its_order_also_after_a_commit(bench: Bench) -> None:
    shown: list[tuple[Lane, bytes, Address]] = []
    bench.runner.show_sends(lambda lane, data, to: shown.append((lane, data, to)))
    bench.do(bench.send(1, b"a"), Persist(2, (FORGET,)), bench.send(2, b"c"), bench.send(1, b"b"))
    bench.finish(0)
    assert shown == [
        (1, b"a", bench.peer.address),
        (1, b"b", bench.peer.address),
        (2, b"c", bench.peer.address),
    ]
    bench.runner.show_sends(None)
    bench.do(bench.send(1, b"d"))
    assert len(shown) == 3


def test_a_write_holds_back_its_own_lane_and_no_other(bench: Bench) -> None:
    bench.do(Persist(1, (FORGET,)), bench.send(1, b"held"), bench.send(2, b"free"))
    assert bench.sent() == [b"free"]
    bench.do(bench.send(1, b"held too"))
    assert bench.sent() == []
    bench.finish(0)
    assert bench.sent() == [b"held", b"held too"]
    assert bench.runner.settled


def test_two_writes_of_one_lane_are_two_barriers(bench: Bench) -> None:
    for second in (Persist(1, (SAVED,)), Persist(1, (SAVED, FORGET))):
        bench.submitted.clear()
        bench.do(Persist(1, (FORGET,)), bench.send(1, b"a"), second, bench.send(1, b"b"))
        assert len(bench.submitted) == 1
        bench.finish(0)
        assert bench.sent() == [b"a"]
        bench.finish(1)
        assert bench.sent() == [b"b"]


def test_the_deletions_of_a_turn_in_one_lane_are_one_commit_and_those_that_follow_the_next(
    bench: Bench,
) -> None:
    for key in (7, 8):
        bench.do(
            Persist(1, (ForgetSession(key),)),
            bench.send(1, b"a"),
            Persist(1, (ForgetSession(key + 10),)),
            bench.send(1, b"b"),
        )
    bench.finish(0)
    assert bench.sent() == [b"a", b"b"]
    bench.finish(1)
    assert bench.sent() == [b"a", b"b"]
    deleted = [[w.key for w in group if isinstance(w, ForgetSession)] for group, _ in bench.submitted]
    assert deleted == [[7, 17], [8, 18]]


def test_a_deletion_does_not_overtake_the_record_that_it_deletes(bench: Bench) -> None:
    bench.do(Persist(1, (FORGET,)), Persist(1, (SAVED,)), Persist(1, (ForgetSession(8),)))
    bench.finish(0)
    bench.finish(1)
    assert [list(writes) for writes, _ in bench.submitted] == [[FORGET], [SAVED, ForgetSession(8)]]


def test_what_the_tunnels_say_is_noted_before_it_is_said(bench: Bench) -> None:
    bench.do(
        bench.send(1, b"a"), bench.send(2, b"b"), bench.send(1, b"c"), bench.send(session_key(1, 2), b"ppp")
    )
    assert bench.noted == [({1: b"c", 2: b"b"}, [])]
    assert sorted(bench.sent()) == [b"a", b"b", b"c", b"ppp"]
    bench.do(bench.send(session_key(1, 2), b"ppp"))
    bench.do(Persist(1, (FORGET,)), bench.send(1, b"held"))
    assert len(bench.noted) == 1


def test_the_writes_of_a_turn_are_one_group(bench: Bench) -> None:
    bench.do(Persist(1, (FORGET,)), Persist(2, (FORGET,)), bench.send(1, b"a"), bench.send(2, b"b"))
    assert len(bench.submitted) == 1
    bench.finish(0)
    assert bench.sent() == [b"a", b"b"]


@pytest.mark.parametrize("write", [Hint(1, 2, 3), RECORD])
def test_hints_and_the_endpoint_record_are_never_waited_for(bench: Bench, write: Write) -> None:
    bench.do(Persist(1, (write,)), bench.send(1, b"at once"))
    assert bench.sent() == [b"at once"]
    assert bench.submitted == [([write], None)]


def test_an_error_of_the_journal_drops_what_waited_and_tells_the_node(bench: Bench) -> None:
    bench.node.on_failure = lambda lane: [bench.send(lane, b"sorry")]
    bench.do(Persist(1, (SAVED,)), bench.send(1, b"yes"), Want(1, entry(5)))
    bench.finish(0, FULL)
    assert bench.node.heard == [("commit_failed", 1)]
    assert bench.sent() == [b"sorry"]
    assert list(bench.plane.enumerate()) == []


def test_what_waited_for_deletions_is_said_although_their_commit_failed(bench: Bench) -> None:
    bench.do(Persist(1, (FORGET,)), bench.send(1, b"over"))
    bench.do(bench.send(1, b"and more"), Persist(1, (SAVED,)), bench.send(1, b"welcome"))
    bench.finish(0, FULL)
    assert bench.sent() == [b"over", b"and more"]


def test_what_takes_away_is_done_although_its_commit_failed(bench: Bench) -> None:
    bench.do(Want(1, entry(5)), Persist(1, (FORGET,)), Unwant(1, session_key(1, 5)), Release(1, "p", "x"))
    bench.finish(0, FULL)
    assert list(bench.plane.enumerate()) == []
    assert ("release", "p", "x") not in bench.node.heard, "its record may still be there"
    bench.do(Persist(2, (FORGET,)))
    bench.finish(1)
    assert ("release", "p", "x") in bench.node.heard


def test_K_12_an_address_waits_for_its_own_deletion_and_for_no_other_lanes_commit(bench: Bench) -> None:
    bench.do(Persist(1, (FORGET,)), Release(1, "p", "x"))
    bench.finish(0, FULL)
    bench.finish(1, FULL)
    assert len(bench.submitted) == 2, "a journal that fails is left alone for a second"
    bench.loop.advance(1001 * MILLISECOND)
    assert bench.submitted[2][0] == []
    bench.finish(2)
    assert bench.node.heard[-1] == ("release", "p", "x")


def test_the_node_hears_which_lanes_are_on_disk(bench: Bench) -> None:
    bench.do(Persist(1, (FORGET,)), Persist(2, (FORGET,)))
    assert bench.node.recorded == []
    bench.finish(0)
    assert bench.node.recorded == [1, 2]


def test_a_commit_of_more_than_500_ms_has_failed(bench: Bench) -> None:
    bench.do(Persist(1, (SAVED,)), bench.send(1, b"yes"))
    bench.loop.advance(499 * MILLISECOND)
    assert bench.node.heard == []
    bench.loop.advance(501 * MILLISECOND)
    assert bench.node.heard == [("commit_failed", 1)]
    bench.finish(0)
    assert bench.sent() == [], "the late commit admits nothing"
    assert bench.runner.settled


def test_a_late_commit_does_not_open_the_lanes_next_barrier(bench: Bench) -> None:
    bench.do(Persist(1, (FORGET,)))
    bench.loop.advance(501 * MILLISECOND)
    bench.do(Persist(1, (FORGET,)), bench.send(1, b"second"))
    bench.finish(0)
    assert bench.sent() == []
    bench.finish(1)
    assert bench.sent() == [b"second"]


def test_each_group_has_its_own_500_ms(bench: Bench) -> None:
    bench.do(Persist(1, (FORGET,)))
    bench.loop.advance(300 * MILLISECOND)
    bench.do(Persist(2, (FORGET,)))
    bench.loop.advance(600 * MILLISECOND)
    assert bench.node.heard == [("commit_failed", 1)]
    bench.loop.advance(801 * MILLISECOND)
    assert bench.node.heard == [("commit_failed", 1), ("commit_failed", 2)]


def test_one_turn_takes_a_whole_batch_and_submits_once(bench: Bench) -> None:
    bench.node.on_control = lambda data: [Persist(data[4] << 8 | data[5], (FORGET,))]
    for tunnel in range(10):
        bench.peer.send(CONTROL_MESSAGE[:5] + bytes([tunnel]) + CONTROL_MESSAGE[6:], bench.udp.address)
    bench.runner.on_udp_readable()
    assert len(bench.node.heard) == 10
    assert len(bench.submitted) == 1


def test_ppp_frames_go_to_their_session(bench: Bench) -> None:
    bench.peer.send(PPP_MESSAGE, bench.udp.address)
    bench.runner.on_udp_readable()
    assert bench.node.heard == [("ppp", 1 << 32 | 2)]


def test_the_timer_is_armed_when_the_deadline_comes_nearer_and_only_then(bench: Bench) -> None:
    bench.node.at = 5 * SECOND
    bench.do()
    armed = bench.loop.armed
    bench.node.at = 9 * SECOND
    bench.do()
    assert bench.loop.armed == armed
    bench.node.at = 2 * SECOND
    bench.do()
    assert bench.loop.armed == armed + 1
    bench.loop.advance(2 * SECOND)
    assert bench.node.heard == [("timer", 2 * SECOND)]


def test_a_timer_is_never_early(bench: Bench) -> None:
    bench.node.at = 1_500
    bench.do()
    bench.loop.advance(SECOND)
    assert bench.node.heard == [("timer", 2_000)]


def test_an_exception_ends_its_own_datagram_only(bench: Bench) -> None:
    def fail(data: bytes) -> Iterable[Effect]:
        if bench.node.heard == [("control", CONTROL_MESSAGE)]:
            raise ZeroDivisionError
        return [bench.send(1, b"next")]

    bench.node.on_control = fail
    for _ in range(2):
        bench.peer.send(CONTROL_MESSAGE, bench.udp.address)
    bench.runner.on_udp_readable()
    assert bench.sent() == [b"next"]
    assert bench.runner.faults == 1
    (event,) = bench.logged
    assert event.event == "node.fault"
    assert "ZeroDivisionError" in str(event.fields["traceback"])


def test_an_entry_that_cannot_forward_harms_no_other(bench: Bench) -> None:
    bench.do(Want(1, entry(5)), Want(2, entry(6, "not an address")), Want(3, entry(7, "100.64.0.2")))
    assert sorted(bench.plane.enumerate()) == [session_key(1, 5), session_key(1, 7)]
    assert bench.runner.faults == 1
