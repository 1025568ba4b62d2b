"""The eBPF programs, frame by frame: reasons, bytes and counters, in XDP and in tc, and never worse for being hostile."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.cases import (
    CORE,
    DOWN,
    HELLO,
    IP,
    LNS,
    MSS_1460,
    NODE,
    OTHER,
    OURS,
    PEER,
    SUBSCRIBER,
    UP,
    FromDevice,
    FromPeer,
    entry,
    packet,
    syn,
)
from dataplane.planes import NullBench, Out
from dataplane.program_cases import (
    ECHO,
    PROGRAM_CASES,
    SESSION,
    SUBSCRIBER6,
    V6,
    ProgramCase,
    from_core,
    from_lac,
    ipv6,
    syn6,
    to_lac,
)
from dataplane.programs import (
    CORE6,
    CORE_FAR_MAC,
    CORE_MAC,
    IPV4,
    IPV6,
    LONG_MS,
    SECOND,
    Action,
    Bench,
    Hook,
    Outcome,
    bench,
    mac,
    missing,
    one_hop_less,
    text_of,
)
from dataplane.random_packets import ARRIVALS
from holdfast.dataplane.contract import Entry, Verdict
from holdfast.dataplane.ebpf.abi import VERDICTS, Reason
from holdfast.lab.netns import ip
from holdfast.records import Counters

REASON = missing()
MANY = (
    LNS,
    entry(session=4, address=OTHER, mtu=600, acfc=True, pfc=True),
    entry(session=5, address="100.64.0.9", with_length=True),
)
LEAST = {Hook.XDP: 0, Hook.TC: 20}
"""Octets of IPv4 with which the kernel makes a test run; of IPv6 twice as many."""
_DAEMONS = frozenset(
    {
        Reason.RX_CONTROL,
        Reason.RX_PPP,
        Reason.RX_NO_SESSION,
        Reason.RX_TO_DAEMON,
        Reason.RX_FRAGMENT,
        Reason.RX_UNUSUAL,
    }
)
pytestmark = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture(scope="module")
def programs() -> Iterator[Bench]:
    with bench() as made:
        yield made


class Ears:
    """The daemon's socket, open while a case wants it so."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def set(self, heard: bool) -> None:
        """Listen, or do not."""
        if heard and not self.sockets:
            for address in (NODE, SECOND):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(address)
                self.sockets.append(sock)
        elif not heard:
            while self.sockets:
                self.sockets.pop().close()


@pytest.fixture(scope="module")
def ears(programs: Bench) -> Iterator[Ears]:
    made = Ears()
    yield made
    made.set(False)


class Both:
    """A program, and behind it the rules by which the daemon finishes what the program passes on."""

    def __init__(
        self,
        programs: Bench,
        hook: Hook,
        entries: tuple[Entry, ...],
        *,
        mss_clamp: bool = False,
        icmp_source: str = "",
    ) -> None:
        self.programs, self.hook = programs, hook
        self.daemon = NullBench(mss_clamp=mss_clamp, icmp_source=icmp_source)
        self.daemon.plane.install(entries)
        programs.install(entries, mss_clamp=mss_clamp)
        programs.configure()

    def inject(self, arrives: FromPeer | FromDevice) -> tuple[Out, Verdict]:
        """What comes out, as other planes put it: packets as they were one hop before."""
        if isinstance(arrives, FromPeer):
            frame, port = from_lac(arrives.data, arrives.source), "lac"
        else:
            frame, port = from_core(arrives.packet), "core"
        outcome = self.programs.run(self.hook, port, frame)
        ((reason, count),) = outcome.reasons.items()
        assert count == 1
        verdict = VERDICTS.get(reason)
        if outcome.action is Action.DROP:
            assert verdict is not None
            return Out(), verdict
        if verdict is None:
            assert (outcome.action, outcome.frame) == (Action.PASS, frame)
            assert isinstance(arrives, FromDevice) or reason in _DAEMONS
            return judged(self.daemon, arrives)
        if reason is Reason.RX_FORWARDED:
            assert outcome.frame[:14] == CORE_FAR_MAC + CORE_MAC + IPV4
            return Out(to_device=(one_hop_less(outcome.frame[14:]),)), verdict
        if reason is Reason.TX_FORWARDED:
            assert isinstance(arrives, FromDevice)
            datagram = outcome.frame[42:]
            assert outcome.frame == to_lac(datagram), "the outer headers"
            at = len(datagram) - int.from_bytes(arrives.packet[2:4], "big")
            return Out(to_peer=((datagram[:at] + one_hop_less(datagram[at:]), PEER),)), verdict
        assert outcome.frame[:14] == frame[:14]
        return Out(to_device=(outcome.frame[14:],)), verdict

    def counters(self) -> dict[int, Counters]:
        """The traffic of sessions that had any, on either way."""
        found = self.programs.counters()
        for key, counted in self.daemon.plane.all_counters().items():
            if counted != Counters():
                assert key not in found
                found[key] = counted
        return found


def judged(plane: NullBench, arrives: FromPeer | FromDevice) -> tuple[Out, Verdict]:
    """What comes out of a plane, and its verdict."""
    before = dict(plane.plane.verdicts())
    out = plane.inject(arrives)
    ((verdict, count),) = [(v, n - before[v]) for v, n in plane.plane.verdicts().items() if n != before[v]]
    assert count == 1
    return out, verdict


def kernel_takes(data: bytes) -> bool:
    """Whether the kernel would route this packet to a TUN device; its own answers are not the plane's."""
    return len(data) >= 20 and data[0] >> 4 == 4 and data[8] > 1


def until(condition: Callable[[], bool], limit_s: float = 5) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def by_hook(cases: tuple[ProgramCase, ...]) -> list[object]:
    return [pytest.param(hook, c, id=f"{hook.name}-{c.name}") for c in cases for hook in c.hooks]


@pytest.mark.parametrize("hook, case", by_hook(PROGRAM_CASES))
def test_frame(hook: Hook, case: ProgramCase, programs: Bench, ears: Ears) -> None:
    ears.set(case.heard)
    programs.install(case.entries, mss_clamp=case.mss_clamp)
    programs.configure()
    programs.set_ports(redirect=case.redirect)
    try:
        outcome = programs.run(hook, case.port, case.frame, gso_size=case.gso_size)
    finally:
        programs.set_ports()
    check(hook, case, outcome)


LIKES = (
    from_lac(OURS + IP + UP),
    from_lac(OURS + V6 + ipv6()),
    from_core(DOWN),
    from_core(ipv6(CORE6, SUBSCRIBER6)),
)
"""What nearly every packet of the cases has in common with others."""


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("hook, case", by_hook(PROGRAM_CASES))
def test_what_is_known_of_its_like_does_not_change_a_frame(
    hook: Hook, case: ProgramCase, programs: Bench, ears: Ears
) -> None:
    ears.set(case.heard)
    programs.install(case.entries, mss_clamp=case.mss_clamp)
    programs.configure(flow_life_ms=LONG_MS)
    programs.set_ports(redirect=case.redirect)
    try:
        for frame in LIKES:
            programs.run(hook, "core" if frame.startswith(CORE_MAC) else "lac", frame)
        for _ in range(2):
            check(hook, case, programs.run(hook, case.port, case.frame, gso_size=case.gso_size))
    finally:
        programs.set_ports()
        programs.configure()


def check(hook: Hook, case: ProgramCase, outcome: Outcome) -> None:
    action = Action.SENT if hook is Hook.TC and case.action is Action.SENT_BACK else case.action
    assert (outcome.reasons, outcome.action) == ({case.reason: 1}, action)
    if case.action is not Action.DROP:
        assert outcome.frame == (case.frame if case.out is None else case.out)
    assert outcome.counters == case.counters


def every_cut(hook: Hook) -> list[bytes]:
    """Frames of every kind, cut after every octet behind the link header."""
    frames = [
        from_lac(OURS + IP + UP),
        from_lac(OURS + V6 + ipv6()),
        from_lac(OURS + ECHO),
        from_lac(HELLO),
        from_lac(bytes.fromhex("4a02 0030 0007 0003 0001 0000 0002 aaaa") + IP + UP),
        from_core(DOWN),
        from_core(ipv6(CORE6, SUBSCRIBER6)),
        from_core(syn(CORE, SUBSCRIBER, MSS_1460)),
    ]
    least = {frame: 14 + LEAST[hook] * (2 if frame[12:14] == IPV6 else 1) for frame in frames}
    return [frame[:size] for frame in frames for size in range(least[frame], len(frame))]


@pytest.mark.parametrize("hook", Hook, ids=lambda hook: hook.name)
def test_a_frame_cut_anywhere_is_passed_as_it_is_and_counts_once(
    hook: Hook, programs: Bench, ears: Ears
) -> None:
    ears.set(True)
    programs.install((SESSION,), mss_clamp=True)
    for frame in every_cut(hook):
        port = "core" if frame.startswith(CORE_MAC) else "lac"
        outcome = programs.run(hook, port, frame)
        assert (outcome.action, outcome.frame, outcome.counters) == (Action.PASS, frame, {}), frame
        assert outcome.reasons == {Reason.NOT_OURS: 1}


@pytest.mark.parametrize("hook", Hook, ids=lambda hook: hook.name)
def test_a_datagram_cut_anywhere_is_judged_as_the_rules_say(hook: Hook, programs: Bench, ears: Ears) -> None:
    ears.set(True)
    whole = (
        OURS + IP + UP,
        bytes.fromhex("4a02 0030 0007 0003 0001 0000 0002 aaaa") + IP + UP,
        OURS + b"\x21" + UP,
        OURS + ECHO,
        HELLO,
    )
    both = Both(programs, hook, (LNS,))
    rules = NullBench()
    rules.plane.install((LNS,))
    for data in whole:
        for size in range(len(data) + 1):
            arrives = FromPeer(data[:size])
            assert judged(rules, arrives) == both.inject(arrives), data[:size]


@pytest.mark.parametrize("hook", Hook, ids=lambda hook: hook.name)
def test_the_program_only_shortens_the_rules(hook: Hook, programs: Bench, ears: Ears) -> None:
    ears.set(True)
    benches = {
        clamp: (Both(programs, hook, MANY, mss_clamp=clamp), NullBench(mss_clamp=clamp))
        for clamp in (False, True)
    }
    for _, rules in benches.values():
        rules.plane.install(MANY)

    @settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
    @given(arrives=ARRIVALS, clamp=st.booleans())
    def compare(arrives: FromPeer | FromDevice, clamp: bool) -> None:
        both, rules = benches[clamp]
        programs.install(MANY, mss_clamp=clamp)
        if isinstance(arrives, FromDevice) and not kernel_takes(arrives.packet):
            return
        if b"\xff\xff" in (arrives.data if isinstance(arrives, FromPeer) else arrives.packet):
            return  # as a checksum it is 0, and cannot be told from it a hop later
        for _ in range(2):  # the second time by what is known of the first
            assert both.inject(arrives) == judged(rules, arrives)

    programs.configure(flow_life_ms=LONG_MS)
    compare()
    programs.configure()


@pytest.mark.parametrize("hook", Hook, ids=lambda hook: hook.name)
def test_ipv6_in_a_datagram_cut_anywhere_goes_nowhere_and_counts_once(
    hook: Hook, programs: Bench, ears: Ears
) -> None:
    ears.set(True)
    programs.install((SESSION,), mss_clamp=True)
    segment = syn6(1460)
    for whole in (OURS + V6 + ipv6(), OURS + b"\x57" + ipv6(payload=segment, header=6)):
        for size in range(len(whole)):
            frame = from_lac(whole[:size])
            outcome = programs.run(hook, "lac", frame)
            assert list(outcome.reasons.values()) == [1] and outcome.counters == {}, whole[:size]
            if outcome.action is Action.PASS:
                assert outcome.frame == frame
            else:
                assert (outcome.action, *outcome.reasons) == (Action.DROP, Reason.RX_MALFORMED)


def leads_to(programs: Bench, hook: Hook, frame: bytes, link: bytes) -> bool:
    """Whether that is where the frame goes next."""
    return programs.run(hook, "lac", frame).frame[:6] == link


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Stay on one CPU: each keeps flows of its own."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("one_cpu")
def test_a_next_hop_is_kept_for_its_life_and_then_asked_for_again(programs: Bench, ears: Ears) -> None:
    ears.set(True)
    programs.install((SESSION,))
    frame, moved = from_lac(OURS + IP + UP), mac(0x2FF)
    try:
        for hook in Hook:
            programs.configure(flow_life_ms=LONG_MS)
            assert programs.run(hook, "lac", frame).frame[:6] == CORE_FAR_MAC
            ip(f"neigh replace {CORE} lladdr {text_of(moved)} dev core nud permanent")
            assert programs.run(hook, "lac", frame).frame[:6] == CORE_FAR_MAC, "it holds"
            other = from_lac(OURS + IP + packet(SUBSCRIBER, "198.51.100.2"))
            assert programs.run(hook, "lac", other).frame[:6] == CORE_FAR_MAC, "of this pair only"
            programs.configure(flow_life_ms=LONG_MS)
            assert programs.run(hook, "lac", frame).frame[:6] == moved, "a new generation forgets it"
            ip(f"neigh replace {CORE} lladdr {text_of(CORE_FAR_MAC)} dev core nud permanent")
            programs.configure(flow_life_ms=2)
            assert programs.run(hook, "lac", frame).frame[:6] == CORE_FAR_MAC
            ip(f"neigh replace {CORE} lladdr {text_of(moved)} dev core nud permanent")
            assert until(partial(leads_to, programs, hook, frame, moved)), "it expires"
            ip(f"neigh replace {CORE} lladdr {text_of(CORE_FAR_MAC)} dev core nud permanent")
    finally:
        ip(f"neigh replace {CORE} lladdr {text_of(CORE_FAR_MAC)} dev core nud permanent")


def test_a_packet_larger_than_a_kept_path_is_left_to_the_kernel(programs: Bench, ears: Ears) -> None:
    ears.set(True)
    programs.install((SESSION,))
    for hook in Hook:
        programs.configure(flow_life_ms=LONG_MS)
        small, large = (
            from_core(packet(CORE, SUBSCRIBER)),
            from_core(packet(CORE, SUBSCRIBER, payload=bytes(1443))),
        )
        assert programs.run(hook, "core", small).reasons == {Reason.TX_FORWARDED: 1}
        assert programs.run(hook, "core", large).reasons == {Reason.TX_TOO_BIG: 1}


def test_without_configuration_or_port_everything_passes(programs: Bench, ears: Ears) -> None:
    ears.set(False)
    programs.install((SESSION,))
    programs.configure(port=0)
    for hook in Hook:
        outcome = programs.run(hook, "lac", from_lac(OURS + IP + UP))
        assert (outcome.action, outcome.reasons) == (Action.PASS, {Reason.NOT_OURS: 1})
    programs.configure()


def test_every_reason_of_the_ingress_has_a_case() -> None:
    elsewhere = {r for r in Reason if r.name.startswith("SLOW_") or r.name.endswith("_REFUSED")}
    assert {case.reason for case in PROGRAM_CASES} == set(Reason) - elsewhere
