"""Writes docs/generated from the declarations in the code: AVPs, counters, configuration keys, state tables.

`python -m holdfast.lab.gendocs` writes; a test compares.
"""

import ast
import inspect
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

from holdfast.core.counters import Counter
from holdfast.daemon.config import template
from holdfast.dataplane.contract import Verdict
from holdfast.dataplane.ebpf.abi import Reason
from holdfast.dataplane.ebpf.advice import ADVICE
from holdfast.protocol.session import SESSION
from holdfast.protocol.tunnel import TUNNEL
from holdfast.wire.describe import avps_markdown

HERE = Path("docs/generated")


def counters_markdown() -> str:
    """Every counter and what one more of it means."""
    rows = _meanings((c.name.lower(), c.value) for c in Counter)
    verdicts = _meanings((f"data_{name.lower()}", text) for name, text in _documented(Verdict))
    reasons = "| counter | one more means | what to do |\n|---|---|---|\n" + _lines(
        f"| `data_reason_{name.lower()}` | {text} | {ADVICE[Reason[name]]} |"
        for name, text in _documented(Reason)
    )
    return (
        f"# Counters\n\n`holdfast show counters` prints these.\n\n{rows}\n## Packets of sessions\n\n"
        "`holdfast show counters dataplane` prints these alone. What became of a packet in the end: `rx` came from a"
        f" peer, `tx` from the core.\n\n{verdicts}\n## What the eBPF programs did with packets\n\n"
        "In more detail, and only of the eBPF plane: `rx` came from a peer, `tx` goes to one, `slow` goes to one by way"
        f" of the TUN device. These survive a restart.\n\n{reasons}"
    )


def _meanings(rows: Iterable[tuple[str, str]]) -> str:
    return "| counter | one more means |\n|---|---|\n" + _lines(f"| `{n}` | {text} |" for n, text in rows)


def _documented(declared: type[Enum]) -> Iterable[tuple[str, str]]:
    """The members of an enumeration with the docstrings that stand behind them in its source."""
    (body,) = ast.parse(inspect.getsource(declared)).body
    assert isinstance(body, ast.ClassDef)
    for member, text in pairwise(body.body):
        if (
            isinstance(member, ast.Assign)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            (target,) = member.targets
            assert isinstance(target, ast.Name)
            yield target.id, " ".join(str(text.value.value).split())


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
