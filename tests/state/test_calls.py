"""What peers call the sessions that are being set up, beside the journal."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.state.calls import PLACES, SIZE, Calls, CallTable, calls_path

IDS = st.integers(1, 0xFFFF)


def table(directory: Path) -> CallTable:
    opened = CallTable.open(calls_path(directory / "journal.db"))
    assert opened is not None
    return opened


def test_the_next_process_finds_what_was_noted(tmp_path: Path) -> None:
    first = table(tmp_path)
    first.note(1, 2, 3, 4)
    first.note(0xFFFF, 0xFFFF, 0xFFFE, 0xFFFD)
    second = table(tmp_path)  # nothing is closed by SIGKILL
    left = second.left()
    second.note(1, 2, 3, 5)
    assert left.peer_session(1, 2, 3) == 4
    assert left.peer_session(0xFFFF, 0xFFFF, 0xFFFE) == 0xFFFD
    for ids in ((1, 2, 4), (1, 3, 3), (2, 2, 3)):
        assert left.peer_session(*ids) == 0
    first.close()
    second.close()


@given(st.lists(st.tuples(IDS, IDS, IDS, IDS), max_size=50))
def test_what_is_found_is_what_was_noted_last(calls: list[tuple[int, int, int, int]]) -> None:
    file = os.memfd_create("calls")
    os.ftruncate(file, SIZE)
    opened = CallTable(file)
    noted = {}
    for call in calls:
        opened.note(*call)
        noted[call[:3]] = call[3]
    left = opened.left()
    assert all(left.peer_session(*ids) in (0, peer) for ids, peer in noted.items())
    if calls:
        assert left.peer_session(*calls[-1][:3]) == calls[-1][3]
    opened.close()


def test_the_sessions_of_a_tunnel_have_places_of_their_own(tmp_path: Path) -> None:
    opened = table(tmp_path)
    for session in range(PLACES):
        opened.note(7, session, 8, session ^ 0x5555)
    left = opened.left()
    assert all(left.peer_session(7, session, 8) == session ^ 0x5555 for session in range(1, PLACES))
    opened.close()


def test_it_is_private_and_of_constant_size(tmp_path: Path) -> None:
    opened = table(tmp_path)
    opened.note(1, 2, 3, 4)
    found = calls_path(tmp_path / "journal.db").stat()
    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (SIZE, 0o600)
    opened.close()


def test_without_a_table_nothing_is_known(tmp_path: Path) -> None:
    assert Calls().peer_session(1, 2, 3) == 0
    assert CallTable.open(tmp_path / "no" / "such") is None


def test_a_table_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    path = calls_path(tmp_path / "journal.db")
    table(tmp_path).close()
    opened = CallTable(os.open(path, os.O_RDONLY))
    opened.note(1, 2, 3, 4)
    assert opened.failures == 1
    opened.close()


def test_a_table_that_cannot_be_read_is_counted_and_holds_nothing(tmp_path: Path) -> None:
    path = calls_path(tmp_path / "journal.db")
    table(tmp_path).close()
    opened = CallTable(os.open(path, os.O_WRONLY))
    assert opened.left() == Calls()
    assert opened.failures == 1
    opened.close()


@pytest.mark.parametrize("size", [0, 7, SIZE - 1])
def test_a_table_that_was_cut_short_is_read_as_far_as_it_goes(size: int) -> None:
    assert Calls(bytes(size)).peer_session(0xFFFF, 0xFFFF, 1) == 0
