"""What the node asks of the outside world, as data; the runner carries it out.

Effects keep their order within a lane: a tunnel (its local id) or a session (its key). A `Persist` holds back
the later effects of its own lane until it is committed (the node hears `committed`), and those of no other lane; when
the journal cannot write or takes over 500 ms the node hears `commit_failed`, and what waited to admit something is
dropped.
`Send`, `Persist` and `Called` are the protocol's own, so that they pass through without a copy. `Called` has no lane: it
is noted at once.
"""

from typing import TypeAlias

import msgspec

from holdfast.dataplane.contract import Entry
from holdfast.protocol.effects import Address, Called, Persist, Send

__all__ = ["Address", "Called", "Effect", "Lane", "Log", "Persist", "Release", "Send", "Unwant", "Want"]

Lane: TypeAlias = int

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
"""Levels of log events, as the standard library numbers them."""


class Want(msgspec.Struct, frozen=True, gc=False):
    """The data plane shall forward for this entry, or for its new form."""

    lane: Lane
    entry: Entry


class Unwant(msgspec.Struct, frozen=True, gc=False):
    """The data plane shall no longer forward for this session key."""

    lane: Lane
    key: int


class Release(msgspec.Struct, frozen=True, gc=False):
    """An address may return to its pool: nothing that precedes in this lane still uses it."""

    lane: Lane
    pool: str
    address: str


class Log(msgspec.Struct, frozen=True, gc=False):
    """An event for operators; `fields` have the fixed keys (peer, tid, ptid, sid, psid, …)."""

    event: str
    fields: dict[str, object]
    level: int = INFO


Effect: TypeAlias = Send | Persist | Called | Want | Unwant | Release | Log
