"""A node's log read as events while it grows: JSON objects, one per line, with `event` and `monotonic_us`.

What is no JSON object (a traceback, a line cut off by a kill) is kept apart as `noise`; it never stops the reading.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

Event: TypeAlias = dict[str, Any]


class EventLog:
    """Events in the order in which they were written; `refresh` takes in what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._pending = b""
        self.events: list[Event] = []
        self.noise: list[str] = []

    def refresh(self) -> None:
        """Read what was written since the last time."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as f:
            f.seek(self._offset)
            data = f.read()
        self._offset += len(data)
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            if event := _event(line):
                self.events.append(event)
            elif line.strip():
                self.noise.append(line.decode(errors="replace"))

    def since(self, at_ns: int, *names: str) -> Iterator[Event]:
        """The events of these names stamped at or after `at_ns`."""
        at_us = at_ns // 1000
        return (e for e in self.events if e["event"] in names and e["monotonic_us"] >= at_us)

    def first_ns(self, name: str, since_ns: int) -> int | None:
        """When the first event of that name at or after `since_ns` happened, in ns."""
        return next((e["monotonic_us"] * 1000 for e in self.since(since_ns, name)), None)

    def last_ns(self, name: str, since_ns: int) -> int | None:
        """When the last event of that name at or after `since_ns` happened, in ns."""
        return max((e["monotonic_us"] * 1000 for e in self.since(since_ns, name)), default=None)


def _event(line: bytes) -> Event | None:
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, dict) and {"event", "monotonic_us"} <= event.keys() else None
