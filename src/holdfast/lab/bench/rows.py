"""Rows of docs/benchmarks.md: what was measured, against what target, and what else must be known to judge
it.
"""

from collections.abc import Sequence

import msgspec

HEADER = (
    "| what | measured | target | node, share of its core | generator | remarks |\n|---|---|---|---|---|---|"
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `met` None: there is no target. Shares are of one core; None: not measured."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None
    node: float | None = None
    generator: float | None = None
    limited: bool = False
    remarks: Sequence[str] = ()


def markdown(row: Row) -> str:
    """The row as a line of the table."""
    target = row.target + {None: "", True: " ✓", False: " ✗"}[row.met]
    generator = _share(row.generator) + (", **the limit**" if row.limited else "")
    cells = (row.what, row.measured, target, _share(row.node), generator, "; ".join(row.remarks))
    return "| " + " | ".join(cells) + " |"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def milliseconds(value: float | None) -> str:
    """A time as the tables have it; None is what never happened."""
    return "never" if value is None else f"{value:,.0f} ms"
