"""What many histories of the simulator are asked for: each ends well, and the one that does not can be run again."""

from collections.abc import Iterable

from holdfast.lab.sim.world import Verdict


def all_end_well(verdicts: Iterable[Verdict], options: str) -> None:
    """Check histories that were drawn from seeds; `options` are those of the command that runs them."""
    bad = [v for v in verdicts if v.problems]
    assert not bad, f"python -m holdfast.lab.sim {options} --start {bad[0].seed} --seeds 1: {bad[0].problems}"


def walk_ends_well(runs: Iterable[tuple[str, Verdict]], at_least: int) -> list[Verdict]:
    """Check crashes at every boundary, of which there must be so many; returns the verdicts."""
    verdicts = []
    for place, verdict in runs:
        assert not verdict.problems, f"{place}: {verdict.problems}"
        verdicts.append(verdict)
    assert len(verdicts) > at_least
    return verdicts
