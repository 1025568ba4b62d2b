"""The thread that owns the journal's connection: everything that waits goes into one commit.

Invariants: writes are committed in the order of submission; an answer is given once, after the commit that
it is about; nothing here ever raises into the caller's thread. After a failed commit the writer is
unwritable: it answers everything at once with the error, keeps the deletions (they are still owed), and
probes the file until a commit succeeds again.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

import msgspec

from holdfast.records.writes import never_waited_for
from holdfast.state.copier import Copier
from holdfast.state.database import Synchronous, connect, identity, with_companions
from holdfast.state.errors import Fault, JournalDamaged, JournalError, journal_error
from holdfast.state.group import Changes, Group, Item
from holdfast.state.histogram import Histogram
from holdfast.state.schema import transaction
from holdfast.state.slots import Slots

Done: TypeAlias = Callable[[JournalError | None], None]
"""Called once with None when the writes are durable, with the error when they were not written."""

Deliver: TypeAlias = Callable[[list[Done], JournalError | None], None]
"""Called in the writer's thread, once per commit: the waiting ones and their common answer."""

OnHealth: TypeAlias = Callable[[JournalError | None], None]
"""Called in the writer's thread: with the error when writing began to fail, with None when it works again."""


class Pace(msgspec.Struct, frozen=True):
    """How long the writer takes its time, in seconds.

    `gather_s`: least time between two commits; an idle journal commits at once, a busy one pays for fewer
    commits (about 0.2 ms of processor time each). `lazy_s`: how long writes that nobody waits for may stay
    in memory. `probe_s`: how often an unwritable file is tried.
    """

    gather_s: float = 0.008
    lazy_s: float = 1.0
    probe_s: float = 1.0


USUAL_PACE: Final = Pace()


class Submission(msgspec.Struct, frozen=True, gc=False):
    """Writes that belong together, and who waits for them."""

    items: Sequence[Item]
    done: Done | None

    @property
    def is_lazy(self) -> bool:
        """Whether a later commit will do."""
        if self.done is None:
            return True
        return bool(self.items) and all(never_waited_for(item) for item in self.items)


CHECKPOINT_ROWS: Final = 4000
CHECKPOINT_COMMITS: Final = 500
"""After either, the log is copied into the file."""

LONGEST_LOG: Final = 64 << 20
"""A log of more octets is copied by the writer itself, whoever waits: a restart has to read it."""

PROBE_FILLER: Final = 256 * 1024
"""Octets that must fit before a full disk counts as cleared: with less, it would fail again at once."""


class Writer:
    """The thread, its queue and its health. `latency` holds the duration of every commit."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection | None,
        slots: Slots,
        *,
        failure: JournalError | None = None,
        synchronous: Synchronous,
        deliver: Deliver,
        on_health: OnHealth,
        pace: Pace,
    ) -> None:
        self.latency = Histogram()
        self.rows_written = 0
        self.failure = failure
        self._path = path
        self._identity = identity(path)
        self._connection = connection
        self._slots = slots
        self._synchronous = synchronous
        self._deliver = deliver
        self._on_health = on_health
        self._pace = pace
        self._queue: SimpleQueue[Submission | None] = SimpleQueue()
        self._batch: list[Submission] = []
        self._lazy_until: float | None = None
        self._urgent = False
        self._closing = False
        self._last_start = 0.0
        self._probe_at = 0.0
        self._owed = Group()
        self._uncopied_rows = 0
        self._uncopied_commits = 0
        self._copier = Copier(path, synchronous)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._copier.start()
        self._thread.start()

    def submit(self, submission: Submission) -> None:
        """Queue writes; from any thread, never blocks."""
        self._queue.put(submission)

    def close(self) -> None:
        """Write what waits, then end the thread and the connection."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        if self.failure is not None:
            self._report(self.failure)
        while not self._closing:
            self._wait()
            if self.failure is not None:
                self._refuse()
            elif self._urgent or self._closing or self._is_lazy_due():
                self._commit_batch()
                self._copy_log()
        self._copier.close()
        self._disconnect()

    def _wait(self) -> None:
        """Until there is something to do; then take all that has come."""
        try:
            self._take(self._queue.get(timeout=self._patience()))
        except Empty:
            return
        if not self._closing and self.failure is None:
            left = self._last_start + self._pace.gather_s - time.monotonic()
            if left > 0:
                time.sleep(left)
        for _ in range(self._queue.qsize()):
            self._take(self._queue.get())

    def _take(self, submission: Submission | None) -> None:
        if submission is None:
            self._closing = True
            return
        self._batch.append(submission)
        if not submission.is_lazy:
            self._urgent = True
        elif self._lazy_until is None:
            self._lazy_until = time.monotonic() + self._pace.lazy_s

    def _patience(self) -> float | None:
        if self.failure is not None:
            return max(0.0, self._probe_at - time.monotonic())
        if self._lazy_until is not None:
            return max(0.0, self._lazy_until - time.monotonic())
        return None

    def _is_lazy_due(self) -> bool:
        return self._lazy_until is not None and time.monotonic() >= self._lazy_until

    def _commit_batch(self) -> None:
        batch, self._batch = self._batch, []
        self._urgent, self._lazy_until = False, None
        if batch or self._owed:
            self._commit(batch)

    def _commit(self, batch: list[Submission]) -> None:
        self._last_start = started = time.monotonic()
        group = self._owed.copy()
        for submission in batch:
            group.add(submission.items)
        try:
            changes = Changes(group, self._slots)
        except (TypeError, ValueError, OverflowError) as error:
            self._isolate(batch, error)
            return
        try:
            self._write(changes)
        except sqlite3.Error as error:
            self._fail(batch, journal_error(self._path, error))
            return
        except JournalError as error:
            self._fail(batch, error)
            return
        self._owed = Group()
        self.latency.observe(int((time.monotonic() - started) * 1e6))
        self._answer(batch, None)

    def _write(self, changes: Changes) -> None:
        """Commit the changes. Raises sqlite3.Error, and JournalError if the file is not where it was."""
        connection, statements = self._connection, changes.statements
        if connection is None or identity(self._path) != self._identity:
            raise JournalError(self._path, Fault.MOVED)
        if len(statements) == 1:  # is a transaction of its own
            connection.execute(*statements[0])
        elif statements:
            with transaction(connection):
                for sql, values in statements:
                    connection.execute(sql, values)
        changes.apply(self._slots)
        self.rows_written += changes.rows
        self._uncopied_rows += changes.rows
        self._uncopied_commits += 1

    def _isolate(self, batch: list[Submission], error: Exception) -> None:
        """A record that cannot be encoded is a bug of whoever made it: only its own submission fails."""
        if len(batch) == 1:
            self._answer(batch, JournalError(self._path, Fault.OTHER, f"a record cannot be written: {error}"))
            return
        for position, submission in enumerate(batch):
            if self.failure is None:
                self._commit([submission])
            else:
                self._batch = batch[position:]
                self._refuse()
                return

    def _fail(self, batch: list[Submission], error: JournalError) -> None:
        self.failure = error
        self._probe_at = time.monotonic() + self._pace.probe_s
        self._report(error)
        self._turn_away(batch, error)

    def _refuse(self) -> None:
        """While unwritable: answer what came, and see whether it is time to try again."""
        batch, self._batch = self._batch, []
        self._urgent, self._lazy_until = False, None
        if self.failure is not None and batch:
            self._turn_away(batch, self.failure)
        if self._closing or time.monotonic() >= self._probe_at:
            self._probe()

    def _turn_away(self, batch: list[Submission], error: JournalError) -> None:
        for submission in batch:
            self._owed.owe(submission.items)
        self._answer(batch, error)

    def _probe(self) -> None:
        """Try, on a fresh connection, a write that needs room, then everything that is owed."""
        try:
            self._reopen()
            self._write(Changes(self._owed, self._slots))
        except sqlite3.Error as error:
            self._still_failing(journal_error(self._path, error))
        except JournalError as error:
            self._still_failing(error)
        else:
            self._owed = Group()
            self.failure = None
            self._report(None)

    def _still_failing(self, error: JournalError) -> None:
        self._probe_at = time.monotonic() + self._pace.probe_s
        if self.failure is None or error.fault is not self.failure.fault:
            self._report(error)
        self.failure = error

    def _reopen(self) -> None:
        if identity(self._path) != self._identity:
            raise JournalError(self._path, Fault.MOVED)
        self._disconnect()
        self._connection = connection = connect(self._path, self._synchronous)
        if self.failure is not None and self.failure.fault is Fault.DAMAGED:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise JournalDamaged(self._path, verdict)
        connection.execute(
            "INSERT OR REPLACE INTO probe (id, filler) VALUES (1, zeroblob(?))", (PROBE_FILLER,)
        )
        connection.execute("DELETE FROM probe")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with closing(connection), suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _answer(self, batch: list[Submission], error: JournalError | None) -> None:
        waiting = [submission.done for submission in batch if submission.done is not None]
        if waiting:
            with suppress(RuntimeError):  # an event loop that is closed: nobody listens any more
                self._deliver(waiting, error)

    def _report(self, error: JournalError | None) -> None:
        with suppress(RuntimeError):
            self._on_health(error)

    def _copy_log(self) -> None:
        """Keep the log short. If this fails nothing is lost, and the next commit tells."""
        if self._uncopied_rows >= CHECKPOINT_ROWS or self._uncopied_commits >= CHECKPOINT_COMMITS:
            self._uncopied_rows = self._uncopied_commits = 0
            _, log, _ = with_companions(self._path)
            with suppress(OSError, sqlite3.Error):
                if self._connection is not None and log.stat().st_size > LONGEST_LOG:
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._copier.wake()
