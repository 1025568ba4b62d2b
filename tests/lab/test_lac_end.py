"""A LAC's end of the traffic by itself: what it sends, what it takes for its own, what it leaves to the daemon."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.dataplane.contract import CONTROL, Entry
from holdfast.dataplane.inbox import Inbox
from holdfast.lab.lac_end import NoPlan, Subscribers, SubscribersPlane
from holdfast.lab.measure import Moments, measure
from holdfast.lab.stream import PACKET, Commands, Schedule
from holdfast.lab.traffic import ARRIVAL, Plan
from holdfast.records import Side, session_key

TOKEN = 0xC0FFEE
LNS_IDS = (9, 10)
LATE = 1 << 61


def entry(number: int, peer: tuple[str, int]) -> Entry:
    return Entry(
        key=session_key(7, number),
        side=Side.LAC,
        local_tunnel=7,
        local_session=number,
        peer_tunnel=LNS_IDS[0],
        peer_session=LNS_IDS[1] + number,
        peer=peer,
        address=f"100.64.0.{number}",
    )


class Ends:
    """A LAC's plane with two sessions, a run on it, and the LNS's socket."""

    def __init__(self, directory: Path) -> None:
        self.lns, self.lac = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (self.lns, self.lac):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(5)
        self.directory = directory
        self.plane = SubscribersPlane(self.lac)
        self.plane.install(entry(number, self.lns.getsockname()) for number in (1, 2))
        self.run: Subscribers | None = None

    def plan(self, *addresses: str, pps: int = 4) -> Plan:
        return Plan(
            side="lac",
            token=TOKEN,
            pps=pps,
            addresses=addresses,
            core="198.51.100.2",
            log=str(self.directory / "log"),
            board=str(self.directory / "board"),
            echoes=str(self.directory / "echoes"),
        )

    def begin(self, pps: int = 4) -> Subscribers:
        self.run = self.plane.begin_run(self.plan("100.64.0.1", "100.64.0.2", pps=pps))
        return self.run

    def sent(self, count: int) -> list[bytes]:
        return [self.lns.recv(2000) for _ in range(count)]

    def arrive(self, *datagrams: bytes) -> list[int]:
        """Keys of what is left to the daemon."""
        inbox = Inbox()
        inbox.fill((data, self.lns.getsockname()) for data in datagrams)
        return [key for key, _, _ in self.plane.receive(inbox)]

    def log(self) -> list[int]:
        return [k for _, k in ARRIVAL.iter_unpack((self.directory / "log").read_bytes())]

    def close(self) -> None:
        if self.run is not None:
            self.run.close()
        for sock in (self.lns, self.lac):
            sock.close()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    made = Ends(tmp_path)
    yield made
    made.close()


def during(start_ns: int, stop_ns: int) -> Commands:
    """Told from when to when."""
    commands = Commands()
    commands.feed(f"start {start_ns}\nst".encode())
    commands.feed(f"op {stop_ns}\n".encode())
    return commands


def just_now(length_ns: int) -> Commands:
    """So long, and over by now."""
    now = time.monotonic_ns()
    return during(now - length_ns, now)


def down(session: int, k: int, *, token: int = TOKEN) -> bytes:
    """Packet `k` of the core, as the LNS sends it in a session."""
    inner = bytes.fromhex("45000034") + bytes(24) + PACKET.pack(token, 0, k, 1)
    return bytes.fromhex("0002 0007") + session.to_bytes(2, "big") + bytes.fromhex("ff03 0021") + inner


def echo_of(request: bytes, session: int) -> bytes:
    """The LNS's reply to an Echo-Request, with a magic number of its own."""
    head = bytes.fromhex("0002 0007") + session.to_bytes(2, "big") + request[6:10]
    return head + b"\x0a" + request[11:14] + b"\1\2\3\4" + request[18:]


def test_each_packet_is_a_datagram_of_its_own_in_the_session_whose_turn_it_is(ends: Ends) -> None:
    assert not ends.begin(400).send(just_now(7_500_000))
    packets = [data for data in ends.sent(3 + 4) if data[8:10] == b"\0\x21"]
    assert [data[2:6] for data in packets] == [bytes((0, 9, 0, n)) for n in (11, 12, 11)]
    assert [PACKET.unpack_from(data, 38)[2] for data in packets] == [0, 1, 2]
    assert packets[1][10 + 12 : 10 + 20] == socket.inet_aton("100.64.0.2") + socket.inet_aton("198.51.100.2")


def test_more_than_a_burst_is_left_for_the_next_turn(ends: Ends) -> None:
    run, commands = ends.begin(100_000), just_now(1_000_000)
    assert run.send(commands)
    assert run.shortfall(commands).unsent == 100 - 64
    assert not run.done(commands)
    assert not run.send(commands)
    assert (run.shortfall(commands).unsent, run.shortfall(commands).no_room) == (0, 0)
    assert run.shortfall(commands).late_ns > 0
    assert run.done(commands)


def test_receiving_ends_when_told_and_not_with_something_waiting(ends: Ends) -> None:
    run, commands = ends.begin(), during(0, 1)
    assert run.done(commands) and not run.over(commands), "the other side may still send"
    ends.lns.sendto(b"x", ends.lac.getsockname())
    commands.feed(f"end {time.monotonic_ns()}\n".encode())
    assert not run.over(commands), "it has arrived, and waits"
    ends.lac.recv(10)
    assert run.over(commands)


def test_what_takes_too_long_is_not_sent(ends: Ends) -> None:
    run, commands = ends.begin(), during(0, 1_000_000_000)
    assert run.done(commands)
    assert not run.send(commands)
    assert run.shortfall(commands).unsent == 4


def test_a_packet_counts_in_its_own_session_only(ends: Ends) -> None:
    ends.begin()
    assert ends.arrive(down(1, 0), down(2, 1), down(1, 3), down(2, 5, token=1)) == []
    assert ends.run is not None
    ends.run.close()
    ends.run = None
    assert ends.log() == [0, 1]
    moments = Moments(killed_ns=LATE, dead_ns=LATE, started_ns=LATE, stop_ns=1_000_000_000)
    assert measure(Schedule(0, 4, 2), ends.directory / "log", moments).lost == 2


def test_echoes_are_asked_for_and_their_answers_noted(ends: Ends) -> None:
    ends.begin().send(just_now(4_000_000))
    first, second = (data for data in ends.sent(3) if data[8:10] == b"\xc0\x21")
    assert (first[10], first[14:18]) == (9, bytes(4))
    assert ends.arrive(echo_of(first, 1), echo_of(second, 1)) == [session_key(7, 1)], "the wrong session"
    assert ends.run is not None
    ends.run.close()
    ends.run = None
    (asked, answered), (_, never) = ARRIVAL.iter_unpack((ends.directory / "echoes").read_bytes())
    assert asked <= answered and never == 0


def test_what_is_not_of_the_run_is_the_daemons(ends: Ends) -> None:
    lcp = bytes.fromhex("0002 0007 0001 ff03 c021 0a01 0008 00000000")
    hello = bytes.fromhex("c802001400010000000000000008000000000006")
    assert ends.arrive(down(1, 0), lcp, hello) == [session_key(7, 1), CONTROL]
    ends.begin()
    assert ends.arrive(hello, lcp, b"", b"\0\2") == [CONTROL, session_key(7, 1)]


def test_a_plan_for_somebody_without_a_session_is_refused(ends: Ends) -> None:
    with pytest.raises(NoPlan, match=r"1 addresses have no session, 100\.64\.0\.9"):
        ends.plane.begin_run(ends.plan("100.64.0.1", "100.64.0.9"))
