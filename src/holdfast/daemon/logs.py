"""Log events as lines: the event's name first, then key=value, or one JSON object.

    session.up peer=192.0.2.1 tunnel=17 peer_tunnel=904 session=3 user="Zoe Q."

Invariants: one event is one line, whatever a peer put into its names (what cannot be printed is escaped); keys that
may hold a secret, and raw octets, are never shown; a level that is off costs one comparison; a log that cannot be
written is counted, and never stops the node. Under journald the line carries its priority and leaves the time to it.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from typing import Final, Literal

import msgspec

from holdfast.daemon.effects import DEBUG, ERROR, INFO, WARNING, Log

LEVELS: Final[Mapping[str, int]] = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
"""Levels by the name that configuration and log lines use."""

KEYS: Final = ("peer", "tunnel", "peer_tunnel", "session", "subscriber", "user", "address")
"""Keys that identify things: always these names, first in a line, and in this order."""

HIDDEN_KEYS: Final = frozenset(
    {"secret", "password", "challenge", "response", "challenge_response", "hidden", "credentials"}
)
"""Keys whose values are never written."""

LONGEST: Final = 1024
"""Characters of a value; a peer's name is not worth more. A traceback is."""

LONGEST_TRACEBACK: Final = 16 * 1024

_NAMES: Final = {level: name for name, level in LEVELS.items()}
_PRIORITIES: Final = {DEBUG: 7, INFO: 6, WARNING: 4, ERROR: 3}
"""Of syslog(3), as sd-daemon(3) reads them."""

_is_bare = re.compile(r"[A-Za-z0-9_.,:;/@+*()<>!?#%&'\[\]{}|~^$-]+").fullmatch


class EventLog:
    """Writes events of `level` and above. Call it with a `Log` effect; `lost` counts lines that could not be written."""

    __slots__ = ("_as_line", "_journald", "_utc_us", "_write", "level", "lost")

    def __init__(
        self,
        write: Callable[[bytes], object],
        utc_us: Callable[[], int],
        *,
        form: Literal["text", "json"] = "text",
        level: str = "info",
        journald: bool = False,
    ) -> None:
        """`write` takes a whole line and may raise OSError; `utc_us` tells the time in microseconds."""
        self.level = LEVELS[level]
        self.lost = 0
        self._write = write
        self._utc_us = utc_us
        self._journald = journald
        self._as_line = json_line if form == "json" else text_line

    def __call__(self, log: Log) -> None:
        if log.level >= self.level:
            self._put(log.event, log.fields, log.level)

    def event(self, event: str, level: int = INFO, /, **fields: object) -> None:
        """Write an event of the daemon's own."""
        if level >= self.level:
            self._put(event, fields, level)

    def _put(self, event: str, fields: Mapping[str, object], level: int) -> None:
        stamp = "" if self._journald else _stamp(self._utc_us())
        line = self._as_line(event, fields, _NAMES.get(level, "info"), stamp)
        if self._journald:
            line = f"<{_PRIORITIES.get(level, 6)}>{line}"
        try:
            self._write(line.encode() + b"\n")
        except OSError:
            self.lost += 1


class Lines:
    """Lines on their way to file descriptor `fd`: those of one turn of the event loop leave with one write(2).

    `soon` calls a function at the end of the turn; None writes at once.
    """

    __slots__ = ("_fd", "_soon", "_waiting")

    def __init__(self, fd: int, soon: Callable[[Callable[[], None]], object] | None) -> None:
        self._fd = fd
        self._soon = soon
        self._waiting: list[bytes] = []

    def __call__(self, line: bytes) -> None:
        if self._soon is None:
            os.write(self._fd, line)
            return
        if not self._waiting:
            self._soon(self.flush)
        self._waiting.append(line)

    def flush(self) -> None:
        """Write what waits. What cannot be written is lost: a log never stops the node."""
        lines, self._waiting = self._waiting, []
        with suppress(OSError):
            os.write(self._fd, b"".join(lines))


def log_to(
    write: Lines, environment: Mapping[str, str], *, form: Literal["text", "json"], level: str, fd: int = 2
) -> EventLog:
    """The log of a running node, whose lines end on file descriptor `fd`."""

    def utc_us() -> int:
        return time.time_ns() // 1000

    return EventLog(write, utc_us, form=form, level=level, journald=is_journald(environment, fd))


def is_journald(environment: Mapping[str, str], fd: int) -> bool:
    """Whether `fd` leads to journald (JOURNAL_STREAM of systemd.exec(5))."""
    try:
        target = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{target.st_dev}:{target.st_ino}"


def text_line(event: str, fields: Mapping[str, object], level: str, stamp: str) -> str:
    """An event for people and grep. Level `info` goes without saying."""
    parts = [stamp] if stamp else []
    parts.append(event)
    if level != "info":
        parts.append(f"level={level}")
    parts += [f"{key}={_as_text(key, fields[key])}" for key in _in_order(fields)]
    return " ".join(parts)


def json_line(event: str, fields: Mapping[str, object], level: str, stamp: str) -> str:
    """An event for machines: `event`, `level`, `time` if there is one, then the fields."""
    line: dict[str, object] = {"event": event, "level": level}
    if stamp:
        line["time"] = stamp
    for key in _in_order(fields):
        line.setdefault(key, _plain(key, fields[key]))
    return _printable(msgspec.json.encode(line).decode())


def _in_order(fields: Mapping[str, object]) -> tuple[str, ...]:
    return _order(tuple(fields))


@lru_cache(maxsize=256)
def _order(keys: tuple[str, ...]) -> tuple[str, ...]:
    """What identifies comes first. Events are few, so are the sets of keys."""
    return (*(key for key in KEYS if key in keys), *(key for key in keys if key not in KEYS))


def _as_text(key: str, value: object) -> str:
    if type(value) is int and key not in HIDDEN_KEYS:
        return str(value)
    plain = _plain(key, value)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if plain is None:
        return "-"
    text = ",".join(map(str, plain)) if isinstance(plain, list) else str(plain)
    return text if _is_bare(text) else _printable(msgspec.json.encode(text).decode())


def _plain(key: str, value: object) -> object:
    """The value as something that JSON has, without secrets."""
    if key in HIDDEN_KEYS:
        return "(hidden)"
    if value is None or type(value) in (int, bool, float):
        return value
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"({len(value)} octets)"
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(key, item) for item in value]
    text = str(value)
    longest = LONGEST_TRACEBACK if key == "traceback" else LONGEST
    if len(text) > longest:
        text = text[:longest] + "…"
    return text if text.isprintable() else text.encode(errors="backslashreplace").decode()


def _printable(text: str) -> str:
    """`text` of JSON with everything escaped that a terminal might obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _stamp(utc_us: int) -> str:
    seconds, micros = divmod(utc_us, 1_000_000)
    return f"{_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=2)
def _second(utc_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(utc_s))
