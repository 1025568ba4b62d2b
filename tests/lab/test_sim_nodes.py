"""Whole nodes in the simulator: many histories end well, and a crash at every boundary; planted faults are found."""

from collections.abc import Iterable

import pytest

from holdfast.core.clock import Instant
from holdfast.daemon.dialler import Dialler
from holdfast.daemon.effects import Effect, Persist, Release, Unwant, Want
from holdfast.daemon.links import Links
from holdfast.daemon.node import Node
from holdfast.daemon.runner import Runner
from holdfast.lab.sim.__main__ import main
from holdfast.lab.sim.node_world import NodeWorld, simulate_nodes
from holdfast.lab.sim.sweep import crashes_in_recovery, crashes_in_set_up
from holdfast.lab.sim.world import Verdict
from holdfast.ppp.link import Link
from holdfast.protocol.effects import Cause
from holdfast.records import Side
from holdfast.state.saved import Saved

SEEDS = range(200)
BOTH = (Side.LNS, Side.LAC)


@pytest.mark.parametrize("first", SEEDS[::25])
def test_F_72_after_any_history_nodes_agree_on_sessions_addresses_and_subscribers(first: int) -> None:
    bad = [v for v in map(simulate_nodes, range(first, first + 25)) if v.problems]
    assert not bad, f"python -m holdfast.lab.sim --nodes --start {bad[0].seed} --seeds 1: {bad[0].problems}"


FOUND = {
    3: "a session that ended in the same input as it began",
    9: "a crash while PPP was negotiated anew",
    201: "a HELLO under way at the end of the history",
    64: "an authentication that waited for a server which had restarted",
    329: "a Response to a challenge of before the crash",
    336: "fixed addresses that waited for another session's commit",
    337: "a newer record that could not be written",
    480: "a client that waited for the challenge of a server which had restarted",
}
"""Seeds that ended badly once, and what they met."""


@pytest.mark.parametrize("seed", FOUND, ids=FOUND.get)
def test_what_was_found_once(seed: int) -> None:
    assert not simulate_nodes(seed).problems


FOUND_WITHOUT_RFC_4951 = {
    167: "each side goes back to a number that the other has had since, and takes its answers for late ones",
    225: "the same, in turn, and with the tunnel lost",
    20628: "a HELLO each copy of which fell into another outage",
    20530: "an outage that had left the peer less patience than the wait for its retransmission",
    20964: "an acknowledgement that waited for a deletion whose commit failed",
}


@pytest.mark.parametrize("seed", FOUND_WITHOUT_RFC_4951, ids=FOUND_WITHOUT_RFC_4951.get)
def test_what_was_found_once_without_rfc_4951(seed: int) -> None:
    assert not simulate_nodes(seed, advertise=False).problems


def test_nodes_without_rfc_4951_agree_after_any_history() -> None:
    bad = [v for v in (simulate_nodes(seed, advertise=False) for seed in range(60)) if v.problems]
    assert not bad, (
        f"python -m holdfast.lab.sim --nodes --silent --start {bad[0].seed} --seeds 1: {bad[0].problems}"
    )


def all_well(runs: Iterable[tuple[str, Verdict]], survivors: int) -> int:
    """Check every run of a sweep; returns how many there were."""
    count = 0
    for place, verdict in runs:
        assert not verdict.problems, f"{place}: {verdict.problems}"
        assert verdict.sessions == 2, place
        assert verdict.survivors >= survivors, place
        count += 1
    return count


@pytest.mark.parametrize("victim", BOTH)
def test_a_crash_at_every_boundary_of_a_set_up(victim: Side) -> None:
    assert all_well(crashes_in_set_up(victim), survivors=0) > 30


@pytest.mark.parametrize("victim", BOTH)
def test_a_crash_at_every_boundary_of_a_set_up_without_rfc_4951(victim: Side) -> None:
    assert all_well(crashes_in_set_up(victim, advertise=False), survivors=0) > 30


@pytest.mark.parametrize("failed", BOTH)
@pytest.mark.parametrize("victim", BOTH)
def test_a_crash_at_every_boundary_of_a_silent_recovery(failed: Side, victim: Side) -> None:
    assert all_well(crashes_in_recovery((failed,), (victim,), advertise=False), survivors=2) > 6


@pytest.mark.parametrize("victims", [(Side.LNS,), (Side.LAC,), BOTH])
@pytest.mark.parametrize("failed", [(Side.LNS,), (Side.LAC,), BOTH])
def test_a_crash_at_every_boundary_of_a_recovery(failed: tuple[Side, ...], victims: tuple[Side, ...]) -> None:
    assert all_well(crashes_in_recovery(failed, victims), survivors=2) > 6


def test_the_histories_are_worth_running() -> None:
    worlds = [NodeWorld(seed) for seed in range(40)]
    verdicts = [world.run() for world in worlds]
    events: dict[str, int] = {}
    for world in worlds:
        for host in world.nodes.values():
            for name, count in host.events.items():
                events[name] = events.get(name, 0) + count
    assert sum(v.crashes for v in verdicts) > 80
    assert sum(v.survivors for v in verdicts) > 30
    assert min(events[name] for name in ("ppp.renegotiated", "journal.unwritable", "recovery.reset")) > 3


def test_a_seed_repeats_itself() -> None:
    assert simulate_nodes(5) == simulate_nodes(5)


def test_the_command_runs_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--nodes", "--seeds", "2"]) == 0
    assert "2 histories" in capsys.readouterr().out


def found(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, planted: object) -> bool:
    """Whether a few histories notice that a method was replaced."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, planted)
        return any(simulate_nodes(seed).problems for seed in range(12))


def test_an_address_that_is_not_released_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Runner.run

    def forgetful(self: Runner, effects: Iterable[Effect]) -> None:
        run(self, [e for e in effects if not isinstance(e, Release)])

    assert found(monkeypatch, Runner, "run", forgetful)


def test_an_entry_that_stays_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Runner.run

    def forgetful(self: Runner, effects: Iterable[Effect]) -> None:
        run(self, [e for e in effects if not isinstance(e, Unwant)])

    assert found(monkeypatch, Runner, "run", forgetful)


def test_speaking_before_writing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Runner.run

    def hasty(self: Runner, effects: Iterable[Effect]) -> None:
        run(self, sorted(effects, key=lambda e: isinstance(e, Persist | Want)))

    monkeypatch.setattr(Runner, "run", hasty)
    problems = [text for _, verdict in crashes_in_set_up(Side.LNS) for text in verdict.problems]
    assert any("the LNS never did" in text for text in problems)


def test_a_restored_link_that_speaks_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Node.start

    def loud(self: Node, saved: Saved, now: Instant) -> list[Effect]:
        effects = start(self, saved, now)
        for line in self.lines.values():
            line.link = Link(line.link.config, lambda n: bytes(n))
            line.link.start(now)
        return effects

    assert found(monkeypatch, Node, "start", loud)


def test_a_subscriber_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Dialler.lost

    def forgetful(self: Dialler, key: int, cause: Cause, text: str, now: Instant) -> None:
        lost(self, key, cause, text, now)
        self.stop()

    assert found(monkeypatch, Dialler, "lost", forgetful)


def test_an_internal_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def clumsy(self: Links, *args: object) -> None:
        raise ZeroDivisionError

    assert found(monkeypatch, Links, "want", clumsy)
