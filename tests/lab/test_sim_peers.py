"""Other people's daemons in the simulator: restarts in front of each, and the defects that the models must have."""

from random import Random

import pytest

from holdfast.core import seq
from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.lab.sim.__main__ import main
from holdfast.lab.sim.peer import Peer
from holdfast.lab.sim.peer_sweep import Act, Life, crashes
from holdfast.lab.sim.peer_tunnel import Tunnel
from holdfast.lab.sim.peer_wire import Attr, Kind, avp, header, message, read, u16
from holdfast.lab.sim.peer_world import PeerWorld, simulate_peer
from holdfast.lab.sim.peers import DAEMONS, ROLES
from holdfast.protocol import resync
from holdfast.protocol.channel import ControlChannel
from holdfast.records import Side
from lab.histories import all_end_well, walk_ends_well

SEEDS = range(40)
ALL = sorted(DAEMONS)


@pytest.mark.parametrize("daemon", ALL)
def test_whatever_happens_no_session_is_lost_and_nothing_acknowledged_unseen(daemon: str) -> None:
    all_end_well((simulate_peer(daemon, seed) for seed in SEEDS), f"--peers {daemon}")


@pytest.mark.parametrize("daemon", ALL)
def test_a_crash_at_every_boundary_of_a_life(daemon: str) -> None:
    verdicts = walk_ends_well(crashes(daemon), at_least=150)
    assert sum(v.survivors for v in verdicts) > 150


FOUND = {
    ("accel-ppp", 0): "messages of the former life that the peer had kept took the place of new ones",
    ("accel-ppp", 16): "calls of the former life that the peer had kept, and that nobody ended",
    ("accel-ppp", 210): "more ICRPs for lost calls at once than there may be CDNs for lost calls in a second",
    ("accel-ppp", 1400): "an ICRP for a call that was not placed any more",
    ("accel-ppp", 3026): "a StopCCN that came after its number had been acknowledged unseen",
    ("accel-ppp", 18): "of several messages all were acknowledged when the first had come",
    ("go-l2tp", 2): "a restart within the second in which the numbers had not been written",
    ("l2tpns", 1): "a peer that acknowledges nothing while its own message is not acknowledged",
    ("l2tpns", 6): "one message for each time-out in front of a peer that drops what comes early",
    ("l2tpns", 136): "a CDN that came after its number had been acknowledged unseen, in the next life",
    ("l2tpns", 153): "a CDN that waited for the proof of a number through two outages",
    ("l2tpns", 338): "a peer that looks at the Nr of nothing but the one message it expects",
    ("l2tpns", 343): "a HELLO under way at the end of the history",
    ("l2tpns", 2577): "a CDN that was acknowledged before the record of its session was gone",
    ("l2tpns", 20044): "an acknowledgement that was due, noted, and never left",
    ("xl2tpd", 20168): "a copy that was lost in one life, and missed when the next had begun",
    ("xl2tpd", 39): "retransmissions with an old Nr",
    ("xl2tpd", 72): "a late copy of the message that the record expected",
    ("xl2tpd", 233): "more messages than a window holds, counted from a number that lags behind",
    ("xl2tpd", 690): "two ZLBs of which the second overtook the first, which told less",
}
"""Seeds that ended badly once, and what they met."""


@pytest.mark.parametrize(("daemon", "seed"), FOUND, ids=FOUND.values())
def test_what_was_found_once(daemon: str, seed: int) -> None:
    assert not simulate_peer(daemon, seed).problems


@pytest.mark.parametrize("number", [65_535, 0, 1])
@pytest.mark.parametrize("daemon", ALL)
def test_a_quiet_tunnel_survives_at_the_wrap(daemon: str, number: int) -> None:
    life = Life(daemon, ROLES[daemon][0], SECOND, Act.NOTHING, (0, 0))
    life.begin()
    life.until(life.begun + 14 * SECOND)  # quiet until xl2tpd says HELLO, 60 s after the set-up
    (tunnel,) = life.machine.endpoint.ctx.established()
    tunnel.channel.resume(number)
    (theirs,) = life.theirs.peer.established()
    theirs.renumber(tunnel.channel.nr, number)
    life.ours.disk.apply([life.machine.endpoint.ctx.hint(tunnel)])
    life.ours.disk.told.clear()
    life.ours.crash()
    verdict = life.judge()
    assert not verdict.problems
    assert verdict.survivors >= 2


def test_a_seed_repeats_itself() -> None:
    assert simulate_peer("xl2tpd", 5) == simulate_peer("xl2tpd", 5)


def test_the_command_runs_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--peers", "l2tpns", "go-l2tp", "--seeds", "2"]) == 0
    assert "4 histories" in capsys.readouterr().out


# Planted faults.


def found(daemon: str, seeds: int = 12) -> str:
    """What a few histories and the walk complain of."""
    verdicts = [simulate_peer(daemon, seed) for seed in range(seeds)] + [v for _, v in crashes(daemon)]
    return "\n".join(problem for v in verdicts for problem in v.problems)


def test_acknowledging_what_was_not_seen_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync, "_wait", lambda state, now, came: 0)
    assert "was acknowledged and never came" in found("xl2tpd")


def test_waiting_too_short_for_a_retransmission_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = resync._wait
    monkeypatch.setattr(
        resync, "_wait", lambda state, now, came: min(6 * SECOND, wait(state, now, came=came))
    )
    assert "was acknowledged and never came" in found("accel-ppp", seeds=18)


def test_acknowledging_what_lies_behind_an_unseen_message_with_it_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def at_once(state: resync.Resync, expected: int, early: int | None, window: int, now: Instant) -> int:
        state.in_step, state.settle_at = True, None
        return resync.proved_nr(state, expected, early)

    monkeypatch.setattr(resync, "settle", at_once)
    histories = (simulate_peer("accel-ppp", seed) for seed in range(20_000, 20_400))
    assert any("never came" in problem for history in histories for problem in history.problems)


def test_a_probe_with_a_number_that_is_new_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = resync.begin

    def ahead(acked: int, nr: int, *args: Duration) -> resync.Resync:
        return begin(seq.add(acked, 4), nr, *args)

    monkeypatch.setattr(resync, "begin", ahead)
    assert "a number that is ahead was sent" in found("go-l2tp")


def test_answers_that_are_taken_on_trust_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the numbers that are used up, a message that accel-ppp had kept takes the place of a new one."""
    try_out = ControlChannel.try_out

    def hasty(self: ControlChannel, ns: int, filler: bytes, now: int) -> None:
        try_out(self, ns, filler, now)
        self.careful = 0

    monkeypatch.setattr(ControlChannel, "try_out", hasty)
    histories = (simulate_peer("accel-ppp", seed) for seed in range(140, 400))
    assert any("accel-ppp kept" in problem for history in histories for problem in history.problems)


# The models, against what the daemons do.


class Wire:
    """One daemon as LNS with a tunnel to us, in which it expects `expected` and has sent everything up to `ns`."""

    def __init__(self, daemon: str, expected: int = 10, ns: int = 5) -> None:
        self.heard: list[tuple[int, int, int]] = []
        self.peer: Peer = DAEMONS[daemon](Side.LNS, Random(1), b"", self._heard)
        self.tunnel = Tunnel(7)
        self.tunnel.remote = 9
        self.tunnel.up = True
        self.tunnel.renumber(ns, expected)
        self.peer.tunnels[7] = self.tunnel

    def _heard(self, data: bytes) -> None:
        h = read(data)
        self.heard.append((h.kind, h.ns, h.nr))

    def say(self, kind: Kind, ns: int, nr: int = 5, now: int = 0, *avps: bytes) -> list[tuple[int, int, int]]:
        """Send it a message; returns the kind, Ns and Nr of what it answers at once."""
        body = message(kind, *avps) if kind is not Kind.ZLB else b""
        self.heard.clear()
        self.peer.receive(header(7, 0, ns, nr, body), now)
        return list(self.heard)

    def later(self, seconds: float) -> list[tuple[int, int, int]]:
        """What it says up to then."""
        self.heard.clear()
        while (at := self.peer.deadline()) is not None and at <= seconds * SECOND:
            self.peer.timer(at)
        return list(self.heard)


@pytest.mark.parametrize(("expected", "ns", "answers"), [(10, 9, True), (10, 0, True), (3, 65_530, False)])
def test_xl2tpd_compares_numbers_without_wrap(expected: int, ns: int, answers: bool) -> None:
    assert bool(Wire("xl2tpd", expected).say(Kind.HELLO, ns)) is answers


def test_xl2tpd_tears_the_tunnel_down_for_a_message_that_it_does_not_know() -> None:
    wire = Wire("xl2tpd")
    wire.peer.receive(header(7, 0, 10, 5, u16(Attr.MESSAGE_TYPE, 21)), 0)
    assert wire.tunnel.closing
    assert wire.peer.defects


@pytest.mark.parametrize(("daemon", "counts"), [("xl2tpd", False), ("accel-ppp", True), ("l2tpns", False)])
def test_the_nr_of_a_zlb_with_a_wrong_ns(daemon: str, counts: bool) -> None:
    wire = Wire(daemon)
    wire.peer.hello(wire.tunnel, 0)
    assert wire.say(Kind.ZLB, 12, 6) == []
    wire.later(1)
    assert bool(wire.tunnel.sent) is not counts


def test_accel_ppp_keeps_what_is_ahead_and_drops_what_acknowledges_too_much() -> None:
    wire = Wire("accel-ppp")
    assert wire.say(Kind.HELLO, 11) == [(Kind.ZLB, 5, 10)]
    assert wire.say(Kind.HELLO, 10, 6) == []
    assert wire.say(Kind.HELLO, 10) == [(Kind.ZLB, 5, 12)]


def test_accel_ppp_insists_on_the_m_bits() -> None:
    wrong = u16(Attr.RESULT_CODE, 1).replace(b"\x80", b"\0", 1)
    assert Wire("accel-ppp").say(Kind.CDN, 10, 5, 0, wrong) == []


def test_l2tpns_acknowledges_nothing_while_it_waits_itself() -> None:
    wire = Wire("l2tpns")
    assert wire.say(Kind.HELLO, 9) == [(Kind.ZLB, 5, 10)]
    wire.peer.hello(wire.tunnel, 0)
    assert wire.say(Kind.HELLO, 9) == []
    assert wire.later(1) == [(Kind.HELLO, 5, 10)]


def test_go_l2tp_wedges_on_a_number_that_is_ahead() -> None:
    wire = Wire("go-l2tp")
    assert wire.say(Kind.HELLO, 9) == []
    assert wire.later(0.1) == [(Kind.ZLB, 5, 10)]
    wire.say(Kind.HELLO, 11)
    wire.say(Kind.HELLO, 10)
    wire.later(0.2)
    assert wire.tunnel.nr == 10


def test_go_l2tp_dies_of_zeros() -> None:
    wire = Wire("go-l2tp")
    unknown = avp(Attr.RX_SPEED, bytes(8)).replace(b"\0\x26", b"\0\x4c", 1)
    wire.say(Kind.HELLO, 10, 5, 0, unknown)
    assert wire.peer.dead


@pytest.mark.parametrize(
    ("daemon", "gives_up_s", "sends"),
    [("xl2tpd", 31, 5), ("accel-ppp", 47, 6), ("l2tpns", 63, 6), ("go-l2tp", 7, 3)],
)
def test_how_long_each_waits(daemon: str, gives_up_s: int, sends: int) -> None:
    wire = Wire(daemon)
    wire.peer.hello(wire.tunnel, 0)
    assert len(wire.later(gives_up_s - 1)) == sends - 1
    assert not wire.tunnel.ended
    wire.later(gives_up_s)
    assert wire.tunnel.ended


def test_histories_have_what_they_are_for() -> None:
    worlds = [PeerWorld(daemon, seed) for daemon in ALL for seed in range(10)]
    verdicts = [world.run() for world in worlds]
    assert sum(v.crashes for v in verdicts) > 50
    assert sum(v.survivors for v in verdicts) > 50
