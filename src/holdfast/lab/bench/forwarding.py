"""The TUN plane's packet rates beside a bare read, look-up and send loop in the same run (`bench_dataplane`)."""

from collections.abc import Iterator

from holdfast.lab import bench_dataplane
from holdfast.lab.bench.rows import Row

RATIO = 0.7
STRETCH = 150_000
SIZE = 64
_SESSIONS = 1000


def forwarding(rounds: int, seconds: float) -> Iterator[Row]:
    """Each direction alone. Raises LabUnavailable."""
    for row in bench_dataplane.measure([SIZE], seconds, rounds, _SESSIONS):
        yield Row(
            what=f"tun plane, {SIZE}-octet packets, {row.direction}",
            measured=f"{row.plane:,.0f}/s, {row.ratio:.2f} of the bare loop",
            target=f"≥ {RATIO} (stretch {STRETCH:,}/s)",
            met=row.ratio >= RATIO,
            node=row.plane_cpu_share,
            limited=row.generator_limited,
            remarks=(f"bare loop {row.bare:,.0f}/s", f"offered {row.offered:,.0f}/s"),
        )
