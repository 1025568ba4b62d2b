"""What commands print: aligned columns for people, JSON for programs."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from holdfast.core.auth import CHAP, PAP

Row: TypeAlias = Mapping[str, Any]
Column: TypeAlias = tuple[str, Callable[[Row], object]]
"""Heading, and how to get the cell from a row."""

LATEST_US = 253_402_300_800_000_000
"""The year 10000."""


def field(name: str) -> Callable[[Row], object]:
    """The cell is a field of the row; an empty one is shown as a dash."""
    return lambda row: row[name]


def moment(name: str) -> Callable[[Row], str]:
    """The cell is a UTC time in microseconds."""
    return lambda row: utc(row[name])


def utc(utc_us: int) -> str:
    """A time for people; a dash for "never". One that no calendar has (a damaged record) is shown as the number it is."""
    if not utc_us:
        return "-"
    if not 0 < utc_us < LATEST_US:
        return f"{utc_us} us"
    return datetime.fromtimestamp(utc_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def print_table(columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Aligned columns with a heading; columns of numbers are aligned to the right."""
    cells = [[cell(row) for _, cell in columns] for row in rows]
    texts = [[heading for heading, _ in columns], *([_text(c) for c in line] for line in cells)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    right = [
        bool(cells) and all(isinstance(line[i], int | None) for line in cells) for i in range(len(columns))
    ]
    for line in texts:
        padded = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        )
        print("  ".join(padded).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """One `name  value` per line, nested mappings indented by their name."""
    flat = list(_flat("", fields))
    width = max((len(name) for name, _ in flat), default=0)
    for name, value in flat:
        print(f"{name.ljust(width)}  {_text(value)}")


def print_lines(lines: Iterable[str]) -> None:
    """Sentences, one a line."""
    for line in lines:
        print(_text(line))


def print_json_rows(rows: Iterable[Row]) -> None:
    """A JSON array, one row per line, printed as the rows come."""
    separator = "["
    for row in rows:
        sys.stdout.write(f"{separator}\n{msgspec.json.encode(row).decode()}")
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def print_json(value: object) -> None:
    """One JSON value, indented."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


_METHODS = {0: "none", PAP: "pap", CHAP: "chap"}
_WORDS: Mapping[str, Callable[[int], str]] = {
    "auth": lambda method: _METHODS.get(method, f"{method:#06x}"),
    "auth_method": lambda method: _METHODS.get(method, f"{method:#06x}"),
    "magic": lambda magic: f"{magic:08x}",
    "accm": lambda accm: f"{accm:08x}",
}
"""Numbers that people read in another form than JSON has them."""


def _flat(prefix: str, fields: Mapping[str, object]) -> Iterable[tuple[str, object]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif name.endswith("_utc_us") and isinstance(value, int):
            yield prefix + name.removesuffix("_utc_us"), utc(value)
        elif name in _WORDS and isinstance(value, int):
            yield prefix + name, _WORDS[name](value)
        else:
            yield prefix + name, value


def _text(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case str() if not value.isprintable():  # a peer's text must not drive the terminal
            return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
        case list() | tuple():
            return ", ".join(map(_text, value)) or "-"
        case _:
            return str(value)
