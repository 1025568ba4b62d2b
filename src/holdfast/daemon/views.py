"""What operators see of a node, as the control API sends it: one struct per row of a list.

The node fills these and the API encodes them; neither knows the other. Ids are the local ones, `peer_*` the
other side's. Times are UTC in microseconds, 0 for "not yet".
"""

from typing import Generic, TypeVar

import msgspec

from holdfast.records import AaaRecord, Counters, FailoverCapability, PppRecord

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
    dataplane: str = ""


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
    """A recovery of one tunnel, running or done. Milliseconds count from its start, null for "not yet".

    `role` is "recovery-endpoint" or "silent" (we restarted) or "remote-endpoint" (the peer did).
    `control_recovered_ms`: we may speak; with RFC 4951 both ends have reset, silently our send side is resynchronised.
    `receive_settled_ms`: our Nr is proved; with RFC 4951 that is the same moment. `synchronised_ms`: the recovery is
    over; with RFC 4951 every session has been asked about.
    `proof` tells how far its sessions have been shown to forward: "pending", "done", "off" (no LCP echoes), or "" where
    nobody asks; `silent_cleared` were ended because they did not answer, `unproved` have not answered yet.
    """

    tunnel_id: int
    peer_name: str
    role: str
    method: str
    state: str
    started_utc_us: int
    control_recovered_ms: int | None = None
    receive_settled_ms: int | None = None
    synchronised_ms: int | None = None
    sessions: int = 0
    stale_cleared: int = 0
    attempts: int = 1
    reason: str = ""
    proof: str = ""
    proved: int = 0
    silent_cleared: int = 0
    unproved: int = 0
    proved_ms: int = 0


class MethodView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of our recoveries of a peer's tunnels by one method (`records.ledger.MethodRecord`)."""

    attempts: int = 0
    successes: int = 0
    failures: int = 0
    last: str = ""
    last_utc_us: int = 0
    last_reason: str = ""
    send_last_ms: int | None = None
    send_worst_ms: int | None = None
    receive_last_ms: int | None = None
    receive_worst_ms: int | None = None


class PeerView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A peer in the ledger (`records.ledger.PeerRecord`). `offered` is null if it sent no AVP 76.

    `method` is how a restart would recover its tunnels, "" if it has none.
    `doubted_until_utc_us` is not 0 while `auto` tries silent resynchronisation first although the peer offers RFC 4951.
    """

    name: str
    host_name: str
    tunnels: int
    method: str
    vendor: str
    firmware: int | None
    window: int | None
    offered: FailoverCapability | None
    rfc4951: MethodView
    silent: MethodView
    contradictions: int
    doubted_until_utc_us: int
    kept_ms: int | None
    lost_ms: int | None
    answered: int
    seen_utc_us: int


class ChoiceView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Why a tunnel is recovered by a method. `why` is "configured", "both-offer", "we-do-not-offer",
    "peer-does-not-offer" or "contradicted".

    `configured` is the word of the configuration, `for_this_peer` whether it stands in the peer's own table. The offers
    are the AVP 76 of both sides when the tunnel was set up. `contradictions`: so many restarts in a row RFC 4951 failed
    with this peer for tunnels that it still knew.
    """

    method: str
    why: str
    configured: str
    for_this_peer: bool
    local_offer: FailoverCapability | None = None
    peer_offer: FailoverCapability | None = None
    contradictions: int = 0
    doubted_until_utc_us: int = 0


class StepView(msgspec.Struct, frozen=True, gc=False):
    """One step of a recovery: `at_ms` after its start, in the role of that moment, what happened (`phase`), and the
    reason where there is one.
    """

    at_ms: int
    role: str
    phase: str
    text: str = ""


class WhyView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a tunnel would be recovered now (`choice`, null once it is gone), and how it was (`recovery`, null if it never
    was as far as is remembered), with the choice of that time (null if the peer recovered it) and its steps.

    `sessions_before` and `sessions_now` count those of the tunnel at the start of the recovery and now;
    `sessions_ended` those that ended while it ran, by cause. `text` says all this in words, line by line.
    """

    tunnel_id: int
    peer_name: str
    host_name: str
    state: str
    choice: ChoiceView | None = None
    recovery: RecoveryView | None = None
    running: bool = False
    chosen: ChoiceView | None = None
    steps: list[StepView] = []
    steps_left_out: int = 0
    sessions_before: int = 0
    sessions_now: int = 0
    sessions_ended: dict[str, int] = {}
    text: list[str] = []


class TracedPacket(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="packet"):
    """A line of a trace: a packet from a session's peer or to it. `data`, in base64, may be less than its `length`."""

    at_utc_us: int
    to_peer: bool
    length: int
    data: bytes


class TraceNews(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="news"):
    """A line of a trace: how many packets could not be shown so far, and why it ends, "" while it goes on."""

    missed: int = 0
    ended: str = ""
