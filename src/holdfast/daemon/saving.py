"""What a node writes of a session: its record when PPP has agreed, its deletion when it ends, or that it cannot be used.

Where nobody asks after sessions when a restarted node is back (silent recovery), a session's writes carry the numbers
of its tunnel: the tunnel lives by them.
"""

from holdfast.daemon.effects import ERROR, Effect, Log, Persist
from holdfast.daemon.line import Line
from holdfast.protocol.context import Context
from holdfast.protocol.recovery import choose
from holdfast.protocol.settings import Method
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import PppRecord, SessionRecord, session_key
from holdfast.records.writes import ForgetSession, Hint, Save, SetAside


def save(ctx: Context, line: Line, agreed: PppRecord, out: list[Effect]) -> None:
    """Record the session with what PPP has agreed."""
    line.saved = True
    out.append(Persist(line.key, (Save(line.record(agreed)), *_numbers(ctx, line.tunnel))))


def forget(ctx: Context, line: Line, out: list[Effect]) -> None:
    """Delete the session's record before its address is free, and, where nobody asks after sessions when we are
    back, before its CDN or the acknowledgement of the peer's leaves: else a crash would bring back half a session.
    """
    deletion, tunnel = ForgetSession(line.key), line.tunnel
    numbers = _numbers(ctx, tunnel) if tunnel.recorded else ()
    if numbers:
        out.append(Persist(line.tunnel_id, (deletion, *numbers)))
    out.append(Persist(line.key, (deletion,)))


def set_aside(record: SessionRecord, reason: str, out: list[Effect]) -> None:
    """A record that cannot be used is kept for people to look at."""
    fields = {"kind": "session", "tunnel": record.tunnel_id, "session": record.local_id, "reason": reason}
    out.append(Log("record.quarantined", fields, ERROR))
    out.append(Persist(session_key(record.tunnel_id, record.local_id), (SetAside(record, reason),)))


def _numbers(ctx: Context, tunnel: Tunnel) -> tuple[Hint, ...]:
    return (ctx.hint(tunnel),) if choose(ctx, tunnel) is Method.SILENT else ()
