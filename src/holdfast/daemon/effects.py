"""What the node asks of the outside world, as data; the runner carries it out.

A lane is what effects keep their order within: a tunnel (its local id) or a session (its key). A `Persist` holds
back the later effects of its own lane until it is committed, and those of no other lane.
"""

from typing import TypeAlias

import msgspec

from holdfast.dataplane.contract import Entry
from holdfast.records.writes import Write

Address: TypeAlias = tuple[str, int]
"""Dotted-quad IPv4 address and UDP port."""

Lane: TypeAlias = int

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
"""Levels of log events, as the standard library numbers them."""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send a UDP datagram."""

    lane: Lane
    data: bytes
    to: Address


class Persist(msgspec.Struct, frozen=True, gc=False):
    """Write to the journal, all or nothing, before anything that follows in this lane.

    Answered with `committed` or, after 500 ms or when the journal cannot write, with `commit_failed`; what was
    waiting behind it is then dropped.
    """

    lane: Lane
    writes: tuple[Write, ...]


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
    """An event for operators; `fields` have the fixed keys of the project (peer, tid, ptid, sid, psid, …)."""

    event: str
    fields: dict[str, object]
    level: int = INFO


Effect: TypeAlias = Send | Persist | Want | Unwant | Release | Log
