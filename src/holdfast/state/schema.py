"""The journal's tables, and how an older file becomes a present one.

Invariants: a file carries this software's application id and the schema number of `records`; creating and
migrating are one transaction each, so a crash leaves the old file or the new one; a newer file is refused,
never guessed at.

Sessions live in rows numbered in the order of writing (`slot`), not by id: a storm of new sessions then
appends to a few pages, where ids, being random, would dirty one page each (five times the processor time
per session).
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from holdfast.records import SCHEMA
from holdfast.state.errors import Fault, JournalDamaged, JournalError, JournalNewer

APPLICATION_ID: Final = 0x68666A6C
"""`hfjl` in the file's header: tells a journal from other SQLite files."""

_LEDGER: Final = (
    "CREATE TABLE peer (name TEXT, host_name TEXT, body BLOB, UNIQUE (name, host_name))",
    "CREATE TABLE alive (id INTEGER PRIMARY KEY, utc_us INTEGER)",
)

LAYOUT: Final = (
    "CREATE TABLE tunnel (tunnel_id INTEGER PRIMARY KEY, acked INTEGER, nr INTEGER, body BLOB)",
    "CREATE TABLE session (slot INTEGER PRIMARY KEY, tunnel_id INTEGER, session_id INTEGER, body BLOB)",
    "CREATE TABLE endpoint (id INTEGER PRIMARY KEY, body BLOB)",
    "CREATE TABLE quarantine (kind TEXT, tunnel_id INTEGER, session_id INTEGER, reason TEXT, body BLOB)",
    "CREATE TABLE probe (id INTEGER PRIMARY KEY, filler BLOB)",
    *_LEDGER,
)

Step: TypeAlias = Callable[[sqlite3.Connection], None]


def _add_ledger(connection: sqlite3.Connection) -> None:
    for statement in _LEDGER:
        connection.execute(statement)


MIGRATIONS: Final[Mapping[int, Step]] = {1: _add_ledger}
"""By schema number: what turns a file of that schema into the next. Runs inside a transaction."""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the open file at `path` one of the present schema: create, migrate, or refuse.

    Raises JournalNewer, JournalDamaged (also for a file that is no journal), and sqlite3.Error.
    """
    found = version(connection, path)
    if found is None:
        _create(connection)
    elif found < SCHEMA:
        migrate(connection, path, found)


def version(connection: sqlite3.Connection, path: Path) -> int | None:
    """The schema of the open file, None for an empty one. Raises JournalNewer and JournalDamaged."""
    if _pragma(connection, "application_id") == APPLICATION_ID:
        found = _pragma(connection, "user_version")
        if found > SCHEMA:
            raise JournalNewer(path, found, SCHEMA)
        return found
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        raise JournalDamaged(path, "an SQLite file of something else")
    return None


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    found: int,
    target: int = SCHEMA,
    steps: Mapping[int, Step] = MIGRATIONS,
) -> None:
    """Bring a file from schema `found` to `target`, all or nothing. Raises JournalError if no way leads on."""
    with transaction(connection):
        for schema in range(found, target):
            step = steps.get(schema)
            if step is None:
                raise JournalError(path, Fault.OTHER, f"no migration from schema {schema}")
            step(connection)
        connection.execute(f"PRAGMA user_version = {target}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end, roll back on any exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back on some errors, such as a full disk
            connection.execute("ROLLBACK")
        raise


def _create(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        for statement in LAYOUT:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
