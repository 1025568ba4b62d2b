"""Set-up rate at several numbers of sessions, latency at half the target rate, memory per session and in
the long run.
"""

import time
from collections.abc import Iterator

from holdfast.lab.bench.rig import SETTLE_S, Rig
from holdfast.lab.bench.rows import Row
from holdfast.lab.blast.result import MIB, Result

RATE = 3000
P99_MS = 50.0
OCTETS_PER_SESSION = 8192
GROWTH = 0.02
"""What resident memory may grow by over 100,000 set-ups and clears: the noise of the allocator."""
DISTURBED = 0.05
"""From this share on, other processes on the node's core have spoilt the figure."""
_IN_FLIGHT = 96


def rates(rig: Rig, counts: list[int]) -> Iterator[Row]:
    """Set-up rate and memory, a fresh LNS each time."""
    for count in counts:
        tunnels = max(10, min(100, count // 100))
        with rig.lns(users=count) as lns:
            result = rig.blast(
                lns, "--sessions", str(count), "--tunnels", str(tunnels), "--in-flight", str(_IN_FLIGHT)
            )
        rate = result.sessions.per_second
        yield _row(
            f"set-ups, {count:,} sessions in {tunnels} tunnels, {_IN_FLIGHT} in flight",
            f"{rate:,.0f}/s, p99 {_p99(result):.0f} ms",
            f"≥ {RATE:,}/s",
            rate >= RATE,
            result,
        )
        if result.server is not None and count >= 10_000:
            each = (result.server.rss_after - result.server.rss_before) / max(1, result.sessions.opened)
            yield Row(
                what=f"memory per session, {count:,} sessions",
                measured=f"{each:,.0f} octets",
                target=f"≤ {OCTETS_PER_SESSION:,}",
                met=each <= OCTETS_PER_SESSION,
                remarks=(
                    f"RSS {result.server.rss_before / MIB:.0f} → {result.server.rss_after / MIB:.0f} MiB",
                ),
            )


def half_rate(rig: Rig, count: int) -> Iterator[Row]:
    """Latency with calls on a fixed schedule at half the target rate."""
    with rig.lns(users=count) as lns:
        result = rig.blast(
            lns, "--sessions", str(count), "--tunnels", "100", "--rate", str(RATE // 2), "--in-flight", "2000"
        )
    late = result.sessions.late_ms
    p99 = _p99(result)
    yield _row(
        f"latency at {RATE // 2:,} set-ups/s, {count:,} sessions",
        f"p99 {p99:.1f} ms",
        f"< {P99_MS:.0f} ms",
        p99 < P99_MS and result.clean,
        result,
        f"starts late by p99 {late.p99 if late else 0:.1f} ms",
    )


def churn(rig: Rig, total: int) -> Iterator[Row]:
    """Memory over many set-ups and clears: it must not grow once it has reached its working size.

    The first half reaches it: ids stay reserved for a while, and closed tunnels linger (RFC 2661 5.7).
    """
    rounds, at_once = 10, 1000
    sizes: list[int] = []
    rates_seen: list[float] = []
    with rig.lns(users=total // rounds) as lns:
        for _ in range(rounds):
            result = rig.blast(
                lns,
                *("--sessions", str(at_once), "--total", str(total // rounds), "--tunnels", "20"),
                *("--in-flight", str(_IN_FLIGHT)),
            )
            rates_seen.append(result.sessions.per_second)
            time.sleep(SETTLE_S)
            sizes.append(lns.rss)
    growth = sizes[-1] / sizes[rounds // 2 - 1] - 1
    yield Row(
        what=f"memory over {total:,} set-ups and clears",
        measured=f"{growth:+.1%} over the second half",
        target=f"flat (≤ {GROWTH:.0%})",
        met=growth <= GROWTH,
        remarks=(
            "RSS " + ", ".join(f"{size / MIB:.1f}" for size in sizes) + " MiB",
            f"{min(rates_seen):,.0f} to {max(rates_seen):,.0f} set-ups/s beside as many clears",
        ),
    )


def _p99(result: Result) -> float:
    return result.sessions.latency_ms.p99 if result.sessions.latency_ms else 0.0


def _row(what: str, measured: str, target: str, met: bool, result: Result, *remarks: str) -> Row:
    if result.server is not None and result.sessions.opened:
        each = result.server.setup_cpu_share * result.sessions.seconds / result.sessions.opened
        remarks = (f"{each * 1e6:.0f} µs of the node's time per set-up", *remarks)
        if result.server.setup_wait_share > DISTURBED:
            remarks += (f"others kept the node waiting {result.server.setup_wait_share:.0%} of the time",)
    troubles = {**result.sessions.failed, **result.sessions.lost, **result.tunnels.failed}
    return Row(
        what=what,
        measured=measured,
        target=target,
        met=met,
        node=result.server.setup_cpu_share if result.server else None,
        generator=result.generator.setup_cpu_share,
        limited=result.generator.setup_limited,
        remarks=(*remarks, *(f"{count:,} of: {reason}" for reason, count in troubles.items())),
    )
