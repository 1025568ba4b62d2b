"""Every event that a node logs is in the documentation."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SAYING = frozenset({"Log", "News", "trace", "_say"})
"""What the calls are named whose first argument is an event."""


def events() -> Iterator[str]:
    """Those that stand in the code as they are."""
    for path in (ROOT / "src" / "holdfast").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
                named = (
                    call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                )
                event = call.args[0].value
                if named in SAYING and isinstance(event, str) and "." in event:
                    yield event


def test_every_event_is_in_the_documentation() -> None:
    said = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    found = set(events())
    assert len(found) > 40
    assert {event for event in found if f"`{event}`" not in said} == set()
