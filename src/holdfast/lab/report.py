"""The drill's report: what is in it, when it is "ok", and as JSON. `drill-report.schema.json` is made from it.

All times are differences of CLOCK_MONOTONIC. `None` means that it did not happen. Start is the moment before a
process is started, dead the moment when its end was collected. Of several killed nodes the last start counts: before
it no packet can pass.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

Ms: TypeAlias = float
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Result: TypeAlias = Literal["ok"] | list[str]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the report; keys that are not declared are refused."""


class DataBack(_Part, frozen=True):
    """From start to the first packet forwarded, and until every base session had data in both directions."""

    first: Ms | None
    all: Ms | None


class DataGap(_Part, frozen=True):
    """The longest time between two arrivals of a session and direction: the median of all, and the worst."""

    p50: Ms | None
    max: Ms | None


class Packets(_Part, frozen=True):
    """One direction, base sessions together. Every packet that was due counts as sent."""

    sent: Count
    received: Count
    lost: Count


class BothWays(_Part, frozen=True):
    """Up is from the subscribers to the core."""

    up: Packets
    down: Packets


class Ping(_Part, frozen=True):
    """Echo-Requests of the first subscriber from before the kill until after the recovery, and their answers."""

    sent: Count
    received: Count


class Transfer(_Part, frozen=True):
    """A TCP download of the first subscriber through the kill. `complete`: all octets came, and were right."""

    octets: Count
    complete: bool
    longest_stall_ms: Ms
    error: str


class Echoes(_Part, frozen=True):
    """LCP Echo-Requests of the LAC while the LNS's daemon was dead, and those of them that were answered at last."""

    sent: Count
    answered: Count


class Noticed(_Part, frozen=True):
    """What a peer has logged from the kill on: the lines, and how many more were about a duplicate, our probe."""

    lines: list[str]
    of_duplicates: Count


class Place(_Part, frozen=True):
    """A session's ids at either side, the subscriber's address, the peer's pppd process (0: it has none)."""

    lac_tunnel: Count
    lac_session: Count
    lns_tunnel: Count
    lns_session: Count
    address: str
    pppd: Count


class Subscriber(_Part, frozen=True):
    """A base subscriber's session before and after; None where it is not whole on both sides."""

    name: str
    before: Place | None
    after: Place | None


class Outcome(_Part, frozen=True):
    """What became of sessions that were in flight: whole on both sides, gone on both, or anything else."""

    survived: Count
    ended_clean: Count
    half_open: Count


class InFlight(_Part, frozen=True):
    """Sessions being set up and being torn down at the moment of the kill."""

    setups: Outcome
    teardowns: Outcome


class End(_Part, frozen=True):
    """An end of the traffic, which is the lab's: datagrams that its own socket had no room for, packets that were due and
    that it never sent, and how long after its time a packet left at worst.
    """

    no_room: Count
    unsent: Count
    late_ms: Ms


class LostWhere(_Part, frozen=True):
    """Lost packets: due while no data flowed, and at other times; and what the kernels counted, by namespace.

    What the lab's own ends lost is among them, and no plane's fault; but a round in which there was any proves nothing.
    """

    while_down: Count
    otherwise: Count
    lac_end: End
    core_end: End
    kernel: dict[str, dict[str, Count]]


class NodeTimes(_Part, frozen=True):
    """One killed node. All but `down_ms` (dead to started) count from its start."""

    down_ms: Ms
    data_flows_ms: Ms | None
    control_recovered_ms: Ms | None
    synchronised_ms: Ms | None
    recovered_by: dict[str, Count]
    stale_cleared: Count


class Report(_Part, frozen=True):
    """One kill and what came after it.

    `kernel` is what everything ran in: the times of a User-Mode Linux kernel are those of a slow machine.
    `subscribers`, `ping`, `tcp` and `noticed` are there for a peer that is not holdfast, and else empty. In front of a
    peer without RFC 4951, `control_recovered_ms` is when the send side was resynchronised, and `synchronised_ms` when
    the receive side was settled.

    `dataplane` is the LNS's; `packets_by` says what carries the subscribers' packets at the LAC: its TUN device, or the
    lab itself, which then asks for `echoes`, too. `plane`: what the LNS's data plane counted, by reason, if it is in the
    kernel. `by` is how the node was ended, `kills` how often; `programs_replaced`: it then came back with others.
    """

    drill: Literal["restart", "upgrade"]
    dataplane: Literal["tun", "tc", "xdp"]
    packets_by: Literal["tun", "lab"]
    by: Literal["kill", "stop"]
    kills: Count
    programs_replaced: bool
    kill: Literal["lns", "lac", "both"]
    peer: Literal["holdfast", "xl2tpd", "l2tpns"]
    peer_offers_rfc4951: bool
    kernel: Literal["host", "user-mode-linux"]
    stagger_ms: Ms
    sessions: Count
    tunnels: Count
    traffic_pps: Count
    sessions_before: Count
    sessions_after: Count
    sessions_redialled: Count
    ppp_renegotiated: Count
    addresses_changed: Count
    session_ids_changed: Count
    subscribers: list[Subscriber]
    in_flight: InFlight
    recovered_by: dict[str, Count]
    down_ms: Ms
    data_back_ms: DataBack
    data_gap_ms: DataGap
    packets: BothWays
    lost_where: LostWhere
    plane: dict[str, Count]
    echoes: Echoes | None
    ping: Ping | None
    tcp: Transfer | None
    noticed: Noticed | None
    control_recovered_ms: Ms | None
    synchronised_ms: Ms | None
    stale_cleared: Count
    nodes: dict[Literal["lns", "lac"], NodeTimes]
    result: Result


class Series(_Part, frozen=True):
    """Several kills of the same nodes, one after the other."""

    rounds: list[Report]
    passed: Count
    result: Result


def verdict(report: Report) -> Result:
    """ "ok" only if all base sessions are the same sessions, with data both ways, and nothing is half open.

    Of a data plane in the kernel no packet may be lost, whoever lost it, and no LCP echo left unanswered.
    A peer without RFC 4951 cannot be asked what it holds: what was being set up or torn down at the kill is then
    reported, and not held against us. Such a peer must not have noticed anything.
    """
    return list(_reasons(report)) or "ok"


def _reasons(r: Report) -> Iterator[str]:
    if r.sessions_before < r.sessions:
        yield f"only {r.sessions_before} of {r.sessions} sessions had data both ways before the kill"
    if r.sessions_after < r.sessions_before:
        yield f"only {r.sessions_after} of {r.sessions_before} sessions had data both ways after it"
    for count, what in (
        (r.sessions_redialled, "sessions were dialled again"),
        (r.ppp_renegotiated, "sessions renegotiated PPP"),
        (r.addresses_changed, "subscribers have another address"),
        (r.session_ids_changed, "sessions have other ids"),
        *_left_half_open(r),
    ):
        if count:
            yield f"{count} {what}"
    if r.dataplane in ("tc", "xdp"):
        yield from _left_undone(r)
    if r.drill == "upgrade" and not r.programs_replaced:
        yield "the eBPF programs were not replaced"
    if r.tcp and not r.tcp.complete:
        yield f"the TCP transfer failed: {r.tcp.error or 'wrong or missing octets'}"
    if r.ping and not r.ping.received:
        yield "no ping was answered"
    if r.noticed and r.noticed.lines:
        yield f"{r.peer} noticed: {' / '.join(r.noticed.lines[:_LINES])}"
    for role, node in r.nodes.items():
        if node.synchronised_ms is None:
            yield f"the {role} did not finish its recovery"


_LINES = 5


def _left_undone(r: Report) -> Iterator[str]:
    lac, core = r.lost_where.lac_end, r.lost_where.core_end
    for direction, p, sender, receiver in (
        ("up", r.packets.up, lac, core),
        ("down", r.packets.down, core, lac),
    ):
        if p.lost:
            yield f"{p.lost} packets lost {direction}{_by_the_lab(sender, receiver)}"
    if r.echoes and r.echoes.answered < r.echoes.sent:
        yield f"{r.echoes.sent - r.echoes.answered} LCP echo requests were not answered while the daemon was dead"


def _by_the_lab(sender: End, receiver: End) -> str:
    own = [
        f"{count} {what}"
        for count, what in ((sender.unsent, "never sent"), (receiver.no_room, "not taken for want of room"))
        if count
    ]
    return f", of which the lab itself {' and '.join(own)}" if own else ""


def _left_half_open(r: Report) -> Iterator[tuple[int, str]]:
    if r.peer_offers_rfc4951:
        yield r.in_flight.setups.half_open, "set-ups in flight were left half open"
        yield r.in_flight.teardowns.half_open, "teardowns in flight were left half open"


def series(rounds: list[Report], wanted: int) -> Series:
    """Rounds put together; "ok" only if all that were wanted took place and were ok."""
    reasons = [
        f"round {n}: {reason}" for n, r in enumerate(rounds, 1) if r.result != "ok" for reason in r.result
    ]
    if len(rounds) < wanted:
        reasons.append(f"only {len(rounds)} of {wanted} rounds took place")
    return Series(rounds=rounds, passed=sum(r.result == "ok" for r in rounds), result=reasons or "ok")


def encode(outcome: Report | Series) -> bytes:
    """The JSON document."""
    return msgspec.json.format(msgspec.json.encode(outcome), indent=2) + b"\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of the document: one report, or a series of them."""
    alternatives, parts = msgspec.json.schema_components([Report, Series], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of `holdfast drill restart` and `holdfast drill upgrade`",
        "description": "One report, or with --repeat a series of them.",
        "oneOf": list(alternatives),
        "$defs": parts,
    }


SCHEMA_FILE = Path(__file__).with_name("drill-report.schema.json")
"""The schema as it is shipped; `python -m holdfast.lab.report` writes it anew."""


def schema_document() -> bytes:
    """What `SCHEMA_FILE` must hold."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_bytes(schema_document())
