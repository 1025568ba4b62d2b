"""The journal of one node: an SQLite file in WAL mode, written by a thread of its own.

Invariants: one owner at a time; what was answered with success is there after SIGKILL, and with
`synchronous="full"` after a power cut; the file and its companions are readable by their owner only; no
record is ever thrown away because it cannot be read.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec

from holdfast.core.errors import LocalError
from holdfast.records import SCHEMA
from holdfast.records.writes import Write
from holdfast.state.database import Synchronous, connect, connections_without_writing, create_private
from holdfast.state.errors import (
    Fault,
    JournalDamaged,
    JournalError,
    JournalLocked,
    JournalNewer,
    journal_error,
)
from holdfast.state.histogram import Histogram
from holdfast.state.lock import OwnerLock
from holdfast.state.reader import Image, read
from holdfast.state.saved import Saved
from holdfast.state.schema import prepare, version
from holdfast.state.writer import USUAL_PACE, Deliver, Done, OnHealth, Pace, Submission, Writer

__all__ = [
    "Deliver",
    "Done",
    "Journal",
    "JournalDamaged",
    "JournalError",
    "JournalLocked",
    "JournalNewer",
    "OnHealth",
    "Pace",
    "Saved",
    "Synchronous",
]


def answer_here(waiting: list[Done], error: JournalError | None) -> None:
    """The plain way of delivery: each `done` is called in the writer's thread."""
    for done in waiting:
        done(error)


def ignore_health(_: JournalError | None) -> None:
    """For owners that do not care."""


class Journal:
    """An open journal. `submit` may be called from any thread, the rest from the thread that opened it."""

    def __init__(self, lock: OwnerLock, writer: Writer, saved: Saved) -> None:
        self._lock: OwnerLock | None = lock
        self._writer = writer
        self._saved: Saved | None = saved

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        synchronous: Synchronous = "full",
        deliver: Deliver = answer_here,
        on_health: OnHealth = ignore_health,
        pace: Pace = USUAL_PACE,
    ) -> "Journal":
        """Become the owner of the journal at `path`, creating it if there is none, and read what it holds.

        A journal that can be read but not written (a full disk) opens too, with a `failure` from the start.
        Raises JournalLocked, JournalNewer, JournalDamaged, or JournalError. After an error nothing is held.
        """
        lock = OwnerLock.take(path)
        try:
            opened = _open(path, synchronous)
        except JournalError:
            lock.release()
            raise
        writer = Writer(
            path,
            opened.connection,
            opened.image.slots,
            failure=opened.failure,
            synchronous=synchronous,
            deliver=deliver,
            on_health=on_health,
            pace=pace,
        )
        writer.start()
        if opened.image.rejected:
            writer.submit(Submission(opened.image.rejected, None))
        return cls(lock, writer, opened.image.saved)

    def load(self) -> Saved:
        """What was recorded when the journal was opened. Once: the journal keeps no copy."""
        saved, self._saved = self._saved, None
        if saved is None:
            raise LocalError("the journal was loaded before")
        return saved

    def submit(self, writes: Sequence[Write], done: Done | None = None) -> None:
        """Queue writes for the next commit, after all that were submitted before; `done` hears how it went.

        Nobody waits for hints, for the endpoint's record, and for what comes without `done`: they ride along in
        the next commit, or make one after a second. When the journal cannot write, `done` gets the error at once
        and records are not written; deletions and hints are kept, and written when it can.
        """
        self._writer.submit(Submission(writes, done))

    @property
    def failure(self) -> JournalError | None:
        """Why the journal cannot write at present; None while it can."""
        return self._writer.failure

    @property
    def latency(self) -> Histogram:
        """Durations of all commits that succeeded."""
        return self._writer.latency

    @property
    def rows_written(self) -> int:
        """Rows put or deleted by all commits."""
        return self._writer.rows_written

    def close(self) -> None:
        """Commit what waits and give up ownership. A second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            self._writer.close()
            lock.release()


class Opened(msgspec.Struct, frozen=True):
    """What came of opening: a connection to write with, or the `failure` that leaves only reading for now."""

    image: Image
    connection: sqlite3.Connection | None = None
    failure: JournalError | None = None


_PASSING: Final = frozenset({Fault.FULL, Fault.IO, Fault.READ_ONLY})
"""Faults that keep a journal from being written though it can perhaps be read."""


def _open(path: Path, synchronous: Synchronous) -> Opened:
    try:
        return _open_to_write(path, synchronous)
    except JournalError as error:
        image = _read_without_writing(path) if error.fault in _PASSING else None
        if image is None:
            raise
        return Opened(image, failure=error)


def _open_to_write(path: Path, synchronous: Synchronous) -> Opened:
    create_private(path)
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path, synchronous)
        prepare(connection, path)
        return Opened(read(connection), connection)
    except (sqlite3.Error, JournalError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise journal_error(path, error) from error
        raise


def _read_without_writing(path: Path) -> Image | None:
    """The content of a journal of the present schema that cannot be written; None if that is not to be had."""
    with suppress(sqlite3.Error):
        for connection in connections_without_writing(path):
            with closing(connection), suppress(sqlite3.Error):
                return read(connection) if version(connection, path) == SCHEMA else None
    return None
