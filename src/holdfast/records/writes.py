"""The writes that a machine asks of the journal, as data."""

from typing import TypeAlias

import msgspec

from holdfast.records import EndpointRecord, SessionRecord, TunnelRecord
from holdfast.records.ledger import PeerRecord


class Save(msgspec.Struct, frozen=True, gc=False):
    """Write a record, replacing the one with the same identity."""

    record: TunnelRecord | SessionRecord | EndpointRecord | PeerRecord


class Recount(msgspec.Struct, frozen=True, gc=False):
    """A session's record with newer totals, for the one that there is, if there is one. Never waited for."""

    record: SessionRecord


class ForgetTunnel(msgspec.Struct, frozen=True, gc=False):
    """Delete a tunnel's record and those of all its sessions."""

    tunnel_id: int


class ForgetSession(msgspec.Struct, frozen=True, gc=False):
    """Delete one session's record, by its session key."""

    key: int


class SetAside(msgspec.Struct, frozen=True, gc=False):
    """A loaded record turned out to be unusable: put it into quarantine, where it is kept and shown."""

    record: TunnelRecord | SessionRecord | EndpointRecord
    reason: str


class Hint(msgspec.Struct, frozen=True, gc=False):
    """Lower bounds of a tunnel's sequence numbers: `acked`, the highest Nr received, and our Nr. Never waited for."""

    tunnel_id: int
    acked: int
    nr: int


class ForgetPeer(msgspec.Struct, frozen=True, gc=False):
    """Delete a peer's entry in the ledger."""

    name: str
    host_name: str


class Alive(msgspec.Struct, frozen=True, gc=False):
    """The node runs at this moment: how long an outage lasts is counted from the last of these. Never waited for."""

    utc_us: int


Write: TypeAlias = Save | Recount | ForgetTunnel | ForgetSession | ForgetPeer | SetAside | Hint | Alive


def never_waited_for(write: object) -> bool:
    """Whether a write may be late or lost: it rides along in the next commit, and holds back nothing."""
    if isinstance(write, Save):
        return isinstance(write.record, (EndpointRecord, PeerRecord))
    return isinstance(write, (Hint, Alive, ForgetPeer, Recount))
