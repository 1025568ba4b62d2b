"""What must survive a crash (docs/architecture.md): plain, versioned data, and nothing that a restart can find again.

Invariants: only *established* things are records; a record holds UTC and durations, never instants; Ns and Nr in it
are lower bounds, kept for peers without RFC 4951. A change of a field's meaning raises `SCHEMA` and brings a
migration in `state`. Fields are only ever added at the end, with a default.
"""

from enum import IntEnum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

SCHEMA = 2
"""Version of the record layouts below; the journal refuses a newer one and migrates an older one."""


Id: TypeAlias = Annotated[int, Meta(gt=0, le=0xFFFFFFFF)]
"""A tunnel's or session's, of either protocol version."""


class Side(IntEnum):
    """Which end of a session we are."""

    LNS = 1
    LAC = 2


class FailoverCapability(msgspec.Struct, frozen=True, gc=False):
    """The value of AVP 76 (RFC 4951 5.1) as one side sent it. `recovery_time_ms` counts only with `control`."""

    control: bool
    data: bool
    recovery_time_ms: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)] = 0


class TunnelRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An established control connection. `secret` is the one that authenticated it (F-36), "" for none."""

    local_id: int
    peer_id: int
    local_address: str
    local_port: int
    peer_address: str
    peer_port: int
    initiator: bool
    side: Side
    local_host_name: str
    peer_host_name: str
    peer_name: str
    secret: str
    local_failover: FailoverCapability | None
    peer_failover: FailoverCapability | None
    peer_window: int
    peer_framing: int
    peer_bearer: int
    established_utc_us: int
    acked: int = 0
    nr: int = 0
    protocol_version: int = 2


class LcpRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What LCP agreed for one direction: the options of the side that sent the Configure-Request."""

    mru: int = 1500
    magic: int = 0
    accm: int = 0xFFFFFFFF
    pfc: bool = False
    acfc: bool = False
    auth: int = 0


class PppRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """PPP of one session once IPCP is agreed. Addresses are dotted quads, "" for none; K-4…K-10 of the requirements.

    `auth_method`: 0 none, else the PPP protocol number (0xC023 PAP, 0xC223 CHAP). `auth_id` and `auth_message` are
    those of the last answer given, so that a repeated Response is answered alike (P-23).
    """

    local_lcp: LcpRecord
    peer_lcp: LcpRecord
    auth_method: int
    auth_name: str
    auth_id: int
    auth_message: str
    local_ip: str
    peer_ip: str
    dns: tuple[str, ...] = ()


class AaaRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Identity towards AAA (K-12…K-17). `pool` names the pool that owns the address, "" for a fixed one."""

    user: str
    pool: str = ""
    acct_session_id: str = ""
    class_attributes: tuple[bytes, ...] = ()
    session_timeout_s: int = 0


class Counters(msgspec.Struct, frozen=True, gc=False):
    """Traffic of a session. Up is from the subscriber to the core, on either side of the tunnel."""

    up_packets: int = 0
    up_bytes: int = 0
    down_packets: int = 0
    down_bytes: int = 0

    def since(self, earlier: "Counters") -> "Counters":
        """What has been counted after `earlier`."""
        return Counters(
            self.up_packets - earlier.up_packets,
            self.up_bytes - earlier.up_bytes,
            self.down_packets - earlier.down_packets,
            self.down_bytes - earlier.down_bytes,
        )

    def at_least(self, other: "Counters") -> "Counters":
        """Of each number the larger: totals never go backwards."""
        return Counters(
            max(self.up_packets, other.up_packets),
            max(self.up_bytes, other.up_bytes),
            max(self.down_packets, other.down_packets),
            max(self.down_bytes, other.down_bytes),
        )


class SessionRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An established session: L2TP identity, PPP, AAA. `subscriber` names the LAC's own PPP client.

    `counter_base`: its traffic, from its beginning to when this was last written.
    """

    tunnel_id: int
    local_id: int
    peer_id: int
    side: Side
    call_serial: int
    established_utc_us: int
    ppp: PppRecord | None = None
    aaa: AaaRecord | None = None
    subscriber: str = ""
    incoming: bool = True
    sequencing: bool = False
    framing_type: int = 1
    tx_speed: int = 0
    rx_speed: int = 0
    calling_number: str = ""
    called_number: str = ""
    counter_base: Counters = Counters()


class EndpointRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The node itself. Recent ids are oldest first; session ids by tunnel id (as text: MessagePack keys stay plain)."""

    name: str
    boot_epoch: Annotated[int, Meta(ge=0, lt=1 << 57)] = 0
    recent_tunnel_ids: tuple[Id, ...] = ()
    recent_session_ids: dict[str, tuple[Id, ...]] = {}


def session_key(tunnel_id: int, session_id: int) -> int:
    """One integer for a session of this node: local tunnel id in the high half, local session id in the low 32 bits.

    Wide enough for L2TPv3, whose ids have 32 bits.
    """
    return tunnel_id << 32 | session_id


def split_key(key: int) -> tuple[int, int]:
    """The local tunnel id and local session id of a session key."""
    return key >> 32, key & 0xFFFFFFFF
