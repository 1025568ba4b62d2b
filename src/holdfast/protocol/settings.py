"""What the protocol needs to know from the configuration, as plain values in the units it works in."""

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import msgspec

from holdfast.core.clock import SECOND, Duration


class Method(Enum):
    """How the tunnels of a peer are recovered after a restart of ours; the value is the word of the configuration."""

    AUTO = "auto"
    RFC4951 = "rfc4951"
    SILENT = "silent"
    OFF = "off"


class ChannelSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Reliable delivery (RFC 2661 5.8). `attempts` counts time-out intervals: 5 of them make 31 s (V2-187)."""

    receive_window: int = 16
    initial: Duration = 1 * SECOND
    cap: Duration = 16 * SECOND
    attempts: int = 5


class FailoverSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """RFC 4951. `strict_discard` and `additive` choose the other reading of T-4 and T-5."""

    method: Method = Method.RFC4951
    advertise: bool = True
    recovery_time_ms: int = 60_000
    peer_recovery_cap: Duration = 300 * SECOND
    require_secret: bool = True
    strict_discard: bool = False
    additive: bool = False
    suggest_sequence: bool = True
    give_up: Duration = 31 * SECOND
    fall_back: Duration = 3 * SECOND
    silent_patience: Duration = 10 * SECOND
    setup_timeout: Duration = 5 * SECOND
    parallel: int = 64
    query_timeout: Duration = 10 * SECOND
    query_tries: int = 3


class EndpointSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One node's control protocol."""

    host_name: str
    local_address: str
    local_port: int = 1701
    vendor_name: str = "holdfast"
    channel: ChannelSettings = ChannelSettings()
    failover: FailoverSettings = FailoverSettings()
    hello_interval: Duration = 60 * SECOND
    setup_timeout: Duration = 30 * SECOND
    linger: Duration = 31 * SECOND
    accept_tunnels: bool = True
    max_tunnels: int = 10_000
    max_half_open: int = 1_000
    max_sessions_per_tunnel: int = 60_000
    sccrq_per_second: int = 2_000


class PeerSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One configured peer. `recovery_addresses` may recover its tunnels too (F-S2); `host_name` "" accepts any.

    `method` None is that of the endpoint.
    """

    name: str
    secret: bytes = b""
    host_name: str = ""
    recovery_addresses: tuple[str, ...] = ()
    method: Method | None = None


class Evidence(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What experience says of the peer of a tunnel; whoever owns the endpoint gathers it and hands it in.

    `rfc4951_fails`: it offers RFC 4951, and recoveries by it did not work. `patience`: how long it is worth to wait for
    the answer to a probe; less than `resync.PATIENCE` counts as that.
    """

    rfc4951_fails: bool = False
    patience: Duration = 0


FindPeer: TypeAlias = Callable[[str, str], PeerSettings | None]
"""The configured peer for a source address and a Host Name, or None: not authorised."""
