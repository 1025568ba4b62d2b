"""The writes that a machine asks of the journal, as data."""

from typing import TypeAlias

import msgspec

from holdfast.records import EndpointRecord, SessionRecord, TunnelRecord


class Save(msgspec.Struct, frozen=True, gc=False):
    """Write a record, replacing the one with the same identity."""

    record: TunnelRecord | SessionRecord | EndpointRecord


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


Write: TypeAlias = Save | ForgetTunnel | ForgetSession | SetAside | Hint
