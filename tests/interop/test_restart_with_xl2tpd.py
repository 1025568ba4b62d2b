"""kill -9 and restart of our LNS and of our LAC in front of xl2tpd and pppd, which do not notice.

Four lines meet each fault at once: our LNS and our LAC, each with a tunnel without a secret and one with.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from holdfast.daemon.views import SessionView
from holdfast.lab import stand_in
from holdfast.lab.topology import slow_wire
from holdfast.wire.codes import Msg
from interop.outage import (
    ENDED_S,
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
    said_by,
    stations,
)
from interop.rig import GUARDED, OPEN, OUTSIDE, until
from interop.xl2tpd_lines import Line, Stage, our_lac, our_lns

pytestmark = pytest.mark.skipif(OUTSIDE is not None, reason=str(OUTSIDE))

WRAPPING = 70_000
RECORDED_S = 1.5
"""By then the numbers of a quiet tunnel are on record exactly."""

EITHER = [
    pytest.param("lns", OPEN),
    pytest.param("lac", GUARDED),
    pytest.param("lns", GUARDED, marks=pytest.mark.full),
    pytest.param("lac", OPEN, marks=pytest.mark.full),
]
"""Our role and the kind of tunnel, where one is enough."""

HELLO_AFTER_S = 60
"""xl2tpd says HELLO so long after the tunnel was set up, and again."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stage]]:
    with our_lns(tmp_path_factory.mktemp) as lns, our_lac(tmp_path_factory.mktemp) as lac:
        yield {"lns": lns, "lac": lac}


@pytest.fixture
def lines(stages: dict[str, Stage]) -> list[Line]:
    """All lines, connected. What a test that failed has left behind is cleared away first."""
    lines = [line for stage in stages.values() for line in stage.lines.values()]
    for station in stations(lines):
        station.revive()
    for line in lines:
        if line.ready() is None and line.daemon.calls:
            line.node.control.clear_tunnel(line.tunnel.id)
            line.released()
    connect(lines)
    return lines


@pytest.mark.parametrize("seconds", [0, 5, 20])
def test_idle(lines: list[Line], seconds: int) -> None:
    before = observe(lines)
    outage(lines, before, seconds)
    expect_unnoticed(before)
    expect_clear_and_call(lines)


@pytest.mark.parametrize("seconds", [0, 5, 20])
def test_under_traffic(lines: list[Line], seconds: int, tmp_path: Path) -> None:
    before = observe(lines)
    with ExitStack() as at_end:
        pings = [at_end.enter_context(closing(line.pings(tmp_path))) for line in lines]
        transfers = [at_end.enter_context(closing(line.transfer(tmp_path))) for line in lines]
        until(lambda: all(ping.last_answered > 2 for ping in pings), "pings before the kill")
        assert all(transfer.running for transfer in transfers)
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


def test_twice_in_a_row(lines: list[Line]) -> None:
    before = observe(lines)
    kill(lines, before)
    restart(lines)
    for station in stations(lines):
        until(lambda station=station: station.happened("node.data_flows"), "data to flow")  # type: ignore[misc]
    outage(lines, before)
    outage(lines, before)
    expect_unnoticed(before)
    expect_clear_and_call(lines)


@pytest.mark.parametrize("seconds", [5, 20])
def test_hello_during_the_outage(lines: list[Line], seconds: int) -> None:
    """Of a tunnel that is a minute old, which xl2tpd never is for the first time again: so all are new ones."""
    hang_up(lines)
    for line in lines:
        line.node.control.clear_tunnel(line.tunnel.id)
    connect(lines)
    before = observe(lines)
    ages = [b.tunnel.established_utc_us / 1e6 for b in before]
    assert max(ages) - min(ages) < 2, "the HELLOs come too far apart"
    time.sleep(max(ages) + HELLO_AFTER_S + 2 - seconds - time.time())
    kill(lines, before)
    time.sleep(seconds)
    said = restart(lines)
    assert all(said_by(line, said, Msg.HELLO) for line in lines), said
    recovered(lines)
    expect_unnoticed(before)
    expect_clear_and_call(lines)


@pytest.mark.parametrize("seconds", [2, 20])
def test_cdn_during_the_outage(lines: list[Line], seconds: int) -> None:
    before = observe(lines)
    kill(lines, before)
    for line in lines:
        line.daemon.signal_pppd(signal.SIGKILL)
    time.sleep(seconds)
    said = restart(lines)
    assert all(said_by(line, said, Msg.CDN) for line in lines), said
    recovered(lines)
    for b in before:
        ended(b)
    connect(lines)
    for b in before:
        assert b.line.tunnel.id == b.tunnel.id
        b.line.expect_pings()


@pytest.mark.parametrize("seconds", [2, 20])
def test_stopccn_during_the_outage(lines: list[Line], seconds: int) -> None:
    before = observe(lines)
    kill(lines, before)
    for b in before:
        b.line.peer_ends_tunnel(b.tunnel)
    time.sleep(seconds)
    said = restart(lines)
    assert all(said_by(line, said, Msg.STOPCCN) for line in lines), said
    recovered(lines)
    for b in before:
        ended(b)
        until(lambda b=b: not has_tunnel(b), f"the tunnel of {b.line.name} to end", ENDED_S)  # type: ignore[misc]
    connect(lines)
    for b in before:
        assert b.line.tunnel.id != b.tunnel.id
        b.line.expect_traffic()


def has_tunnel(b: Before) -> bool:
    """Whether our tunnel of before is still up."""
    return any(t.id == b.tunnel.id and t.state == "established" for t in b.line.node.control.tunnels())


@pytest.mark.parametrize(("earlier", "later"), [(0, 2), (10, 10)])
@pytest.mark.parametrize("caller", [OPEN, GUARDED])
def test_icrq_during_the_outage(
    stages: dict[str, Stage], lines: list[Line], caller: str, earlier: int, later: int
) -> None:
    """A LAC's call comes up. An LNS's is refused, as we serve no incoming calls there.

    xl2tpd says it for the last time after 15 s: then we have to be there.
    """
    calling = stages["lns"].lines[caller]
    hang_up([calling])
    quiet = [line for line in lines if line is not calling]
    before = observe(quiet)
    called = stages["lac"].lines[caller]
    kill(lines, before)
    time.sleep(earlier)
    assert calling.daemon.connect()
    called.daemon.call_on(next(b.tunnel.peer_id for b in before if b.line is called))
    time.sleep(later)
    said = restart(lines)
    assert said_by(calling, said, Msg.ICRQ)
    assert said_by(called, said, Msg.ICRQ)
    recovered(lines)
    calling.connected()
    calling.expect_traffic()
    until(lambda: called.daemon.calls == 1, "the LNS's call to end")
    expect_unnoticed(b for b in before if b.line is not called)
    assert called.connected() == next(b.session for b in before if b.line is called)
    expect_clear_and_call(lines)


@pytest.mark.parametrize(("role", "kind"), EITHER)
def test_after_many_messages(stages: dict[str, Stage], lines: list[Line], role: str, kind: str) -> None:
    """So many that Ns has wrapped, and is numerically lower than what it was."""
    line = stages[role].lines[kind]
    ours = list(stages[role].lines.values())
    before = observe(lines)
    time.sleep(RECORDED_S)
    kill([line], before)
    stand_in.exchange_hellos(line.station.journal, line.station.namespace, kind, WRAPPING)
    restart(ours)
    recovered([line])
    then = next(b.tunnel for b in before if b.line is line)
    assert then.ns < 65536 - WRAPPING % 65536, "the numbers before are past the wrap themselves"
    assert WRAPPING % 65536 <= line.tunnel.ns - then.ns < WRAPPING % 65536 + 64
    expect_unnoticed(before)
    expect_clear_and_call(lines)


HALF_MADE: dict[str, Callable[[SessionView], bool]] = {
    "icrq": lambda session: session.state in ("wait-connect", "wait-reply"),
    "lcp": lambda session: session.state == "established" and session.ppp_state == "establish",
    "chap": lambda session: session.ppp_state == "authenticate",
    "ipcp": lambda session: session.ppp_state == "network",
}
"""How far a call has come when we are killed, as our own list of sessions tells."""

WIRE_DELAY_MS = 200
"""So that each of these moments lasts."""


@pytest.mark.parametrize("moment", HALF_MADE)
@pytest.mark.parametrize("kind", [OPEN, GUARDED])
def test_during_set_up(stages: dict[str, Stage], lines: list[Line], kind: str, moment: str) -> None:
    """What was half made is nowhere a minute later, unless it was made after all; nothing else is touched."""
    calling = [stage.lines[kind] for stage in stages.values()]
    hang_up(calling)
    before = observe(line for line in lines if line not in calling)
    for stage in stages.values():
        line = stage.lines[kind]
        with slow_wire(line.net, WIRE_DELAY_MS):
            line.call()
            until(lambda line=line: line.session is not None and HALF_MADE[moment](line.session), moment)  # type: ignore[misc]
            kill([line], before)
            time.sleep(2 * WIRE_DELAY_MS / 1000)  # what we said is still on its way
            stage.station.tap.take()
        restart(stage.lines.values())
    recovered(lines)
    for line in calling:
        until(lambda line=line: whole(line) or free(line), f"nothing half-made at {line.name}", 60)  # type: ignore[misc]
    expect_unnoticed(before)
    connect(lines)
    expect_clear_and_call(lines)


def whole(line: Line) -> bool:
    """Whether both ends have one call, and it is the same."""
    return line.ready() is not None and line.daemon.calls == 1


def free(line: Line) -> bool:
    """Whether neither end has a call."""
    return line.session is None and line.daemon.calls == 0 and line.daemon.pppd is None
