"""The load generator against a scripted LNS, in virtual time and without sockets; once over UDP."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from threading import Thread

import pytest
from msgspec.structs import replace

from holdfast.core.clock import MILLISECOND, SECOND
from holdfast.lab.blast import main
from holdfast.lab.blast.call import Failure
from holdfast.lab.blast.channel import Channel
from holdfast.lab.blast.engine import Engine
from holdfast.lab.blast.frames import CONTROL, ICCN, canonical, icrq
from holdfast.lab.blast.packets import MARK, NUMBER, Arrivals, Pacer, head
from holdfast.lab.blast.plan import Plan, Traffic
from holdfast.lab.blast.result import spread
from holdfast.lab.blast.upstream import Upstream
from holdfast.wire import dictionary as avps
from holdfast.wire.codes import Cdn, Msg, StopCcn
from holdfast.wire.messages import encode
from lab.scripted_lns import CHAP, PAP, PppSide, ScriptedLns


class Lab:
    """An engine and a server joined by lists of datagrams. `lose` takes a datagram to the server out of the way."""

    def __init__(
        self,
        lns: ScriptedLns | None = None,
        lose: Callable[[bytes], bool] = lambda data: False,
        **plan: object,
    ) -> None:
        self.lns = lns or ScriptedLns()
        self.now = 1 * SECOND
        self.packets: list[bytes] = []
        self.to_lns: list[bytes] = []
        self.lose = lose
        self.plan = replace(Plan(lns="192.0.2.1", tunnels=2, sessions=10), **plan)
        self.engine = Engine(
            self.plan,
            self._carry,
            lambda: self.now,
            Random(7).randbytes,
            lambda call, data: self.packets.append(data),
        )

    def _carry(self, data: bytes) -> None:
        if not self.lose(data):
            self.to_lns.append(data)

    def exchange(self) -> None:
        """Let both speak until nobody has anything to say."""
        for _ in range(200):
            self.engine.place(self.now)
            sent, self.to_lns = self.to_lns, []
            answers = self.lns.feed(sent)
            if not answers and not self.to_lns:
                return
            self.engine.receive(answers, self.now)
        raise AssertionError("they never stop talking")

    def open_tunnels(self) -> None:
        for _ in range(self.plan.tunnels):
            self.engine.open_tunnel(self.now)
            self.exchange()

    def set_up(self) -> None:
        self.open_tunnels()
        self.engine.begin(self.now)
        self.exchange()

    def pass_time(self, microseconds: int) -> None:
        """Let time pass in steps of the engine's own tick."""
        end = self.now + microseconds
        while self.now < end:
            self.now += 100 * MILLISECOND
            self.engine.timers(self.now)
            self.exchange()


@pytest.mark.parametrize("auth", [CHAP, PAP])
def test_every_session_comes_up_and_gets_its_address(auth: int) -> None:
    lab = Lab(ScriptedLns(auth=auth))
    lab.set_up()
    assert lab.engine.finished
    assert len(lab.engine.latencies) == 10
    assert {call.user for call in lab.lns.calls.values()} == {b"user%d" % n for n in range(1, 11)}
    assert {call.address for call in lab.engine.sessions()} == {c.address for c in lab.lns.calls.values()}
    assert all(call.lcp == call.ipcp == {"ours", "theirs"} for call in lab.lns.calls.values())
    assert not lab.lns.faults


@pytest.mark.parametrize(
    "lns",
    [
        ScriptedLns(length_bit=True),
        ScriptedLns(compressed=True),
        ScriptedLns(length_bit=True, compressed=True, auth=PAP),
        ScriptedLns(window=1),
    ],
    ids=["length bit", "compressed", "both", "window of one"],
)
def test_servers_may_write_their_frames_as_they_like(lns: ScriptedLns) -> None:
    lab = Lab(lns)
    lab.set_up()
    assert len(lab.engine.latencies) == 10
    assert lns.early == 0


def test_mrru_and_endpoint_discriminator_are_rejected() -> None:
    extra = b"\x11\x04\x05\xdc" + b"\x13\x07\x01\x0a\x00\x00\x01"
    lab = Lab(ScriptedLns(extra_lcp=extra), sessions=1)
    lab.set_up()
    assert [call.rejected for call in lab.lns.calls.values()] == [extra]
    assert len(lab.engine.latencies) == 1


def test_raw_templates_are_what_the_dictionary_encodes() -> None:
    assert icrq(0x0A11, 1001) == encode(
        Msg.ICRQ, avps.ASSIGNED_SESSION_ID(0x0A11), avps.CALL_SERIAL_NUMBER(1001)
    )
    assert encode(Msg.ICCN, avps.TX_CONNECT_SPEED(100_000_000), avps.FRAMING_TYPE(1)) == ICCN


def test_V2_90_tunnel_authentication_goes_both_ways() -> None:
    lab = Lab(ScriptedLns(secret=b"tunnel"), tunnel_secret=b"tunnel")
    lab.set_up()
    assert lab.engine.tunnels_opened == 2
    assert len(lab.engine.latencies) == 10


def test_V2_91_a_server_with_another_secret_is_refused() -> None:
    lab = Lab(ScriptedLns(secret=b"other"), tunnel_secret=b"tunnel", tunnels=1)
    lab.set_up()
    assert lab.engine.tunnels_opened == 0
    assert sum(lab.engine.tunnels_failed.values()) == 1
    assert lab.engine.failed == {Failure.NO_TUNNEL: 10}


def test_a_wrong_password_is_counted_as_refused() -> None:
    lab = Lab(secret="wrong", sessions=3)
    lab.set_up()
    assert lab.engine.failed == {Failure.AUTH_REFUSED: 3}
    assert lab.engine.finished


def test_a_cdn_is_counted_with_its_result() -> None:
    lab = Lab(ScriptedLns(refuse=Cdn.NO_FACILITIES_TEMPORARY), sessions=3)
    lab.set_up()
    assert lab.engine.failed == {"CDN 4/0": 3}


def test_a_stopccn_loses_the_sessions_of_its_tunnel_only() -> None:
    lab = Lab()
    lab.set_up()
    lab.lns.stop(next(iter(lab.lns.tunnels.values())), StopCcn.CLEAR_REQUEST)
    lab.engine.receive(lab.lns.feed([]), lab.now)
    assert lab.engine.lost == {"tunnel ended: StopCCN 1/0": 5}
    assert len(lab.engine.up) == 5


def test_an_lcp_echo_is_answered_with_our_magic() -> None:
    lab = Lab(sessions=1, tunnels=1)
    lab.set_up()
    call = only(lab)
    lab.engine.receive([lab.lns.echo_request(call, 5)], lab.now)
    lab.exchange()
    assert call.rejected == call.magic + b"are you there"


def test_V2_75_lost_messages_are_sent_again_with_the_same_ns() -> None:
    lost = set[int]()

    def lose(data: bytes) -> bool:
        """Each control message's first copy, from the third on."""
        if not data[0] & 0x80 or len(data) == 12:
            return False
        ns = int.from_bytes(data[8:10], "big")
        first = ns >= 2 and ns not in lost
        lost.add(ns)
        return first

    lab = Lab(lose=lose, tunnels=1, sessions=4)
    lab.set_up()
    assert not lab.engine.finished
    lab.pass_time(15 * SECOND)
    assert len(lab.engine.latencies) == 4
    assert lab.engine.retransmitted >= 2


def test_lost_ppp_frames_are_sent_again() -> None:
    dropped: list[bytes] = []

    def lose(data: bytes) -> bool:
        kind = data[6:11]
        if data[0] & 0x80 or kind in dropped or kind[4:] != b"\x01":
            return False
        dropped.append(kind)
        return True

    lab = Lab(lose=lose, tunnels=1, sessions=1)
    lab.set_up()
    assert not lab.engine.finished
    lab.pass_time(10 * SECOND)
    assert len(lab.engine.latencies) == 1
    assert lab.engine.latencies[0] >= 3 * SECOND


def test_V2_77_a_silent_server_ends_the_tunnel_and_its_sessions() -> None:
    lab = Lab(tunnels=1, sessions=3)
    lab.set_up()
    lab.lose = lambda data: True
    lab.engine.close(lab.now)
    lab.pass_time(30 * SECOND)
    assert lab.engine.quiet


def test_set_ups_that_nobody_answers_fail_in_time() -> None:
    lab = Lab(tunnels=1, sessions=2, setup_timeout_s=5.0)
    lab.lose = lambda data: data[0] & 0x80 == 0
    lab.set_up()
    lab.pass_time(6 * SECOND)
    assert lab.engine.failed == {Failure.LCP_TIMEOUT: 2}


def test_a_rate_is_kept_whatever_the_server_does() -> None:
    lab = Lab(sessions=100, rate=10.0, in_flight=1000)
    lab.set_up()
    assert lab.engine.started == 1
    lab.pass_time(2 * SECOND)
    assert lab.engine.started == 21
    assert max(lab.engine.lateness) == 0


def test_older_sessions_make_room_for_new_ones() -> None:
    lab = Lab(sessions=5, total=20)
    lab.set_up()
    assert len(lab.engine.latencies) == 20
    assert lab.engine.cleared == 15
    assert len(lab.engine.up) == 5
    assert len(lab.lns.calls) == 5
    assert not lab.engine.lost


def test_V2_74_acknowledgements_are_owed_for_messages_only() -> None:
    sent: list[bytes] = []
    channel = Channel(sent.append)
    assert channel.accept(0)
    channel.flush()
    channel.flush()
    assert [CONTROL.unpack(data)[5] for data in sent] == [1]


def test_V2_73_a_duplicate_is_acknowledged_and_not_taken_twice() -> None:
    sent: list[bytes] = []
    channel = Channel(sent.append)
    assert channel.accept(0)
    assert not channel.accept(0)
    assert not channel.accept(3)
    channel.flush()
    assert len(sent) == 1


def test_V2_78_no_more_than_the_window_is_outstanding() -> None:
    sent: list[bytes] = []
    channel = Channel(sent.append)
    for n in range(10):
        channel.transmit(0, b"%d" % n, 0)
    assert len(sent) == 4
    channel.acknowledge(2, 0)
    assert len(sent) == 6
    channel.acknowledge(50, 0)
    assert len(channel.unacked) == 4


def test_V2_70_sequence_numbers_wrap() -> None:
    sent: list[bytes] = []
    channel = Channel(sent.append)
    for n in range(0x10005):
        channel.transmit(0, b"x", 0)
        channel.acknowledge((n + 1) & 0xFFFF, 0)
    assert len(sent) == 0x10005
    assert channel.ns == 5


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("0002 0001 0002 ff03 c021 0101 0004"),
        bytes.fromhex("4002 0010 0001 0002 ff03 c021 0101 0004 aaaa"),
        bytes.fromhex("0802 0001 0002 0009 0000 c021 0101 0004"),
        bytes.fromhex("0202 0001 0002 0002 aaaa ff03 c021 0101 0004"),
        bytes.fromhex("4b02 0018 0001 0002 0009 0000 0001 aa ff03 c021 0101 0004 aa"),
    ],
    ids=["plain", "length", "sequence", "offset", "all"],
)
def test_V2_165_data_messages_of_every_form_are_read(data: bytes) -> None:
    plain = canonical(data)
    assert plain is not None and plain[:14] == bytes.fromhex("0002 0001 0002 ff03 c021 0101 0004")


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\2", b"\0\3" + bytes(20), b"\x42\2\0\4\0\0\0\0\xff"])
def test_what_is_no_data_message_is_left_alone(data: bytes) -> None:
    assert len(data) < 2 or canonical(data) is None
    lab = Lab()
    lab.engine.receive([data], lab.now)


def test_packets_are_numbered_per_session_and_counted_at_both_ends() -> None:
    lab = Lab(sessions=3, tunnels=1)
    lab.set_up()
    traffic = Traffic(core="198.51.100.9", up=3000)
    pacer = Pacer(3000, lab.now, lab.now + SECOND)
    up = Upstream(lab.engine.sessions(), traffic, pacer, lab.to_lns.append)
    lab.now += 2 * MILLISECOND
    up.send(lab.now)
    lab.exchange()
    arrivals = Arrivals(lambda: lab.now)
    for packet in lab.lns.packets:
        assert len(packet) == 64
        assert sum(int.from_bytes(packet[i : i + 2], "big") for i in range(0, 20, 2)) % 0xFFFF == 0
        arrivals.note(packet, 28)
    assert (arrivals.received, arrivals.sessions) == (6, 3)
    assert [NUMBER.unpack_from(p, 28)[1:] for p in lab.lns.packets] == [
        (0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)
    ]  # fmt: skip

    call = only_of(lab, 0)
    packet = head(b"\xc6\x33\x64\x09", call.address, 40001, 44) + NUMBER.pack(MARK, 0, 1)
    lab.engine.receive([lab.lns.packet(call, packet)], lab.now)
    assert lab.packets[0][10:] == packet


def test_gaps_are_the_longest_silence_of_all_and_of_any_session() -> None:
    times = iter((1_000, 2_000, 9_000, 12_000))
    arrivals = Arrivals(lambda: next(times))
    for index in (0, 1, 0, 1):
        arrivals.note(NUMBER.pack(MARK, index, 1), 0)
    assert (arrivals.gap, arrivals.session_gap) == (7_000, 10_000)


def test_a_pacer_owes_what_was_due_until_its_end() -> None:
    pacer = Pacer(1000, 0, 2 * SECOND)
    assert pacer.due(SECOND) == 1000
    pacer.sent = 990
    assert pacer.due(5 * SECOND) == 1010
    assert pacer.next_at(SECOND) == 991_000
    assert pacer.next_at(2 * SECOND) is None


def test_percentiles() -> None:
    result = spread(range(0, 100_000, 1000))
    assert result is not None
    assert (result.p50, result.p99, result.max) == (50.0, 99.0, 99.0)
    assert spread([]) is None


def test_the_command_measures_a_server_over_udp(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        thread = Thread(target=serve, args=(server,))
        thread.start()
        port = server.getsockname()[1]
        file = tmp_path / "result.json"
        status = main(
            [
                f"127.0.0.1:{port}",
                "--bind",
                "127.0.0.1",
                "--tunnels",
                "2",
                "--sessions",
                "30",
                "--json",
                str(file),
            ]
        )
        server.sendto(b"", server.getsockname())
        thread.join()
    result = json.loads(file.read_text())
    assert status == 0
    assert result["sessions"]["opened"] == 30
    assert result["sessions"]["latency_ms"]["p99"] > 0
    assert result["tunnels"]["opened"] == 2


def serve(server: socket.socket) -> None:
    """A server until an empty datagram comes."""
    lns = ScriptedLns()
    while True:
        data, source = server.recvfrom(2048)
        if not data:
            return
        for answer in lns.feed([data]):
            server.sendto(answer, source)


def only(lab: Lab) -> PppSide:
    return only_of(lab, 0)


def only_of(lab: Lab, index: int) -> PppSide:
    user = b"user%d" % (index + 1)
    return next(call for call in lab.lns.calls.values() if call.user == user)
