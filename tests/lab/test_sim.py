"""The simulator: many histories end well, a seed repeats itself, and planted faults are found."""

from random import Random

import pytest

from holdfast.lab.sim.__main__ import main
from holdfast.lab.sim.machine import EndpointMachine, Machine
from holdfast.lab.sim.world import SECRET, Verdict, World, simulate
from holdfast.protocol.effects import Address, Effect, Persist
from holdfast.records import Side

SEEDS = range(100)


@pytest.mark.parametrize("first", SEEDS[::10])
def test_F_72_after_any_history_both_sides_agree_on_every_session(first: int) -> None:
    bad = [v for v in map(simulate, range(first, first + 10)) if v.problems]
    assert not bad, f"python -m holdfast.lab.sim --start {bad[0].seed} --seeds 1"


def test_a_late_cdn_and_an_id_used_again() -> None:
    """Seed 35: a CDN that waited behind the window met the next session of that id at the restarted LNS."""
    assert not simulate(35).problems


def test_the_histories_are_worth_running() -> None:
    verdicts = [simulate(seed) for seed in range(20)]
    assert sum(v.crashes for v in verdicts) > 20
    assert sum(v.survivors for v in verdicts) > 100
    assert len({v.weather for v in verdicts}) > 10


def test_a_seed_repeats_itself() -> None:
    assert simulate(4) == simulate(4)
    assert simulate(4) != simulate(5)


def test_the_command_says_which_seed_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2", "--start", "7"]) == 0
    assert "2 histories" in capsys.readouterr().out


class Forgetful(EndpointMachine):
    """Records nothing."""

    def recorded(self, effects: list[Effect]) -> list[Effect]:
        return [e for e in effects if not isinstance(e, Persist)]


class Deaf(EndpointMachine):
    """Loses a session without a word whenever it is told to do something."""

    def stir(self, random: Random, now: int) -> list[Effect]:
        for tunnel in self.endpoint.ctx.established():
            if tunnel.sessions:
                tunnel.sessions.popitem()
        return super().stir(random, now)


class Impatient(EndpointMachine):
    """Does not recover what it recorded."""

    def start(self, tunnels: object, sessions: object, calls: object, now: int) -> list[Effect]:
        return []


def verdicts(kind: type[EndpointMachine]) -> list[Verdict]:
    def boot(side: Side, address: Address, peer: Address, random: Random) -> Machine:
        return kind(side, address, peer, SECRET, random)

    return [World(seed, boot).run() for seed in range(6)]


@pytest.mark.parametrize("kind", [Forgetful, Deaf, Impatient])
def test_a_node_with_a_planted_fault_is_found(kind: type[EndpointMachine]) -> None:
    assert any(v.problems for v in verdicts(kind))


def test_a_healthy_node_is_not_accused() -> None:
    assert not any(v.problems for v in verdicts(EndpointMachine))
