"""A log that grows, is cut off, and has what is no event in it."""

from pathlib import Path

from holdfast.lab.events import EventLog


def test_events_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = EventLog(path)
    log.refresh()
    assert log.events == []
    with open(path, "a") as f:
        f.write('{"event":"node.started","monotonic_us":5}\n{"event":"session.up","mono')
        f.flush()
        log.refresh()
        assert [e["event"] for e in log.events] == ["node.started"]
        f.write('tonic_us":8,"tid":1}\n')
    log.refresh()
    assert [e["event"] for e in log.since(6_000, "session.up", "session.down")] == ["session.up"]
    assert log.first_ns("session.up", 0) == log.last_ns("session.up", 0) == 8_000
    assert log.first_ns("node.started", 6_000) is None


def test_what_is_no_event_is_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        'Traceback (most recent call last):\n[1]\n{"event":"x"}\n\n{"event":"y","monotonic_us":1}\n'
    )
    log = EventLog(path)
    log.refresh()
    assert [e["event"] for e in log.events] == ["y"]
    assert len(log.noise) == 3
