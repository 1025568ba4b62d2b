"""What a run measured: as data (its JSON is the interface of `holdfast blast --json`) and as a table for
people.

Latency is from the ICRQ on the wire to IPCP open both ways. `late_ms` says how long after its due time the
ICRQ went out: with a fixed rate a slow server cannot hide there. A result that the generator limited says
so.
"""

from collections.abc import Sequence

import msgspec

MIB = 1 << 20
GENERATOR_LIMIT = 0.9
"""From this share of one core on, the generator may be what was measured."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution in milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


class Tunnels(msgspec.Struct, frozen=True, kw_only=True):
    """Control connections; `failed` by reason."""

    asked: int
    opened: int
    per_second: float
    failed: dict[str, int]


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """Calls: `failed` never came up, `lost` ended afterwards without being asked to; both by reason."""

    asked: int
    opened: int
    cleared: int
    up_at_end: int
    per_second: float
    seconds: float
    latency_ms: Spread | None
    late_ms: Spread | None
    failed: dict[str, int]
    lost: dict[str, int]
    renegotiated: int


class Direction(msgspec.Struct, frozen=True, kw_only=True):
    """Packets of one direction; the longest gap of the direction, and the longest of any session."""

    due: int
    sent: int
    received: int
    longest_gap_ms: float
    longest_session_gap_ms: float


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """The load generator itself: share of one core while calls were set up, and while packets ran."""

    setup_cpu_share: float
    traffic_cpu_share: float
    core_cpu_share: float
    retransmitted: int
    refused: int

    @property
    def setup_limited(self) -> bool:
        """Whether the set-up rate may be the generator's own limit."""
        return self.setup_cpu_share >= GENERATOR_LIMIT

    @property
    def traffic_limited(self) -> bool:
        """Whether the packet rates may be the generator's own limit."""
        return max(self.traffic_cpu_share, self.core_cpu_share) >= GENERATOR_LIMIT


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server's process: share of one core during set-up and during traffic; memory in octets.

    `setup_wait_share`: share of the time that it was ready and had no core, because others had it.
    """

    setup_cpu_share: float
    setup_wait_share: float
    traffic_cpu_share: float
    rss_before: int
    rss_after: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the load generator."""

    lns: str
    tunnels: Tunnels
    sessions: Sessions
    up: Direction | None
    down: Direction | None
    generator: Generator
    generator_limited: bool
    server: Server | None

    @property
    def clean(self) -> bool:
        """Whether every call came up and none was lost."""
        sessions = self.sessions
        return sessions.opened == sessions.asked and not sessions.lost and not self.tunnels.failed


def spread(microseconds: Sequence[int]) -> Spread | None:
    """The distribution of some durations, None of none."""
    if not microseconds:
        return None
    ordered = sorted(microseconds)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000, 3)

    return Spread(p50=at(0.5), p90=at(0.9), p99=at(0.99), max=at(1.0))


def per_second(count: int, microseconds: int) -> float:
    """A rate, 0 if no time passed."""
    return round(count * 1e6 / microseconds, 1) if microseconds > 0 else 0.0


def table(result: Result) -> str:
    """The result for people."""
    sessions, tunnels, generator = result.sessions, result.tunnels, result.generator
    rows: list[tuple[str, str]] = [
        ("server", result.lns),
        ("tunnels", f"{tunnels.opened} of {tunnels.asked}, {tunnels.per_second:,.0f} per second"),
        ("sessions", f"{sessions.opened:,} of {sessions.asked:,} in {sessions.seconds:.2f} s"),
        ("set-up rate", f"{sessions.per_second:,.0f} per second{_mark(generator.setup_limited)}"),
        ("latency", _spread_text(sessions.latency_ms)),
        ("late starts", _spread_text(sessions.late_ms)),
        *_reasons("tunnel failed", tunnels.failed),
        *_reasons("set-up failed", sessions.failed),
        *_reasons("session lost", sessions.lost),
    ]
    if sessions.cleared:
        rows.append(("cleared", f"{sessions.cleared:,}"))
    if sessions.renegotiated:
        rows.append(("PPP renegotiated", f"{sessions.renegotiated:,}"))
    for name, direction in (("up", result.up), ("down", result.down)):
        if direction is not None:
            rows.append((f"packets {name}", _direction_text(direction) + _mark(generator.traffic_limited)))
    rows.append(("generator", _generator_text(generator)))
    if result.server is not None:
        rows.append(("server process", _server_text(result.server)))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _mark(limited: bool) -> str:
    return "  (limited by the generator)" if limited else ""


def _spread_text(s: Spread | None) -> str:
    if s is None:
        return "-"
    return f"p50 {s.p50:.1f} ms, p90 {s.p90:.1f} ms, p99 {s.p99:.1f} ms, max {s.max:.1f} ms"


def _reasons(name: str, counts: dict[str, int]) -> list[tuple[str, str]]:
    return [(name, f"{count:,}  {reason}") for reason, count in sorted(counts.items())]


def _direction_text(d: Direction) -> str:
    text = f"{d.due:,} due, {d.sent:,} sent"
    lost = d.sent - d.received
    return (
        f"{text}, {d.received:,} received, {lost:,} lost; longest gap {d.longest_gap_ms:.1f} ms, "
        f"of one session {d.longest_session_gap_ms:.1f} ms"
    )


def _server_text(s: Server) -> str:
    return (
        f"{s.setup_cpu_share:.0%} of a core during set-up, {s.setup_wait_share:.0%} taken from it by others, "
        f"{s.traffic_cpu_share:.0%} during traffic, "
        f"memory {s.rss_before / MIB:.1f} MiB, then {s.rss_after / MIB:.1f} MiB"
    )


def _generator_text(g: Generator) -> str:
    parts = [f"{g.setup_cpu_share:.0%} of a core during set-up"]
    if g.traffic_cpu_share:
        parts.append(f"{g.traffic_cpu_share:.0%} during traffic, core side {g.core_cpu_share:.0%}")
    parts.append(f"{g.retransmitted:,} control messages sent again")
    if g.refused:
        parts.append(f"{g.refused:,} datagrams refused")
    return ", ".join(parts)
