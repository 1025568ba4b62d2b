"""Calls that a peer keeps and that we lost: they were being set up when our process ended, so no record names them.

RFC 4951 finds them by FSQ. A peer that lacks it names them itself, with a message or a PPP frame for a session that
does not exist here, and is answered with a CDN: our lost id in its Assigned Session ID, the peer's own in the header,
from that message or as the process before this one has noted it (`Called`).

A CDN with 0 in its header (RFC 2661 4.4.4) would do harm: l2tpns finds no call by it, and xl2tpd ends the whole tunnel.
Where the peer's id is not known the call is left to the peer's own time-outs.

Invariants: only on a tunnel that is or was resynchronised silently (until it may speak, the CDN waits); never for a
session that exists, nor for one that this process has ended itself; each lost id once, since a CDN is delivered;
within the limits of `pace`.
"""

from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.protocol import pace
from holdfast.protocol.closing import send_cdn
from holdfast.protocol.context import Context
from holdfast.protocol.limits import TokenBucket
from holdfast.protocol.tunnel import Orphans, Tunnel
from holdfast.wire.codes import Cdn, General


def look_out(tunnel: Tunnel) -> None:
    """The tunnel has been resynchronised silently: its peer may hold calls that we lost."""
    tunnel.orphans = Orphans(before=set(tunnel.ids.recent), limit=TokenBucket(pace.ORPHANS_PER_TUNNEL))


def named(ctx: Context, tunnel: Tunnel, session_id: int, now: Instant, peer_session_id: int = 0) -> bool:
    """The peer has named the session `session_id` of ours, which does not exist. Ends the peer's if we lost it: True."""
    orphans = tunnel.orphans
    if orphans is None or not session_id or session_id in tunnel.sessions:
        return False
    if not tunnel.established or tunnel.own_recovery is not None:
        return False
    if tunnel.ids.freed_recently(session_id) and session_id not in orphans.before:
        return False
    peer_session_id = peer_session_id or ctx.calls_before(tunnel.local_id, session_id, tunnel.peer_id)
    if not peer_session_id or peer_session_id in tunnel.by_peer:
        return False
    if not (orphans.limit.take(now) and ctx.orphan_limit.take(now)):
        return False
    orphans.before.discard(session_id)
    tunnel.ids.remember((session_id,))
    ctx.count(Counter.ORPHANS_ENDED)
    ctx.trace("session.lost_call", tunnel=tunnel.local_id, session=session_id, peer=tunnel.peer.name)
    send_cdn(
        tunnel,
        peer_session_id,
        session_id,
        now,
        Cdn.GENERAL_ERROR,
        General.INVALID_SESSION,
        "lost in a restart",
    )
    return True
