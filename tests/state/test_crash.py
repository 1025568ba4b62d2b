"""kill -9 at any moment: what was answered is there."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from holdfast.state.journal import Journal
from state import writing_child
from state.samples import session, tunnel


def killed_after(lines: int, path: Path) -> list[str]:
    """What a writing child had been answered when it was killed, at least `lines` lines."""
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-m", "state.writing_child", str(path)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as child:
        assert child.stdout is not None
        heard = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        heard += child.stdout.readlines()
    return [line.strip() for line in heard if line.endswith("\n")]


@pytest.mark.parametrize("seed", range(6))
def test_everything_answered_is_there_after_kill_9(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    heard = killed_after(Random(seed).randrange(1, 3000), path)
    journal = Journal.open(path)
    saved = journal.load()
    journal.close()
    there = {record.local_id: record for record in saved.sessions}
    removed = {int(line[1:]) for line in heard if line[0] == "-"}
    written = {int(line[1:]) for line in heard if line[0] == "+"} - {0}
    assert saved.tunnels == [tunnel(writing_child.TUNNEL)]
    assert saved.quarantined == []
    assert not removed & there.keys()
    for n in written - removed:
        if n % 3:  # the others may have been removed without an answer yet
            assert there[n] == session(writing_child.TUNNEL, n)


def test_two_kills_in_a_row(tmp_path: Path) -> None:
    """A journal that was never closed is opened, killed and opened again."""
    path = tmp_path / "journal.db"
    killed_after(50, path)
    killed_after(700, path)
    journal = Journal.open(path)
    saved = journal.load()
    journal.close()
    ids = [record.local_id for record in saved.sessions]
    assert len(ids) == len(set(ids)) > 300
    assert saved.quarantined == []
