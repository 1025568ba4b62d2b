"""What the peers were told outlives the process, and is believed where it can be true."""

import os
from pathlib import Path

import pytest

from holdfast.core import seq
from holdfast.records import TunnelRecord
from holdfast.state.saved import Saved
from holdfast.state.told import MOST_BEHIND, SIZE, Table, told_path
from holdfast.wire.header import control_header
from state.samples import tunnel


def record(local_id: int = 7, peer_id: int = 9, nr: int = 20) -> TunnelRecord:
    return tunnel(local_id, peer_id=peer_id, nr=nr)


def message(nr: int, peer_id: int = 9) -> bytes:
    return control_header(peer_id, 0, 3, nr, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return told_path(tmp_path / "journal.db")


def after(path: Path, said: dict[int, bytes], *records: TunnelRecord) -> list[int]:
    """The numbers of the next process."""
    table = Table.open(path)
    assert table is not None
    table.note(said)
    table.close()
    table = Table.open(path)
    assert table is not None
    numbers = [found.nr for found in table.catch_up(Saved(tunnels=list(records))).tunnels]
    table.close()
    return numbers


def test_a_number_that_was_told_is_newer_than_the_record(path: Path) -> None:
    said = {7: message(23), 0xFFFF: message(65_535, 1), 0: message(5)}
    assert after(path, said, record(), record(0xFFFF, 1, 65_530), record(8)) == [23, 65_535, 20]
    assert path.stat().st_size == SIZE
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("told", [20, 19, 20 + MOST_BEHIND + 1, 40_000])
def test_a_number_that_is_no_newer_or_too_far_ahead_is_not_believed(path: Path, told: int) -> None:
    assert after(path, {7: message(told)}, record()) == [20]


def test_a_number_of_another_tunnel_with_our_id_is_not_believed(path: Path) -> None:
    assert after(path, {7: message(23, peer_id=10)}, record()) == [20]


def test_the_last_sign_of_life_is_the_later_one(path: Path) -> None:
    table = Table.open(path)
    assert table is not None
    assert table.catch_up(Saved(alive_utc_us=3)).alive_utc_us == 3
    table.note({7: message(23)})
    table.alive(1_700_000_000_900_000)
    assert table.catch_up(Saved()).alive_utc_us == 1_700_000_000_000_000
    assert table.catch_up(Saved(alive_utc_us=1_700_000_002_000_000)).alive_utc_us == 1_700_000_002_000_000
    assert [t.nr for t in table.catch_up(Saved(tunnels=[record()])).tunnels] == [23]
    table.close()


def test_numbers_wrap(path: Path) -> None:
    assert after(path, {7: message(2)}, record(nr=65_534)) == [2]
    assert seq.distance(65_534, 2) == 4


def test_without_a_table_the_records_hold(path: Path) -> None:
    assert Table.open(path / "nowhere") is None
    path.mkdir()
    assert Table.open(path) is None


def test_a_table_that_cannot_be_written_costs_a_counter(path: Path) -> None:
    assert after(path, {7: message(21)}) == []
    table = Table(os.open(path, os.O_RDONLY))
    table.note({7: message(23)})
    assert table.failures == 1
    assert [found.nr for found in table.catch_up(Saved(tunnels=[record()])).tunnels] == [21]
    table.close()


def test_a_table_that_cannot_be_read_costs_a_counter(path: Path) -> None:
    assert after(path, {7: message(21)}) == []
    table = Table(os.open(path, os.O_WRONLY))
    assert [found.nr for found in table.catch_up(Saved(tunnels=[record()])).tunnels] == [20]
    assert table.failures == 1
    table.close()


def test_a_table_that_is_cut_short_is_filled_up(path: Path) -> None:
    path.write_bytes(b"\0\0")
    assert after(path, {7: message(23)}, record()) == [23]
