"""An outage of ours as the lines see it: what was before, the kill, what the peers said, what is after."""

import time
from collections.abc import Iterable, Mapping

import msgspec

from holdfast.daemon.views import SessionView, TunnelView
from holdfast.lab import tap
from holdfast.lab.tap import Said
from holdfast.records import SessionRecord, session_key
from holdfast.wire.codes import Msg
from interop.lines import Line
from interop.rig import LIMIT_S, Station, until

ENDED_S = 60.0
"""By then our side knows that the peer has ended a session, even if the peer has fallen silent about it."""


class Before(msgspec.Struct, frozen=True):
    """A line as it was before the fault: our tunnel and session, what the peer had, how much it had logged."""

    line: Line
    tunnel: TunnelView
    session: SessionView
    at_peer: object
    logged: int


def connect(lines: Iterable[Line]) -> None:
    """Let those call that are not connected, all at once."""
    waiting = [line for line in lines if line.ready() is None]
    for line in waiting:
        line.call()
    for line in waiting:
        line.connected()


def hang_up(lines: Iterable[Line]) -> None:
    """Let those hang up that are connected, all at once."""
    connected = [line for line in lines if line.session is not None]
    for line in connected:
        line.end()
    for line in connected:
        line.released()


def observe(lines: Iterable[Line]) -> list[Before]:
    """Note what must be the same afterwards."""
    return [Before(line, line.tunnel, line.connected(), line.at_peer, line.logged) for line in lines]


def stations(lines: Iterable[Line]) -> list[Station]:
    """The nodes where these lines end."""
    return list({id(line.station): line.station for line in lines}.values())


def kill(lines: Iterable[Line], before: Iterable[Before]) -> None:
    """Kill the nodes of the lines. What was established, and nothing else, is on record at that moment."""
    for station in stations(lines):
        recorded = {_key(record) for record in station.kill().sessions}
        assert recorded == {b.session.key for b in before if b.line.station is station}


def _key(record: SessionRecord) -> int:
    return session_key(record.tunnel_id, record.local_id)


def restart(lines: Iterable[Line]) -> Mapping[str, list[Said]]:
    """Start the nodes of the lines; returns what each line's peer said meanwhile, by the name of the line."""
    lines = list(lines)
    said = heard(lines)
    for station in stations(lines):
        station.restart()
    return said


def heard(lines: Iterable[Line]) -> Mapping[str, list[Said]]:
    """What each line's peer has said since the kill, by the name of the line."""
    lines = list(lines)
    said: dict[str, list[Said]] = {line.name: [] for line in lines}
    names = {(id(line.station), line.peer_address): line.name for line in lines}
    for station in stations(lines):
        for message in station.heard():
            if name := names.get((id(station), message.source)):  # otherwise it was a stand-in of ours
                said[name].append(message)
    return said


def until_said(lines: Iterable[Line], message: Msg, limit_s: float = LIMIT_S) -> None:
    """Wait until every peer has said this, with our nodes dead."""
    lines = list(lines)
    until(
        lambda: (said := heard(lines)) and all(said_by(line, said, message) for line in lines),
        f"{message.name} of every peer",
        limit_s,
    )


def recovered(lines: Iterable[Line]) -> None:
    """Wait until the tunnels of the lines are in step again."""
    for station in stations(lines):
        station.recovered()


def outage(lines: Iterable[Line], before: Iterable[Before], seconds: float = 0.0) -> None:
    """Kill the nodes of the lines, start them again after a while, and wait until they have recovered."""
    lines = list(lines)
    kill(lines, before)
    time.sleep(seconds)
    restart(lines)
    recovered(lines)


def expect_unnoticed(before: Iterable[Before]) -> None:
    """Everything is as it was, at the peers too, which do not complain, and traffic flows."""
    for b in before:
        line = b.line
        session = line.ready()
        assert session is not None, f"{line.name}: no session"
        assert (session.key, session.peer_id) == (b.session.key, b.session.peer_id), line.name
        assert (session.address, session.state) == (b.session.address, b.session.state), line.name
        assert (line.tunnel.id, line.tunnel.peer_id) == (b.tunnel.id, b.tunnel.peer_id), line.name
        assert line.at_peer == b.at_peer is not None, line.name
        assert not line.complaints(b.logged), line.name
        line.expect_traffic()


def expect_clear_and_call(lines: Iterable[Line]) -> None:
    """The calls end in order, and the next ones come up and forward."""
    lines = list(lines)
    hang_up(lines)
    connect(lines)
    for line in lines:
        line.expect_pings()


def said_by(line: Line, said: Mapping[str, list[Said]], message: Msg) -> int:
    """How often the peer of a line said this."""
    return tap.count(said[line.name], message, line.peer_address)


def ended(b: Before) -> None:
    """Wait until our side has let go of a session that the peer has ended."""
    until(lambda: now(b) is None or now(b) != b.session.key, f"our session of {b.line.name} to end", ENDED_S)


def now(b: Before) -> int | None:
    """The key of the session that a line has by now."""
    session = b.line.session
    return None if session is None else session.key
