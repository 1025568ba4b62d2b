"""What operators see of a node, as the control API sends it: one struct per row of a list.

The node fills these and the API encodes them; neither knows the other. Ids are the local ones, `peer_*` the
other side's. Times are UTC in microseconds, 0 for "not yet".
"""

from typing import Generic, TypeVar

import msgspec

from holdfast.records import AaaRecord, Counters, PppRecord

Row = TypeVar("Row")


class Page(msgspec.Struct, Generic[Row], frozen=True, gc=False):
    """A part of a list. `next` is what to ask for `after` this page, "" when the list ends here."""

    items: list[Row]
    next: str = ""


class NodeView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The node as a whole."""

    name: str
    role: str
    version: str
    pid: int
    address: str
    port: int
    started_utc_us: int
    tunnels: int
    sessions: int
    recovering: int
    journal: str
    quarantined: int = 0


class TunnelView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A control connection. `failover` is how a restart would recover it: "rfc4951",
    "silent" or "off"; "" for a recovery tunnel.

    `recovers` is not 0 for a recovery tunnel: the old tunnel's local id.
    """

    id: int
    peer_id: int
    peer_name: str
    peer_host_name: str
    peer_address: str
    peer_port: int
    side: str
    state: str
    initiator: bool
    sessions: int
    recovers: int = 0
    failover: str = ""
    peer_recovery_time_ms: int = 0
    established_utc_us: int = 0
    ns: int = 0
    nr: int = 0
    peer_window: int = 0
    retransmissions: int = 0


class SessionView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A session. `key` is its session key; `address` the subscriber's, "" until IPCP has given one."""

    key: int
    tunnel_id: int
    id: int
    peer_id: int
    peer_name: str
    side: str
    state: str
    ppp_state: str = ""
    user: str = ""
    address: str = ""
    subscriber: str = ""
    calling_number: str = ""
    called_number: str = ""
    established_utc_us: int = 0


class SessionDetail(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Everything known about one session. `forwarding` tells whether the data plane has its entry."""

    session: SessionView
    tunnel: TunnelView | None = None
    ppp: PppRecord | None = None
    aaa: AaaRecord | None = None
    forwarding: bool = False
    traffic: Counters = Counters()


class SubscriberView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A PPP client that this node runs. `next_try_s` counts down to its next call, 0 when none is planned."""

    name: str
    tunnel: str
    auto: bool
    state: str
    session: int = 0
    address: str = ""
    attempts: int = 0
    next_try_s: int = 0
    last_error: str = ""


class RecoveryView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A recovery of one tunnel, running or done.

    `role` is "recovery-endpoint" or "silent" (we restarted), or "remote-endpoint" (the peer did). `proof` tells how far
    its sessions have been shown to forward: "pending", "done", "off" (no LCP echoes), or "" where nobody asks;
    `silent_cleared` were ended because they did not answer, `unproved` have not answered yet.
    """

    tunnel_id: int
    peer_name: str
    role: str
    method: str
    state: str
    started_utc_us: int
    control_recovered_ms: int = 0
    synchronised_ms: int = 0
    sessions: int = 0
    stale_cleared: int = 0
    attempts: int = 1
    reason: str = ""
    proof: str = ""
    proved: int = 0
    silent_cleared: int = 0
    unproved: int = 0
    proved_ms: int = 0
