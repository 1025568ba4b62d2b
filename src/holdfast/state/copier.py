"""Copies the write-ahead log into the journal's file beside the writer, so that no commit waits for it.

A copy ends with syncing the whole file, which takes hundreds of milliseconds on a slow disk. SQLite lets another
connection do it while commits go on at the end of the log. Invariant: a copy that fails loses nothing; the log grows
until one succeeds.
"""

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

from holdfast.state.database import Synchronous, connect


class Copier:
    """A thread that copies whenever it is woken; being woken twice meanwhile is one copy."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self._path = path
        self._synchronous = synchronous
        self._woken = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal-copy", daemon=True)

    def start(self) -> None:
        """Be ready to copy."""
        self._thread.start()

    def wake(self) -> None:
        """The log has grown; from any thread, never blocks."""
        self._woken.set()

    def close(self) -> None:
        """End after the copy in progress, if there is one."""
        self._closing = True
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            if self._closing:
                return
            with suppress(sqlite3.Error), closing(connect(self._path, self._synchronous)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
