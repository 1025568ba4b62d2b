"""The dictionary, the message table and the codes as Markdown: docs/generated/avps.md is made from here."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from holdfast.wire.avp import Avp
from holdfast.wire.codes import CauseDirection, Cdn, General, Msg, PppCause, StopCcn
from holdfast.wire.dictionary import ENTRIES, RANDOM_VECTOR
from holdfast.wire.table import SPECS, MessageSpec

Code: TypeAlias = StopCcn | Cdn | General | PppCause | CauseDirection

_CODES: Final[Sequence[tuple[str, Iterable[Code]]]] = (
    ("Results of StopCCN", StopCcn),
    ("Results of CDN", Cdn),
    ("General errors", General),
    ("PPP disconnect causes", PppCause),
    ("Directions of a PPP disconnect cause", CauseDirection),
)

_INTRODUCTION: Final = """\
# AVPs and control messages

What holdfast knows of L2TPv2 on the wire. M: sent with the M bit. H: may be hidden. Octets: the length of the
value before hiding.
"""

_MESSAGES: Final = """\
Every message begins with Message Type, whose M bit is the one shown, and may carry Random Vector.
"""


def avps_markdown() -> str:
    """The whole page; it changes only with the declarations."""
    avp_titles = ("Type", "Name", "M", "H", "Octets", "Value", "Mandatory in", "Optional in", "RFC")
    message_titles = ("Type", "Name", "Direction", "Scope", "M", "Mandatory AVPs", "Optional AVPs", "RFC")
    parts = [
        _INTRODUCTION,
        "## AVPs\n",
        _table(avp_titles, map(_avp_row, ENTRIES)),
        "## Messages\n",
        _MESSAGES,
        _table(message_titles, map(_message_row, SPECS.values())),
    ]
    for title, codes in _CODES:
        rows = ((str(c.value), c.name, c.text) for c in codes)
        parts += [f"## {title}\n", _table(("Code", "Name", "Meaning"), rows)]
    return "\n".join(parts)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _avp_row(avp: Avp[Any]) -> Sequence[str]:
    return (
        _number(avp),
        avp.name + (", may repeat" if avp.repeats else ""),
        _yes(avp.mandatory),
        _yes(avp.hidable),
        _lengths(avp.sizes),
        avp.layout.name,
        _where(avp.required),
        _where(avp.allowed - avp.required),
        avp.rfc,
    )


def _message_row(spec: MessageSpec) -> Sequence[str]:
    optional = spec.allowed.keys() - spec.required - {RANDOM_VECTOR.key}
    return (
        str(spec.msg.value),
        spec.msg.name,
        spec.direction,
        "session" if spec.session else "tunnel",
        _yes(spec.mandatory),
        _which(spec, spec.required),
        _which(spec, optional),
        spec.rfc,
    )


def _number(avp: Avp[Any]) -> str:
    return f"{avp.vendor}/{avp.type}" if avp.vendor else str(avp.type)


def _yes(answer: bool) -> str:
    return "yes" if answer else ""


def _lengths(sizes: range) -> str:
    return str(sizes.start) if len(sizes) == 1 else f"{sizes.start}…{sizes.stop - 1}"


def _where(messages: frozenset[Msg]) -> str:
    return "all" if len(messages) == len(Msg) else ", ".join(m.name for m in sorted(messages))


def _which(spec: MessageSpec, keys: Iterable[int]) -> str:
    return ", ".join(spec.allowed[key].name for key in sorted(keys))
