"""Requirements and the tests that are named after them; `python tests/conformance.py` writes docs/conformance.md.

A test's name begins with its ids: `test_F_60_…`, `test_T_2_and_F_63_…`, `test_F_80_to_F_90_…`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "conformance.md"
REQUIREMENTS = TESTS / "data" / "requirements.txt"

_ID = r"(?:F_S?|T_|V2_)\d+[a-e]?(?![a-z])"
_NAMES = re.compile(rf"test_({_ID}(?:_(?:and|to)_{_ID})*)_")

HEAD = """# Conformance

Every requirement of the L2TPv2 control protocol (V2-, RFC 2661) and of its failover extension (F-, T-, RFC 4951)
that this project has taken on, and the tests that are named after it. Made by `python tests/conformance.py` from
`tests/data/requirements.txt` and the names of the tests; `tests/test_conformance_doc.py` keeps it true.
"""


class Requirement(NamedTuple):
    """One row: its id, a few words, and the reason if it has no test."""

    id: str
    words: str
    exception: str = ""


def requirements() -> list[Requirement]:
    """The list, in its order."""
    lines = REQUIREMENTS.read_text().splitlines()
    return [
        Requirement(*map(str.strip, line.split("|"))) for line in lines if line and not line.startswith("#")
    ]


def ids_of(name: str) -> list[str]:
    """The requirement ids that a test's name begins with."""
    match = _NAMES.match(name)
    if match is None:
        return []
    found = [word.replace("_", "-") for word in re.split(r"_(?:and|to)_", match[1])]
    if "_to_" in match[1]:
        first, last = (int(i.split("-")[1]) for i in found)
        found = [f"{found[0].split('-')[0]}-{n}" for n in range(first, last + 1)]
    return found


def tests() -> Iterator[tuple[str, str]]:
    """Every test function: its file, relative to the tests, and its name."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield str(path.relative_to(TESTS)), node.name


def by_requirement() -> dict[str, list[str]]:
    """The tests of every id, as `file::name`."""
    found: dict[str, list[str]] = {}
    for path, name in tests():
        for i in ids_of(name):
            found.setdefault(i, []).append(f"{path}::{name}")
    return found


def document() -> str:
    """docs/conformance.md as it should be now."""
    named = by_requirement()
    rows = ["| id | requirement | tests |", "|---|---|---|"]
    for r in requirements():
        cell = "<br>".join(f"`{t}`" for t in named.get(r.id, ())) or f"none: {r.exception}"
        rows.append(f"| {r.id} | {r.words} | {cell} |")
    return HEAD + "\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
