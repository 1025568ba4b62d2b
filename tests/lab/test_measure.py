"""What receivers' logs are worth, from logs made by hand. One session a line: when, in ms, which packet arrived."""

from collections.abc import Sequence
from pathlib import Path

from holdfast.lab.measure import Direction, Moments, data_back, gaps, measure, sessions_after, sessions_before
from holdfast.lab.stream import Schedule
from holdfast.lab.traffic import ARRIVAL

MS = 1_000_000
SCHEDULE = Schedule(start_ns=1_000 * MS, pps=200, sessions=2)
"""One packet every 5 ms: session 0 gets the even ones, session 1 the odd ones."""
MOMENTS = Moments(killed_ns=1_500 * MS, dead_ns=1_505 * MS, started_ns=1_506 * MS, stop_ns=2_000 * MS)


def direction(tmp_path: Path, arrivals: Sequence[tuple[int, int]], cut: int = 0) -> Direction:
    log = tmp_path / "log"
    data = b"".join(ARRIVAL.pack(at * MS, k) for at, k in arrivals)
    log.write_bytes(data[: len(data) - cut])
    return measure(SCHEDULE, log, MOMENTS)


def on_time(first: int, last: int) -> list[tuple[int, int]]:
    return [(1_000 + 5 * k, k) for k in range(first, last)]


def test_schedule_counts_what_was_due() -> None:
    assert SCHEDULE.due_by(1_000 * MS) == 0
    assert SCHEDULE.due_by(1_000 * MS + 1) == 1
    assert SCHEDULE.due_by(2_000 * MS) == 200
    assert SCHEDULE.due_by(0) == 0
    assert all(SCHEDULE.due_by(SCHEDULE.due_at(k)) == k for k in range(10))


def test_every_packet_arrived(tmp_path: Path) -> None:
    d = direction(tmp_path, on_time(0, 200))
    assert (d.sent, d.received, d.lost, d.lost_while_down) == (200, 200, 0, 0)
    assert sessions_before(d, d) == {0, 1} == sessions_after(frozenset({0, 1}), d, d)
    assert gaps(frozenset({0, 1}), d, d) == (10 * MS, 10 * MS)


def test_loss_while_the_node_is_away_is_told_from_other_loss(tmp_path: Path) -> None:
    d = direction(tmp_path, [*on_time(0, 50), *on_time(52, 100), *on_time(140, 200)])
    assert (d.lost, d.lost_while_down) == (42, 40)
    assert data_back(frozenset({0, 1}), d, d, MOMENTS.started_ns) == (194 * MS, 199 * MS)
    assert gaps(frozenset({0, 1}), d, d) == (210 * MS, 210 * MS)


def test_a_packet_that_the_dead_process_had_passed_on_is_not_data_back(tmp_path: Path) -> None:
    d = direction(tmp_path, [*on_time(0, 98), (1_507, 98), (1_508, 99)])
    assert sessions_after(frozenset({0, 1}), d, d) == frozenset()
    assert data_back(frozenset({0, 1}), d, d, MOMENTS.started_ns) == (None, None)


def test_a_session_that_never_came_back_has_a_gap_to_the_end(tmp_path: Path) -> None:
    only_even = [(at, k) for at, k in on_time(100, 200) if k % 2 == 0]
    d = direction(tmp_path, [*on_time(0, 100), *only_even])
    assert sessions_after(frozenset({0, 1}), d, d) == {0}
    first, everything = data_back(frozenset({0, 1}), d, d, MOMENTS.started_ns)
    assert first is not None and everything is None
    assert gaps(frozenset({0, 1}), d, d)[1] == 2_000 * MS - 1_495 * MS


def test_duplicates_strangers_and_a_torn_entry_count_for_nothing(tmp_path: Path) -> None:
    d = direction(tmp_path, [*on_time(0, 10), (1_100, 3), (1_101, 4_000_000_000), (1_102, 10)], cut=3)
    assert d.received == 10


def test_a_session_without_data_in_the_last_second_is_not_live_before(tmp_path: Path) -> None:
    late = measure(
        SCHEDULE,
        _written(tmp_path, [(1_000, 0), (1_700, 1)]),
        Moments(killed_ns=2_050 * MS, dead_ns=2_051 * MS, started_ns=2_052 * MS, stop_ns=3_000 * MS),
    )
    assert late.live_before == {1}


def _written(tmp_path: Path, arrivals: Sequence[tuple[int, int]]) -> Path:
    log = tmp_path / "log"
    log.write_bytes(b"".join(ARRIVAL.pack(at * MS, k) for at, k in arrivals))
    return log
