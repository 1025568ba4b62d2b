"""The contract, on every plane: each case of `cases` from empty tables, and what entries do."""

import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs

from dataplane import programs
from dataplane.cases import (
    BIG_CUTTABLE,
    CASES,
    CORE,
    COUNTED_UP,
    DOWN,
    HELLO,
    IP,
    KEY,
    LCP,
    LNS,
    NODE,
    OTHER,
    OURS,
    PEER,
    SIZE,
    STRANGER,
    THEIRS,
    UP,
    Case,
    FromDevice,
    FromPeer,
    entry,
    packet,
)
from dataplane.ebpf_bench import EbpfBench
from dataplane.planes import Bench, NullBench, Out, TunBench
from dataplane.programs import Hook, missing
from holdfast.dataplane.contract import CONTROL, BadEntry, UnknownSession, Verdict
from holdfast.dataplane.ebpf.pins import remove
from holdfast.dataplane.reconcile import plan, reconcile
from holdfast.dataplane.trace import Seen, decapsulated
from holdfast.records import Counters, Side

REASON = missing()
NO_BPF = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
PLANES = (
    "null",
    "tun",
    pytest.param("ebpf-tc", marks=NO_BPF),
    pytest.param("ebpf-xdp", marks=NO_BPF),
)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Where the eBPF planes' pins are; the thread is in their namespace meanwhile."""
    with programs.ground() as scratch:
        yield scratch
        remove(str(scratch / "bpf"))


@pytest.fixture(params=PLANES)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Bench]]:
    """Makes planes of one kind, and closes them."""
    kinds: dict[str, Callable[..., Bench]] = {"null": NullBench, "tun": TunBench}
    if request.param not in kinds:
        hook = Hook.TC if request.param == "ebpf-tc" else Hook.XDP
        where: Path = request.getfixturevalue("directory")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ears:
            ears.bind(NODE)
            yield from benches(partial(EbpfBench, where, hook))
    else:
        yield from benches(kinds[request.param])


def benches(kind: Callable[..., Bench]) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make_one(**options: object) -> Bench:
        made.append(kind(**options))
        return made[-1]

    yield make_one
    for bench in made:
        bench.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packet_case(case: Case, make: Callable[..., Bench]) -> None:
    bench = make(mss_clamp=case.mss_clamp, icmp_source=case.icmp_source)
    if isinstance(bench, EbpfBench) and not bench.takes(case.arrives):
        pytest.skip("the kernel makes no test run of a tc program with so short a packet")
    bench.plane.install(case.entries)
    out = bench.inject(case.arrives)
    assert (out.to_device, out.to_peer, out.punted) == (case.to_device, case.to_peer, case.punted)
    moved = {verdict: count for verdict, count in bench.plane.verdicts().items() if count}
    assert moved == {case.verdict: 1}
    counted = {key: c for key, c in bench.plane.all_counters().items() if c != Counters()}
    assert counted == case.counters


WHOLE = (
    OURS + IP + UP,
    bytes.fromhex("4a02 0030 0007 0003 0001 0000 0002 aaaa") + IP + UP,
    OURS + b"\x21" + UP,
    OURS + IP + packet(options=bytes(8)),
    OURS + LCP,
    HELLO,
)


def test_what_a_peer_sends_cut_anywhere_forwards_nothing_and_counts_once(make: Callable[..., Bench]) -> None:
    bench = make(mss_clamp=True)
    bench.plane.install([LNS, entry(session=4, address=OTHER)])
    for data in (whole[:size] for whole in WHOLE for size in range(len(whole))):
        before = dict(bench.plane.verdicts())
        out = bench.inject(FromPeer(data))
        assert (out.to_device, out.to_peer) == ((), ()), data
        assert {key for key, _, _ in out.punted} <= {KEY, CONTROL}, data
        moved = {v: n - before[v] for v, n in bench.plane.verdicts().items() if n != before[v]}
        assert list(moved.values()) == [1], data
    assert set(bench.plane.all_counters().values()) == {Counters()}


def test_what_the_device_gives_cut_anywhere_forwards_nothing_and_counts_once(
    make: Callable[..., Bench],
) -> None:
    bench = make(mss_clamp=True)
    bench.plane.install([LNS])
    for size in range(1, len(DOWN)):
        arrives, before = FromDevice(DOWN[:size]), bench.plane.verdicts()[Verdict.TX_NOT_IPV4]
        if isinstance(bench, EbpfBench) and not bench.takes(arrives):
            continue
        assert bench.inject(arrives) == Out()
        assert bench.plane.verdicts()[Verdict.TX_NOT_IPV4] == before + 1
    assert bench.plane.counters(KEY) == Counters()


def test_every_verdict_has_a_case_or_a_test_of_its_own() -> None:
    only_with_io = {Verdict.RX_REFUSED, Verdict.TX_REFUSED, Verdict.RX_ECHO, Verdict.RX_UNHEARD}
    assert {case.verdict for case in CASES} == set(Verdict) - only_with_io


def test_enumerate_gives_back_what_was_installed(make: Callable[..., Bench]) -> None:
    entries = [LNS, entry(Side.LAC, session=4, address=OTHER, acfc=True, mtu=1400)]
    bench = make()
    bench.plane.install(entries)
    assert dict(bench.plane.enumerate()) == {e.key: e for e in entries}


def test_counters_survive_a_replacement_and_go_with_the_entry(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.plane.install([LNS])
    bench.inject(FromPeer(OURS + IP + UP))
    bench.plane.install([entry(peer=STRANGER)])
    assert bench.plane.counters(KEY) == COUNTED_UP[KEY]
    assert bench.inject(FromPeer(OURS + IP + UP, STRANGER)).to_device == (UP,)
    assert bench.plane.remove([KEY, 99]) == {KEY: Counters(2, 2 * SIZE, 0, 0)}
    bench.plane.forget([KEY])
    with pytest.raises(UnknownSession):
        bench.plane.counters(KEY)
    bench.plane.install([LNS])
    assert bench.plane.counters(KEY) == Counters()


def test_a_removed_session_forwards_nothing(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.plane.install([LNS])
    out = bench.inject(FromPeer(OURS + IP + UP), FromDevice(DOWN))
    assert (out.to_device, out.to_peer) == ((UP,), ((THEIRS + IP + DOWN, PEER),))
    bench.plane.remove([KEY])
    out = bench.inject(FromPeer(OURS + IP + UP), FromDevice(DOWN))
    assert (out.to_device, out.to_peer) == ((), ())


def test_the_younger_claimant_of_an_address_gets_its_packets_at_once(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.plane.install([LNS])
    assert bench.inject(FromDevice(DOWN)).to_peer == ((THEIRS + IP + DOWN, PEER),)
    bench.plane.install([entry(session=4, peer_session=0x0405)])
    theirs = THEIRS[:4] + b"\x04\x05" + IP + DOWN
    assert bench.inject(FromDevice(DOWN)).to_peer == ((theirs, PEER),)
    bench.plane.install([entry(session=4, peer_session=0x0405, address=OTHER)])
    assert bench.inject(FromDevice(DOWN)).to_peer == ()


def test_entries_of_one_session_in_one_go_leave_the_last(make: Callable[..., Bench]) -> None:
    bench = make()
    first, last = entry(address=OTHER, mtu=1400), entry(mtu=1300)
    bench.plane.install([entry(mtu=1500), first, last])
    assert dict(bench.plane.enumerate()) == {KEY: last}
    assert bench.inject(FromDevice(DOWN)).to_peer == ((THEIRS + IP + DOWN, PEER),)
    assert bench.inject(FromDevice(packet(CORE, OTHER))).to_peer == ()
    bench.plane.remove([KEY])
    assert bench.inject(FromDevice(DOWN)).to_peer == ()


def test_removing_the_older_claimant_of_an_address_leaves_the_younger(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.plane.install([LNS, entry(session=4, peer_session=0x0304)])
    bench.plane.remove([KEY])
    assert bench.inject(FromDevice(DOWN)).to_peer == ((THEIRS + IP + DOWN, PEER),)


def test_sequenced_sessions_count_their_own_packets(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.plane.install([entry(sequenced=True)])
    out = bench.inject(FromDevice(DOWN), FromDevice(DOWN))
    assert [datagram[6:10] for datagram, _ in out.to_peer] == [b"\0\0\0\0", b"\0\1\0\0"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "100.64.0"},
        {"address": "host"},
        {"peer": ("192.0.2.1.5", 1701)},
        {"peer": ("192.0.2.1", 70000)},
        {"peer_tunnel": 0},
        {"peer_session": 0x10000},
        {"key": 5},
        {"mtu": 67},
    ],
    ids=str,
)
def test_an_entry_that_cannot_forward_is_refused(
    wrong: dict[str, object], make: Callable[..., Bench]
) -> None:
    bench = make()
    with pytest.raises(BadEntry):
        bench.plane.install([entry(session=4, address=OTHER), structs.replace(entry(), **wrong)])
    assert list(bench.plane.enumerate()) == [entry(session=4).key]


def test_a_refused_replacement_changes_nothing(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.plane.install([LNS])
    with pytest.raises(BadEntry):
        bench.plane.install([entry(address=OTHER, mtu=1)])
    assert bench.inject(FromDevice(DOWN)).to_peer == ((THEIRS + IP + DOWN, PEER),)
    assert dict(bench.plane.enumerate()) == {KEY: LNS}


def test_reconcile_installs_changes_and_removes_and_reads_back(make: Callable[..., Bench]) -> None:
    bench = make()
    stays, goes, changes = (entry(session=s, address=f"100.64.0.{s}") for s in (1, 2, 3))
    comes, changed = entry(session=4, address="100.64.0.4"), entry(session=3, address="100.64.0.30")
    bench.plane.install([stays, goes, changes])
    want = {e.key: e for e in (stays, changed, comes)}
    made, left = reconcile(bench.plane, want)
    assert (made.put, made.delete) == ([changed, comes], [goes.key])
    assert not left
    assert dict(bench.plane.enumerate()) == want
    again, _ = reconcile(bench.plane, want)
    assert not again


def test_sessions_go_on_counting_where_their_records_say(make: Callable[..., Bench]) -> None:
    bench, before = make(), Counters(10, 1000, 20, 3000)
    lac, later = entry(Side.LAC, session=4, address=OTHER), entry(session=5, address="100.64.0.9")
    bench.plane.resume({KEY: before, lac.key: before, later.key: before})
    bench.plane.install([LNS, lac])
    assert bench.plane.all_counters() == {KEY: before, lac.key: before}
    bench.plane.begin()
    bench.inject(FromPeer(OURS + IP + UP))
    bench.inject(FromPeer(b"\0\2\0\7\0\4" + IP + packet(CORE, OTHER)))
    assert bench.plane.counters(KEY) == Counters(11, 1000 + SIZE, 20, 3000)
    assert bench.plane.counters(lac.key) == Counters(10, 1000, 21, 3000 + SIZE)
    bench.plane.install([entry(mtu=1400), later])
    assert bench.plane.counters(KEY) == Counters(11, 1000 + SIZE, 20, 3000)
    assert bench.plane.counters(later.key) == Counters(), "what began later has no record of before"
    bench.plane.remove([KEY])
    bench.plane.forget([KEY])
    bench.plane.install([LNS])
    assert bench.plane.counters(KEY) == Counters()


def datagrams(seen: list[Seen]) -> list[tuple[bool, bytes]]:
    """Direction and UDP payload of what a trace has shown, whole."""
    assert all(shown.length == len(shown.packet) for shown in seen)
    return [(shown.to_peer, shown.packet[28:]) for shown in seen]


def test_a_trace_shows_a_sessions_packets_and_nobody_elses(make: Callable[..., Bench]) -> None:
    bench, seen = make(), list[Seen]()
    bench.plane.install([LNS, entry(session=4, address=OTHER)])
    bench.inject(FromPeer(OURS + IP + UP))
    bench.plane.trace(KEY, seen.append)
    spoofed, cut = OURS + IP + packet(OTHER, CORE), OURS + IP + UP[:-1]
    for data in (OURS + IP + UP, OURS + LCP, spoofed, cut):
        bench.inject(FromPeer(data))
    bench.inject(FromPeer(OURS + IP + UP, STRANGER), FromPeer(b"\0\2\0\7\0\4" + IP + packet(OTHER, CORE)))
    bench.inject(FromDevice(packet(CORE, OTHER)))
    bench.plane.show_traced()
    shown = datagrams(seen)
    assert sorted(shown) == sorted((False, data) for data in (OURS + IP + UP, OURS + LCP, spoofed, cut))
    ends = {(s.packet[12:16], s.packet[16:20]) for s in seen}
    assert ends <= {(socket.inet_aton(PEER[0]), socket.inet_aton(to)) for to in (NODE[0], "0.0.0.0")}
    assert {s.key for s in seen} == {KEY}
    inner = [found.packet for found in map(decapsulated, seen) if found is not None]
    assert UP in inner and len(inner) == 3  # LCP is none, and what is cut is shown as far as it goes
    assert bench.plane.traced_missed() == 0


def test_a_trace_shows_what_goes_to_the_peer_as_it_goes(make: Callable[..., Bench]) -> None:
    bench, seen = make(), list[Seen]()
    bench.plane.install([entry(with_length=True, mtu=1000)])
    bench.inject(FromDevice(DOWN))
    bench.plane.trace(KEY, seen.append)
    small, large = bench.inject(FromDevice(DOWN)), bench.inject(FromDevice(BIG_CUTTABLE))
    bench.plane.show_traced()
    seen.sort(key=lambda shown: shown.at_ns)
    shown, sent = datagrams(seen), [data for data, _ in small.to_peer + large.to_peer]
    assert [(to_peer, len(data), data[:14]) for to_peer, data in shown] == [
        (True, len(d), d[:14]) for d in sent
    ]
    assert len(sent) == 3
    found = decapsulated(seen[0])
    assert (
        found is not None and found.to_peer and found.packet[-8:] == DOWN[-8:] and len(found.packet) == SIZE
    )


def test_a_trace_ends_when_it_is_told_to_and_with_the_session(make: Callable[..., Bench]) -> None:
    bench, seen = make(), list[Seen]()

    def send() -> list[bool]:
        seen.clear()
        bench.inject(FromPeer(OURS + IP + UP))
        bench.inject(FromDevice(DOWN))
        bench.plane.show_traced()
        return [shown.to_peer for shown in seen]

    bench.plane.trace(KEY, seen.append)  # before there is an entry
    bench.plane.install([LNS])
    assert send() == [False, True]
    bench.plane.install([entry(mtu=1400)])
    assert send() == [False, True], "it outlasts a replacement"
    bench.plane.trace(KEY, None)
    assert send() == send() == []
    bench.plane.trace(KEY, seen.append)
    bench.plane.remove([KEY])
    bench.plane.forget([KEY])
    bench.plane.install([LNS])
    assert send() == []
    bench.plane.trace(KEY, None)


def test_a_trace_of_the_older_claimant_of_an_address_leaves_the_younger_its_packets(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    bench.plane.install([LNS, entry(session=4, peer_session=0x0405)])
    theirs = THEIRS[:4] + b"\x04\x05" + IP + DOWN
    for sink in (list[Seen]().append, None):
        bench.plane.trace(KEY, sink)
        assert bench.inject(FromDevice(DOWN)).to_peer == ((theirs, PEER),)


def test_plan_of_what_agrees_is_empty() -> None:
    assert not plan({KEY: LNS}, {KEY: LNS})
