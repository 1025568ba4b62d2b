"""Files of other versions: an older one is migrated, a newer one refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from holdfast.records import SCHEMA, EndpointRecord
from holdfast.records.writes import Alive, Save
from holdfast.state.errors import JournalError
from holdfast.state.inspect import show, verify
from holdfast.state.journal import Journal, JournalNewer
from holdfast.state.saved import Kind
from holdfast.state.schema import MIGRATIONS, migrate, version
from state.samples import peer, session, tunnel

STORED = Path(__file__).parent / "data"


def stored(schema: int, path: Path) -> Path:
    """A journal as the version with that schema left it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((STORED / f"journal-schema-{schema}.sql").read_text())
    return path


def run(connection: sqlite3.Connection, sql: str) -> None:
    connection.execute(sql)


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_a_file_of_every_version_so_far_loads(schema: int, tmp_path: Path) -> None:
    journal = Journal.open(stored(schema, tmp_path / "journal.db"))
    saved = journal.load()
    journal.close()
    assert saved.tunnels == [tunnel(7, acked=40, nr=50), tunnel(8)]
    assert saved.sessions == [session(7, 1), session(7, 2), session(8, 0xFFFF)]
    assert saved.endpoint == EndpointRecord(
        name="lns1", boot_epoch=3, recent_tunnel_ids=(5, 6), recent_session_ids={"7": (9,)}
    )
    assert [(q.kind, q.tunnel_id, q.session_id) for q in saved.quarantined] == [(Kind.SESSION, 8, 3)]
    assert saved.peers == ([peer()] if schema >= 2 else [])
    assert saved.alive_utc_us == (1_700_000_000_000_000 if schema >= 2 else 0)


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_a_migrated_file_is_written_and_read_like_a_new_one(schema: int, tmp_path: Path) -> None:
    path = stored(schema, tmp_path / "journal.db")
    journal = Journal.open(path)
    journal.submit([Save(peer("lac9")), Save(peer(attempts=9)), Alive(7)])
    journal.close()
    journal = Journal.open(path)
    saved = journal.load()
    journal.close()
    assert sorted(saved.peers, key=lambda p: p.name) == [peer(attempts=9), peer("lac9")]
    assert saved.alive_utc_us == 7
    assert show(path).schema == SCHEMA and verify(path)[0].what == "session 8/3"


def test_an_older_file_is_shown_as_it_will_be_and_left_as_it_is(tmp_path: Path) -> None:
    path = stored(1, tmp_path / "journal.db")
    before = path.read_bytes()
    view = show(path)
    assert (view.schema, len(view.saved.sessions), view.saved.peers) == (1, 3, [])
    assert path.read_bytes() == before


def test_every_older_schema_has_a_migration() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))


def test_a_newer_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = stored(SCHEMA, tmp_path / "journal.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(JournalNewer) as newer:
        Journal.open(path)
    assert (newer.value.found, newer.value.known) == (SCHEMA + 1, SCHEMA)
    assert "run the version that wrote it" in str(newer.value)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (3,)


def test_steps_run_in_order_and_leave_the_new_number(tmp_path: Path) -> None:
    path = stored(1, tmp_path / "journal.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(
            connection,
            path,
            1,
            3,
            {
                1: lambda c: run(c, "ALTER TABLE session ADD COLUMN node INTEGER DEFAULT 1"),
                2: lambda c: run(c, "UPDATE session SET node = node + 1"),
            },
        )
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        assert connection.execute("SELECT DISTINCT node FROM session").fetchall() == [(2,)]


def test_a_migration_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = stored(1, tmp_path / "journal.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(JournalError):
            migrate(connection, path, 1, 3, {1: lambda c: run(c, "DROP TABLE session")})
        assert version(connection, path) == 1
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (3,)
