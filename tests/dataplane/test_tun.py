"""The TUN plane beyond the shared cases: bursts, refusals by device and socket, the device's MTU, fast path = rules."""

import errno
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.cases import (
    COUNTED_UP,
    DOWN,
    IP,
    KEY,
    LCP,
    LNS,
    OTHER,
    OURS,
    PEER,
    SIZE,
    STRANGER,
    THEIRS,
    UP,
    FromDevice,
    FromPeer,
    entry,
    packet,
)
from dataplane.planes import FakeDevice, NullBench, TunBench
from dataplane.random_packets import ARRIVALS, sized
from holdfast.dataplane.contract import DeviceLost, Entry, Verdict
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.tun import TunPlane
from holdfast.records import Counters, session_key

CORE, SUBSCRIBER = "198.51.100.1", "100.64.0.7"
OTHER_PEER = entry(session=4, address=OTHER, peer=STRANGER, peer_session=5)


Make = Callable[..., TunBench]


@pytest.fixture
def tun() -> Iterator[Make]:
    """Makes TUN planes without a kernel, and closes them."""
    made: list[TunBench] = []

    def make(**options: object) -> TunBench:
        made.append(TunBench(**options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def test_packets_of_one_size_leave_in_one_call_each_with_its_header(tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS])
    packets = [sized(100, number=n) for n in range(60)]
    out = bench.inject(*map(FromDevice, packets))
    assert out.to_peer == tuple((THEIRS + IP + p, PEER) for p in packets)
    assert bench.socket.calls == 1
    assert bench.plane.counters(KEY) == Counters(0, 0, 60, 6000)


@pytest.mark.parametrize(
    "sizes",
    [(100, 100, 60, 100), (60, 100, 100), (1400,) * 50, (100, 60, 60, 60), (60, 61, 62, 63), (1400, 40) * 20],
    ids=str,
)
def test_packets_of_a_peer_keep_their_order_whatever_their_sizes(sizes: tuple[int, ...], tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS])
    packets = [sized(size, number=n) for n, size in enumerate(sizes)]
    out = bench.inject(*map(FromDevice, packets))
    assert [data for data, _ in out.to_peer] == [THEIRS + IP + p for p in packets]


def test_bursts_are_kept_per_peer(tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS, OTHER_PEER])
    bench.inject(*(FromDevice(sized(100, to=to)) for to in (SUBSCRIBER, OTHER) * 10))
    assert bench.socket.calls == 2
    assert {to: len([1 for _, peer in bench.socket.sent if peer == to]) for to in (PEER, STRANGER)} == {
        PEER: 10,
        STRANGER: 10,
    }


def test_an_unusual_packet_does_not_overtake_the_burst_before_it(tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS])
    odd = packet(CORE, SUBSCRIBER, options=bytes(4))
    out = bench.inject(FromDevice(DOWN), FromDevice(DOWN), FromDevice(odd), FromDevice(DOWN))
    assert [data for data, _ in out.to_peer] == [THEIRS + IP + p for p in (DOWN, DOWN, odd, DOWN)]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EMSGSIZE, errno.EIO])
def test_where_the_kernel_takes_no_bursts_datagrams_go_one_by_one(code: int, tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS])
    bench.socket.fail = [code]
    packets = [FromDevice(DOWN)] * 3
    assert len(bench.inject(*packets).to_peer) == 3
    assert len(bench.inject(*packets).to_peer) == 3
    assert bench.socket.calls == 1 + 3 + 3, "a burst is tried once"
    assert bench.plane.verdicts()[Verdict.TX_FORWARDED] == 6


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS])
def test_a_full_socket_costs_the_burst_and_no_counter_of_the_session(code: int, tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS])
    bench.socket.fail = [code]
    assert bench.inject(*[FromDevice(DOWN)] * 3).to_peer == ()
    assert bench.plane.counters(KEY) == Counters()
    assert bench.plane.verdicts()[Verdict.TX_REFUSED] == 3
    assert bench.plane.verdicts()[Verdict.TX_FORWARDED] == 0


@pytest.mark.parametrize("session", [LNS, entry(sequenced=True)], ids=["plain", "sequenced"])
def test_an_unreachable_peer_is_a_verdict_not_an_error(session: Entry, tun: Make) -> None:
    bench = tun()
    bench.plane.install([session])
    bench.socket.fail = [errno.ENETUNREACH]
    assert bench.inject(FromDevice(DOWN)).to_peer == ()
    assert bench.plane.counters(KEY) == Counters()
    assert bench.plane.verdicts()[Verdict.TX_REFUSED] == 1


@pytest.mark.parametrize("frame", [IP, b"\x21"], ids=["plain", "compressed"])
def test_a_device_that_takes_nothing_is_a_verdict_not_an_error(frame: bytes, tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS])
    bench.device.kernel.close()
    bench.inbox.fill([(OURS + frame + UP, PEER)])
    assert not bench.plane.receive(bench.inbox)
    assert bench.plane.counters(KEY) == Counters()
    assert bench.plane.verdicts()[Verdict.RX_REFUSED] == 1
    assert bench.plane.verdicts()[Verdict.RX_FORWARDED] == 0


def test_a_device_that_is_gone_raises_device_lost(tun: Make) -> None:
    class Gone(FakeDevice):
        def __init__(self) -> None:
            super().__init__()
            self.closed = os.open("/", os.O_RDONLY)  # reading a directory fails for good
            self.fd = self.closed

    device = Gone()
    plane = TunPlane(device, tun().socket)
    with pytest.raises(DeviceLost):
        plane.on_readable()
    os.close(device.closed)
    device.close()


def test_one_call_handles_a_bounded_number_of_packets(tun: Make) -> None:
    served = 0

    class Endless(FakeDevice):
        def __init__(self) -> None:
            super().__init__()
            self.zero = os.open("/dev/zero", os.O_RDONLY)
            self.fd = self.zero

    device = Endless()
    plane = TunPlane(device, tun().socket)
    plane.on_readable()
    served = plane.verdicts()[Verdict.TX_NOT_IPV4]
    assert 0 < served <= 256
    os.close(device.zero)
    device.close()


def test_a_batch_keeps_the_order_of_what_the_control_plane_gets(tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS])
    iccn = b"\xc8\x02" + bytes(10)
    arrivals = [(iccn, PEER), (OURS + IP + UP, PEER), (b"\0\2\0\7\0\x09" + LCP, PEER), (iccn, STRANGER)]
    punted = bench.inject(*(FromPeer(*a) for a in arrivals)).punted
    assert punted == ((-1, iccn, PEER), (session_key(7, 9), LCP, PEER), (-1, iccn, STRANGER))
    assert bench.plane.counters(KEY) == COUNTED_UP[KEY]


def test_a_datagram_longer_than_a_slot_is_malformed(tun: Make) -> None:
    bench = tun()
    bench.inbox = Inbox(slot_size=64)
    bench.plane.install([LNS])
    longer = packet(SUBSCRIBER, CORE, payload=bytes(100))
    assert bench.inject(FromPeer(OURS + IP + longer), FromPeer(OURS + IP + UP)).to_device == (UP,)
    assert bench.plane.verdicts()[Verdict.RX_MALFORMED] == 1


def test_what_an_earlier_batch_left_in_a_slot_means_nothing(tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS])
    bench.inject(FromPeer(OURS + IP + UP))
    assert bench.inject(FromPeer((OURS + IP + UP)[:12])).to_device == ()
    assert bench.plane.verdicts()[Verdict.RX_MALFORMED] == 1


def test_the_devices_mtu_is_the_lowest_mru_in_force(tun: Make) -> None:
    bench = tun(mtu=1460)
    sessions = [
        entry(session=s, address=f"100.64.0.{s}", mtu=mtu) for s, mtu in enumerate((1500, 1400, 1440), 1)
    ]
    bench.plane.install(sessions)
    assert bench.device.mtus == [1400]
    bench.plane.remove([sessions[1].key])
    assert bench.device.mtus == [1400, 1440]
    bench.plane.install([entry(session=3, address="100.64.0.3", mtu=1460)])
    assert bench.device.mtus == [1400, 1440, 1460]


def test_one_session_with_a_tiny_mru_does_not_shrink_everybodys_packets(tun: Make) -> None:
    bench = tun(mtu=1460, lowest_mtu=1280)
    bench.plane.install([entry(mtu=128)])
    assert bench.device.mtus == [1280]


def test_ipv6_noise_and_short_reads_move_nothing_else(tun: Make) -> None:
    bench = tun()
    bench.plane.install([LNS])
    out = bench.inject(FromDevice(b"\x60" + bytes(60)), FromDevice(b"\x45"), FromDevice(DOWN))
    assert out.to_peer == ((THEIRS + IP + DOWN, PEER),)
    assert bench.plane.counters(KEY) == Counters(0, 0, 1, SIZE)


SESSIONS = (
    LNS,
    entry(session=4, address=OTHER, mtu=600, acfc=True, pfc=True),
    entry(session=5, address="100.64.0.9", with_length=True),
)


@settings(max_examples=300, deadline=None)
@given(arrivals=st.lists(ARRIVALS, max_size=8), clamp=st.booleans())
def test_the_fast_path_only_shortens_the_rules(arrivals: list[FromPeer | FromDevice], clamp: bool) -> None:
    tun, null = TunBench(mss_clamp=clamp), NullBench(mss_clamp=clamp)
    try:
        for bench in (tun, null):
            bench.plane.install(SESSIONS)
        device_first = sorted(arrivals, key=lambda a: isinstance(a, FromPeer))
        fast, plain = tun.inject(*device_first), null.inject(*device_first)
        assert (fast.to_device, fast.to_peer, fast.punted) == (plain.to_device, plain.to_peer, plain.punted)
        assert tun.plane.verdicts() == null.plane.verdicts()
        assert tun.plane.all_counters() == null.plane.all_counters()
    finally:
        tun.close()
