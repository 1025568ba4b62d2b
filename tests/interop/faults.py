"""The faults of the restart matrix, each as something that happens to lines, whoever their peers are.

Every one asserts that it really happened: the process was killed, the peer's message was on the wire in the outage.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from holdfast.daemon.views import SessionView
from holdfast.lab import stand_in
from holdfast.lab.topology import slow_wire
from holdfast.records import session_key
from holdfast.wire.codes import Msg
from interop.lines import Line
from interop.outage import (
    Before,
    connect,
    ended,
    expect_clear_and_call,
    expect_unnoticed,
    hang_up,
    kill,
    observe,
    outage,
    recovered,
    restart,
    stations,
    until_said,
)
from interop.rig import RECOVERY_S, Station, until

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
    """Every peer ends its call in the outage: so do we. Tunnels stay, and the next calls come up in them.

    After a longer outage we cannot know what was ended, the call or the tunnel: a tunnel without a call left goes too.
    """
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
        if seconds < b.line.repeats_until_s:
            assert b.line.tunnel.id == b.tunnel.id
        b.line.expect_traffic()


def icrq(calling: Sequence[Line], quiet: Sequence[Line], seconds: float) -> None:
    """Further subscribers of the peers call in the outage: they are connected afterwards."""
    before = observe(quiet)
    kill(quiet, before)
    for line in calling:
        line.call()
    until_said(calling, Msg.ICRQ)
    time.sleep(seconds)
    restart(quiet)
    recovered(quiet)
    for line in calling:
        line.connected()
        line.expect_traffic()
    expect_unnoticed(before)
    hang_up(calling)
    expect_clear_and_call(quiet)


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


HALF_MADE: Mapping[str, Callable[[SessionView], bool]] = {
    "call": lambda session: session.state in ("wait-connect", "wait-reply"),
    "lcp": lambda session: session.state == "established" and session.ppp_state == "establish",
    "authentication": lambda session: session.ppp_state == "authenticate",
    "ipcp": lambda session: session.ppp_state == "network",
}
"""How far a call has come when we are killed, as our own list of sessions tells."""

SLOWLY_MS = 200


def during_set_up(calling: Sequence[Line], quiet: Sequence[Line], moment: str) -> None:
    """Killed with calls half-made: a minute later they are nowhere, or whole; tunnels and other sessions stay."""
    before = observe(quiet)
    tunnels = [line.tunnel for line in calling]
    kill_half_made(calling, before, moment)
    restart(quiet)
    recovered(quiet)
    for line in calling:
        _until_decided(line)
    expect_unnoticed(before)
    connect(calling)
    for line, tunnel in zip(calling, tunnels, strict=True):
        line.expect_pings()
        assert (line.tunnel.id, line.tunnel.peer_id) == (tunnel.id, tunnel.peer_id), line.name
    hang_up(calling)
    expect_clear_and_call(quiet)


def kill_half_made(calling: Sequence[Line], before: Sequence[Before], moment: str) -> None:
    """Place calls slowly, and kill each node when one of its calls has come as far as that."""
    with ExitStack() as slowly:
        for net in {line.net for line in calling}:
            slowly.enter_context(slow_wire(net, SLOWLY_MS))
        for station in stations(calling):
            there = [line for line in calling if line.station is station]
            for line in there:
                line.call()
            _until_half_made(there, moment)
            _kill_among(station, before, there)


def _until_half_made(lines: Sequence[Line], moment: str) -> None:
    until(lambda: any(map(HALF_MADE[moment], _half_made(lines))), moment)


def _half_made(lines: Sequence[Line]) -> list[SessionView]:
    return [session for line in lines if (session := line.session) is not None]


def _kill_among(station: Station, before: Sequence[Before], calling: Sequence[Line]) -> None:
    """Kill while some calls are being made: what was established before is on record."""
    established = {b.session.key for b in before if b.line.station is station}
    made = {session.key for session in _half_made(calling)}
    recorded = {session_key(r.tunnel_id, r.local_id) for r in station.kill().sessions}
    assert established <= recorded <= established | made
    assert made - recorded, "every call was made already"


def _until_decided(line: Line) -> None:
    until(lambda: whole(line) or nowhere(line), f"{line.name} to be whole or nowhere", RECOVERY_S)


def whole(line: Line) -> bool:
    """Whether both ends have the same call."""
    return line.ready() is not None and line.at_peer is not None


def nowhere(line: Line) -> bool:
    """Whether neither end has a call, not even half of one."""
    return line.session is None and line.at_peer is None and not line.half_made_at_peer


def after_many_messages(lines: Sequence[Line], *aged: Line, hellos: int = WRAPPING) -> None:
    """So many control messages have passed in the tunnel of each line, or of these lines alone, one after the other."""
    before = observe(lines)
    time.sleep(HINT_S)
    kill(lines, before)
    for line in aged or lines:
        stand_in.exchange_hellos(line.station.journal, line.station.namespace, line.kind, hellos)
    restart(lines)
    recovered(lines)
    for b in before:
        if not aged or b.line in aged:
            assert (b.line.tunnel.ns - b.tunnel.ns - hellos) % 65536 < 20
    expect_unnoticed(before)
    expect_clear_and_call(lines)
