"""Reliable delivery: RFC 2661 5.8 and appendix A, rows V2-70…V2-83."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import seq
from holdfast.core.clock import MILLISECOND, SECOND, Instant
from holdfast.core.counters import Counter
from holdfast.protocol.channel import ControlChannel, Outcome
from holdfast.protocol.effects import TunnelDown
from holdfast.protocol.settings import ChannelSettings
from holdfast.wire.dictionary import ASSIGNED_SESSION_ID, CALL_SERIAL_NUMBER
from holdfast.wire.header import control_header, parse_control
from holdfast.wire.messages import Msg, encode
from protocol.script import PEER, Rig, call_in, from_lac, hello_avps, only, types

HELLO = encode(Msg.HELLO)
ICRQ = encode(Msg.ICRQ, ASSIGNED_SESSION_ID(0x0A11), CALL_SERIAL_NUMBER(1))
START: Instant = 1_000 * SECOND


def channel(window: int = 16, ns: int = 0, nr: int = 0, **settings: int) -> ControlChannel:
    c = ControlChannel(ChannelSettings(**settings), peer_tunnel_id=9)
    c.set_peer_window(window)
    c.reset(ns, nr, 0)
    return c


def sent(c: ControlChannel) -> list[tuple[int, int, int]]:
    """(Ns, Nr, octets of the body) of what the channel wants sent, and forget it."""
    out = [parse_control(d) for d in c.out]
    c.out.clear()
    return [(h.ns, h.nr, h.end - 12) for h in out]


def test_V2_70_every_message_takes_one_number_and_numbers_wrap() -> None:
    c = channel(ns=65534, nr=7)
    for k in range(4):
        c.send(0, HELLO, START)
        c.receive(0, 0, seq.add(65534, k + 1), b"", START)
        c.finish(START)
    assert [ns for ns, _, _ in sent(c)] == [65534, 65535, 0, 1]


def test_V2_70_a_zlb_takes_no_number() -> None:
    c = channel()
    c.receive(0, 0, 0, HELLO, START)
    c.finish(START)
    c.receive(0, 1, 0, HELLO, START)
    c.finish(START)
    c.send(0, HELLO, START)
    assert sent(c) == [(0, 1, 0), (0, 2, 0), (0, 2, len(HELLO))]


def test_V2_71_messages_are_delivered_once_and_in_order() -> None:
    c, delivered = channel(), list[bytes]()
    order = [0, 2, 2, 4, 1, 3, 0, 3]
    for ns in order:
        if c.receive(0, ns, 0, bytes([ns]) * 8, START) == Outcome.DELIVER:
            delivered.append(bytes([ns]))
            while (early := c.next_early()) is not None:
                delivered.append(early[1][:1])
    assert delivered == [bytes([n]) for n in range(5)]


@given(st.integers(0, 0xFFFF), st.integers(0, 2**32), st.lists(st.integers(0, 30), min_size=1, max_size=200))
def test_V2_71_any_order_any_number_of_times(start: int, _: int, arrivals: list[int]) -> None:
    c, delivered, arrived = channel(nr=start, ns=1), list[int](), set[int]()
    for k in arrivals:
        arrived.add(k)
        if c.receive(0, seq.add(start, k), 1, k.to_bytes(2, "big"), START) == Outcome.DELIVER:
            delivered.append(k)
            while (early := c.next_early()) is not None:
                delivered.append(int.from_bytes(early[1], "big"))
    assert delivered == list(range(len(delivered)))
    assert set(delivered) <= arrived
    assert c.nr == seq.add(start, len(delivered))


@pytest.mark.parametrize(
    ("ns", "outcome"), [(15, 2), (0, 2), (32784, 2), (65535, 2), (17, 3), (32783, 3), (16, 0)]
)
def test_V2_72_old_early_and_next(ns: int, outcome: int) -> None:
    c = channel(nr=16, ns=1)
    assert c.receive(0, ns, 1, HELLO, START) == outcome


def test_V2_73_a_duplicate_is_acknowledged_again_and_not_processed() -> None:
    c = channel()
    assert c.receive(0, 0, 0, HELLO, START) == Outcome.DELIVER
    c.finish(START)
    assert c.receive(0, 0, 0, HELLO, START) == Outcome.DUPLICATE
    c.finish(START)
    assert sent(c) == [(0, 1, 0), (0, 1, 0)]


def test_V2_73_a_lost_acknowledgement_of_an_icrq_makes_no_second_session() -> None:
    rig = Rig()
    line = from_lac(rig)
    call_in(line)
    again = line.raw(ICRQ, ns=2)
    assert types(again) == [0]
    assert again[0].nr == line.ns
    assert len(rig.tunnel().sessions) == 1
    assert rig.count(Counter.RX_DUPLICATE) == 1


def test_V2_74_of_a_zlb_only_nr_counts() -> None:
    c = channel(nr=5)
    c.send(0, HELLO, START)
    sent(c)
    for ns in (5, 6, 4, 60000):
        assert c.receive(0, ns, 1, b"", START) == Outcome.ACKNOWLEDGEMENT
        c.finish(START)
    assert c.nr == 5
    assert c.idle
    assert sent(c) == [], "no ZLB answers a ZLB"


def test_V2_75_a_retransmission_has_the_same_ns_and_the_current_nr() -> None:
    c = channel()
    c.send(0, HELLO, START)
    assert sent(c) == [(0, 0, 8)]
    c.receive(0, 0, 0, HELLO, START)
    c.finish(START)
    sent(c)
    assert c.retransmit_at is not None
    c.timed_out(c.retransmit_at)
    assert sent(c) == [(0, 1, 8)]


def retransmission_times(**settings: int) -> tuple[list[int], int]:
    """Seconds of every transmission, and of giving up, when nobody answers."""
    c = channel(**settings)
    c.send(0, HELLO, 0)
    times = [0]
    c.out.clear()
    while not c.exhausted:
        assert c.retransmit_at is not None
        at = c.retransmit_at
        c.timed_out(at)
        if c.out:
            times.append(at // SECOND)
        c.out.clear()
    assert c.give_up_at() == at
    return times, at // SECOND


def test_V2_76_the_interval_doubles() -> None:
    assert retransmission_times()[0] == [0, 1, 3, 7, 15]


def test_V2_76_a_cap_of_eight_seconds() -> None:
    assert retransmission_times(cap=8 * SECOND)[0] == [0, 1, 3, 7, 15]
    assert retransmission_times(cap=8 * SECOND, attempts=7)[0] == [0, 1, 3, 7, 15, 23, 31]


@pytest.mark.parametrize(("settings", "dead_at"), [({}, 31), ({"cap": 8 * SECOND}, 23), ({"attempts": 3}, 7)])
def test_V2_77_five_intervals_without_an_answer_are_enough(settings: dict[str, int], dead_at: int) -> None:
    assert retransmission_times(**settings)[1] == dead_at


def test_V2_77_the_tunnel_and_its_sessions_are_cleared() -> None:
    rig = Rig()
    line = from_lac(rig, cap=None)
    call_in(line)
    rig.take(rig.endpoint.probe(line.remote, rig.now))
    rig.later(30.9)
    assert rig.tunnel().established
    rig.later(0.2)
    assert not rig.endpoint.tunnels
    assert not rig.sessions
    assert not rig.tunnels
    assert len(rig.of(TunnelDown)) == 1


def test_V2_77_any_progress_starts_the_count_again() -> None:
    c = channel(window=2)
    c.send(0, HELLO, START)
    c.timed_out(START + SECOND)
    assert c.attempts == 1
    c.receive(0, 0, 1, b"", START + SECOND)
    assert c.attempts == 0


def test_V2_78_a_window_of_one_is_lock_step() -> None:
    c = channel(window=1)
    for _ in range(3):
        c.send(0, HELLO, START)
    assert len(sent(c)) == 1
    for nr in (1, 2):
        c.receive(0, 0, nr, b"", START)
        c.finish(START)
        assert len(sent(c)) == 1


@given(st.integers(1, 40), st.integers(1, 60))
def test_V2_78_never_more_than_the_peer_window_is_outstanding(window: int, messages: int) -> None:
    c = channel(window=window)
    for _ in range(messages):
        c.send(0, HELLO, START)
    acked = 0
    while not c.idle:
        assert seq.distance(c.acked, c.ns) <= window
        acked += 1
        c.receive(0, 0, acked, b"", START)
        c.finish(START)
    assert acked == messages


def test_V2_78_without_the_avp_the_window_is_four() -> None:
    rig = Rig()
    line = from_lac(rig, window=None)
    assert rig.endpoint.tunnels[line.remote].channel.peer_window == 4


def test_V2_78_a_window_of_zero_is_refused() -> None:
    rig = Rig()
    body = encode(Msg.SCCRQ, *hello_avps(0x1111, window=None)) + bytes.fromhex("80080000000a0000")
    heard = rig.feed(control_header(0, 0, 0, 0, len(body)) + body)
    assert only(heard, Msg.STOPCCN)
    assert not rig.endpoint.tunnels


def test_V2_79_acknowledgements_are_never_withheld() -> None:
    rig = Rig()
    line = from_lac(rig)
    rig.endpoint.set_admitting(False)
    for k in range(30):
        heard = line.say(Msg.HELLO)
        assert heard[-1].nr == line.ns, k


def test_V2_80_slow_start_then_congestion_avoidance() -> None:
    c = channel(window=8)
    trace = [c.cwnd]
    c.ssthresh = 4
    for _ in range(40):
        c.send(0, HELLO, START)
    for nr in range(1, 30):
        c.receive(0, 0, nr, b"", START)
        c.finish(START)
        trace.append(c.cwnd)
    assert trace[:4] == [1, 2, 3, 4], "one more for each acknowledgement"
    assert trace[4:8] == [4, 4, 4, 5], "then one more for each window"
    assert max(trace) == 8


def test_V2_80_a_loss_halves_the_threshold_and_starts_again_at_one() -> None:
    c = channel(window=16)
    for _ in range(40):
        c.send(0, HELLO, START)
    for nr in range(1, 11):
        c.receive(0, 0, nr, b"", START)
        c.finish(START)
    before = c.cwnd
    c.timed_out(START + SECOND)
    assert (c.cwnd, c.ssthresh) == (1, before // 2)


def test_V2_80_what_followed_a_lost_message_is_sent_again_without_another_time_out() -> None:
    """A peer that drops what comes before its turn loses a whole window with one message."""
    c = channel(window=4)
    c.cwnd = 4
    for _ in range(12):
        c.send(0, HELLO, START)
    now, expected = START + SECOND, 0
    c.out.clear()
    c.timed_out(now)
    while not c.idle:
        arrived = sent(c)
        assert arrived, "waits for a time-out though nothing was lost since the first"
        for ns, _, _ in arrived:
            expected += ns == expected
        c.receive(0, 0, expected, b"", now)
        c.finish(now)
    assert expected == 12


def test_V2_80_what_the_peer_had_kept_is_not_sent_again() -> None:
    c = channel(window=4)
    c.cwnd = 4
    for _ in range(4):
        c.send(0, HELLO, START)
    c.out.clear()
    c.timed_out(START + SECOND)
    assert [ns for ns, _, _ in sent(c)] == [0]
    c.receive(0, 0, 3, b"", START + SECOND)
    c.finish(START + SECOND)
    assert [ns for ns, _, _ in sent(c)] == [3]


def test_V2_81_an_answer_carries_the_acknowledgement() -> None:
    rig = Rig()
    line = from_lac(rig)
    assert line.ns == 2
    call = line.raw(ICRQ)
    assert types(call) == [Msg.ICRP]
    assert call[0].nr == 3


def test_V2_81_without_an_answer_a_zlb_acknowledges() -> None:
    rig = Rig()
    line = from_lac(rig)
    assert types(line.say(Msg.HELLO)) == [0]


@pytest.mark.parametrize("nr", [3, 20_000, 40_000, 50_000])
def test_V2_82_an_acknowledgement_of_what_was_never_sent_is_dropped(nr: int) -> None:
    rig = Rig()
    line = from_lac(rig)
    before = rig.tunnel().channel.acked
    assert line.say(Msg.HELLO, nr=nr, ns=line.ns) == []
    assert rig.count(Counter.RX_BAD_NR) == 1
    assert rig.tunnel().channel.acked == before
    assert types(line.say(Msg.HELLO)) == [0], "the number is still free"


def test_V2_82_an_old_nr_is_not_an_error() -> None:
    c = channel(ns=10)
    assert c.receive(0, 0, 3, HELLO, START) == Outcome.DELIVER
    assert c.acked == 10


def test_V2_83_an_unknown_tunnel_id_draws_no_answer() -> None:
    rig = Rig()
    assert rig.feed(bytes.fromhex("c802001477770000000000008008000000000006")) == []
    assert rig.count(Counter.RX_UNKNOWN_TUNNEL) == 1


def test_T_12_stale_duplicates_are_acknowledged_but_not_at_any_rate() -> None:
    c = channel(nr=20_000, ns=5)
    for _ in range(50):
        c.receive(0, 19_000, 5, HELLO, START)
        c.finish(START)
    assert len(sent(c)) == 1
    c.receive(0, 19_000, 5, HELLO, START + 100 * MILLISECOND)
    c.finish(START + 100 * MILLISECOND)
    assert len(sent(c)) == 1


def test_T_11_after_a_reset_to_zero_early_messages_are_not_queued_for_a_while() -> None:
    c = channel()
    c.reset(0, 0, START)
    c.receive(0, 1, 0, b"stale---", START + SECOND)
    assert c.receive(0, 0, 0, HELLO, START + SECOND) == Outcome.DELIVER
    assert c.next_early() is None
    later = START + 31 * SECOND
    c.receive(0, 2, 0, b"genuine-", later)
    assert c.receive(0, 1, 0, HELLO, later) == Outcome.DELIVER
    assert c.next_early() == (0, b"genuine-")


def test_F_40_a_reset_forgets_everything_that_was_queued() -> None:
    c = channel()
    for _ in range(5):
        c.send(0, HELLO, START)
    c.receive(0, 3, 0, HELLO, START)
    sent(c)
    c.timed_out(START + SECOND)
    sent(c)
    c.reset(3, 100, START + SECOND)
    assert (c.ns, c.nr, c.acked, c.idle, c.attempts, c.retransmit_at) == (3, 100, 3, True, 0, None)
    assert c.cwnd == 1
    c.finish(START + SECOND)
    assert sent(c) == []


def test_a_held_channel_queues_and_acknowledges_but_does_not_speak() -> None:
    c = channel()
    c.held = True
    c.send(0, HELLO, START)
    assert sent(c) == []
    c.release(START)
    assert sent(c) == [(0, 0, 8)]


def test_messages_beyond_the_receive_window_are_not_kept() -> None:
    c = channel(receive_window=4)
    c.receive(0, 4, 0, b"too far-", START)
    c.receive(0, 3, 0, b"in time-", START)
    for ns in (0, 1, 2):
        c.receive(0, ns, 0, HELLO, START)
    assert c.next_early() == (0, b"in time-")
    assert c.next_early() is None


def test_a_lossy_link_loses_and_repeats_nothing() -> None:
    random = Random(3)
    a, b = channel(window=8), channel(window=8)
    for k in range(60):
        a.send(0, k.to_bytes(8, "big"), START)
    now, got, wire = START, list[int](), list[tuple[Instant, bool, bytes]]()
    while not a.idle:
        for c, to_b in ((a, True), (b, False)):
            wire += [
                (now + random.randrange(50) * MILLISECOND, to_b, d) for d in c.out if random.random() > 0.2
            ]
            c.out.clear()
        wire.sort(key=lambda w: w[0])
        if wire and (a.retransmit_at is None or wire[0][0] <= a.retransmit_at):
            now, to_b, data = wire.pop(0)
            h, target = parse_control(data), b if to_b else a
            if target.receive(0, h.ns, h.nr, data[12:], now) == Outcome.DELIVER:
                got.append(int.from_bytes(data[12:], "big"))
                while (early := target.next_early()) is not None:
                    got.append(int.from_bytes(early[1], "big"))
            target.finish(now)
        else:
            assert a.retransmit_at is not None
            now = a.retransmit_at
            a.timed_out(now)
        assert not a.exhausted
    assert got == list(range(60))


def test_V2_10_a_message_from_another_address_is_dropped() -> None:
    rig = Rig()
    line = from_lac(rig)
    assert line.say(Msg.HELLO, ns=line.ns, source=(PEER[0], 4711)) == []
    assert rig.count(Counter.RX_WRONG_SOURCE) == 1


def test_once_its_nr_is_settled_everything_unacknowledged_is_sent_until_the_peer_speaks() -> None:
    """l2tpns looks at the Nr of the message that it expects alone, and acknowledges none while it waits itself."""
    c = channel()
    for k in range(3):
        c.send(0, HELLO, START)
        c.receive(0, 0, k + 1, b"", START)
    for _ in range(3):
        c.send(0, HELLO, START)
    sent(c)
    c.settle(20, START)
    c.timed_out(START)
    assert [(ns, nr) for ns, nr, _ in sent(c)] == [(3, 20), (4, 20), (5, 20)]
    c.receive(0, 20, 4, b"", START)
    c.timed_out(START)
    assert [(ns, nr) for ns, nr, _ in sent(c)] == [(4, 20)]
