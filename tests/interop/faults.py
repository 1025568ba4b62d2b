"""The faults of the restart matrix, each as something that happens to lines, whoever their peers are.

Every one asserts that it really happened: the process was killed, the peer's message was on the wire in the outage.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from holdfast.lab import stand_in
from holdfast.wire.codes import Msg
from interop.lines import Line
from interop.outage import (
    connect,
    ended,
    expect_clear_and_call,
    expect_unnoticed,
    kill,
    observe,
    outage,
    recovered,
    restart,
    stations,
    until_said,
)
from interop.rig import until

WRAPPING = 70_000
"""More control messages than there are sequence numbers."""

HINT_S = 1.5
"""After this long of silence the numbers on record are exact."""


def idle(lines: Sequence[Line], seconds: float) -> None:
    """Nothing is under way but what the peers do by themselves."""
    before = observe(lines)
    outage(lines, before, seconds)
    expect_unnoticed(before)
    expect_clear_and_call(lines)


def under_traffic(lines: Sequence[Line], seconds: float, directory: Path) -> None:
    """Every subscriber pings, and has a TCP connection that outlives the kill."""
    before = observe(lines)
    with ExitStack() as at_end:
        pings = [at_end.enter_context(closing(line.pings(directory))) for line in lines]
        transfers = [at_end.enter_context(closing(line.transfer(directory))) for line in lines]
        until(lambda: all(ping.last_answered > 2 for ping in pings), "pings before the kill")
        kill(lines, before)
        time.sleep(seconds)
        answered = [ping.last_answered for ping in pings]
        assert all(transfer.running for transfer in transfers)
        restart(lines)
        recovered(lines)
        until(
            lambda: all(ping.last_answered > n for ping, n in zip(pings, answered, strict=True)),
            "pings after the restart",
        )
        for transfer in transfers:
            transfer.finish()
    expect_unnoticed(before)
    expect_clear_and_call(lines)


def twice_in_a_row(lines: Sequence[Line]) -> None:
    """Killed while it recovers, and again once it has recovered."""
    before = observe(lines)
    kill(lines, before)
    restart(lines)
    for station in stations(lines):
        until(lambda station=station: station.happened("node.data_flows"), "data to flow")  # type: ignore[misc]
    outage(lines, before)
    outage(lines, before)
    expect_unnoticed(before)
    expect_clear_and_call(lines)


def hello(lines: Sequence[Line], limit_s: float) -> None:
    """Every peer asks for a sign of life in the outage, within `limit_s`."""
    before = observe(lines)
    kill(lines, before)
    until_said(lines, Msg.HELLO, limit_s)
    restart(lines)
    recovered(lines)
    expect_unnoticed(before)
    expect_clear_and_call(lines)


def cdn(lines: Sequence[Line], seconds: float) -> None:
    """Every peer ends its call in the outage: so do we. Tunnels stay, and the next calls come up in them."""
    before = observe(lines)
    kill(lines, before)
    for b in before:
        b.line.peer_ends_call(b.session)
    until_said(lines, Msg.CDN)
    time.sleep(seconds)
    restart(lines)
    recovered(lines)
    for b in before:
        ended(b)
    connect(lines)
    for b in before:
        assert b.line.tunnel.id == b.tunnel.id
        b.line.expect_traffic()


def stopccn(lines: Sequence[Line], seconds: float) -> None:
    """Every peer ends its tunnel in the outage: so do we, and the next calls come up in new ones."""
    before = observe(lines)
    kill(lines, before)
    for b in before:
        b.line.peer_ends_tunnel(b.tunnel)
    until_said(lines, Msg.STOPCCN)
    time.sleep(seconds)
    restart(lines)
    recovered(lines)
    for b in before:
        ended(b)
        b.line.without_tunnel(b.tunnel.id)
    connect(lines)
    for b in before:
        assert b.line.tunnel.id != b.tunnel.id
        b.line.expect_traffic()


def after_many_messages(lines: Sequence[Line], hellos: int = WRAPPING) -> None:
    """So many control messages have passed in each tunnel."""
    before = observe(lines)
    time.sleep(HINT_S)
    kill(lines, before)
    for line in lines:
        stand_in.exchange_hellos(line.station.journal, line.station.namespace, line.kind, hellos)
    restart(lines)
    recovered(lines)
    for b in before:
        assert (b.line.tunnel.ns - b.tunnel.ns - hellos) % 65536 < 20
    expect_unnoticed(before)
    expect_clear_and_call(lines)
