"""Writes docs/generated from the declarations in the code: AVPs, counters, configuration keys, state tables.

`python -m holdfast.lab.gendocs` writes; a test compares.
"""

import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from holdfast.core.counters import Counter
from holdfast.daemon.config import template
from holdfast.protocol.session import SESSION
from holdfast.protocol.tunnel import TUNNEL
from holdfast.wire.describe import avps_markdown

HERE = Path("docs/generated")


def counters_markdown() -> str:
    """Every counter and what one more of it means."""
    rows = "\n".join(f"| `{c.name.lower()}` | {c.value} |" for c in Counter)
    return f"# Counters\n\n`holdfast show counters` prints these.\n\n| counter | one more means |\n|---|---|\n{rows}\n"


def configuration_markdown() -> str:
    """The commented configuration, as `holdfast init` writes it."""
    text = template(tunnel_secret="a long random secret", user_secret="another one")
    return f"# Configuration\n\nEvery key with its default, as `holdfast init` writes it.\n\n```toml\n{text}```\n"


def states_markdown() -> str:
    """The tables of tunnels and sessions."""
    return (
        "# State tables\n\nA pair that is not in a table is the peer's fault: StopCCN 7 for a tunnel, CDN 2 for a"
        " session.\n\n"
        f"## Tunnel (RFC 2661 7.2)\n\n{_table(TUNNEL)}\n## Session (RFC 2661 7.4)\n\n{_table(SESSION)}"
    )


def _table(table: Mapping[tuple[Any, Any], Enum]) -> str:
    rows = (f"| {state.name} | {how.name} | {following.name} |" for (state, how), following in table.items())
    return "| state | input | next |\n|---|---|---|\n" + _lines(rows)


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)


PAGES = {
    "avps.md": avps_markdown,
    "counters.md": counters_markdown,
    "configuration.md": configuration_markdown,
    "states.md": states_markdown,
}


def main() -> int:
    """Write every page."""
    HERE.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
