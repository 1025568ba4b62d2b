"""From records back to tunnels and sessions after a restart, and the choice of how each tunnel is recovered.

Nothing is said before every record is taken over: every id is reserved before any recovery tunnel gets one (T-18).
"""

from collections.abc import Iterable

from holdfast.core.clock import Duration, Instant
from holdfast.protocol import recovery, recovery_endpoint, resync, silent
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Persist
from holdfast.protocol.session import NO_CALL, Call, Session, SessionState
from holdfast.protocol.settings import Method, PeerSettings
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import SessionRecord, TunnelRecord
from holdfast.records.writes import SetAside


def restore(
    ctx: Context, tunnels: Iterable[TunnelRecord], sessions: Iterable[SessionRecord], now: Instant
) -> None:
    """Take over what the journal holds. A tunnel's record that raises is set aside, and its sessions are left out."""
    for record in tunnels:
        try:
            _tunnel(ctx, record, now)
        except Exception as e:  # noqa: BLE001 - one record that cannot be used must not keep the others away
            reason = f"{type(e).__name__}: {e}"
            ctx.trace("record.quarantined", "error", kind="tunnel", tunnel=record.local_id, reason=reason)
            ctx.emit(Persist(record.local_id, (SetAside(record, reason),)))
    ctx.tunnel_ids.reserve(ctx.tunnels)
    for saved in sessions:
        owner = ctx.tunnels.get(saved.tunnel_id)
        if owner is not None:
            _session(owner, saved)


def recover(ctx: Context, now: Instant) -> None:
    """Begin to recover every restored tunnel by the method that suits its peer."""
    for tunnel in ctx.established():
        if recovery.choose(ctx, tunnel) is Method.SILENT:
            silent.begin(ctx, tunnel, now, _patience(ctx, tunnel))
        else:
            recovery_endpoint.begin(ctx, tunnel, now)
        ctx.flush(tunnel)
    recovery_endpoint.start_queued(ctx, now)


def _patience(ctx: Context, tunnel: Tunnel) -> Duration:
    """How long silent probes may go unanswered; not to the end where RFC 4951 is left to be tried."""
    if recovery.may_ask(ctx, tunnel):
        return ctx.settings.failover.silent_patience
    return max(resync.PATIENCE, tunnel.evidence.patience)


def _tunnel(ctx: Context, record: TunnelRecord, now: Instant) -> None:
    found = ctx.find_peer(record.peer_address, record.peer_host_name)
    secret = record.secret.encode("utf-8", "surrogateescape")
    peer = PeerSettings(
        name=record.peer_name,
        secret=secret,
        host_name=record.peer_host_name,
        recovery_addresses=found.recovery_addresses if found is not None else (),
        method=found.method if found is not None else None,
    )
    tunnel = ctx.restored_tunnel(record, peer)
    tunnel.hello_at = ctx.next_hello(now)


def _session(tunnel: Tunnel, record: SessionRecord) -> None:
    call = NO_CALL
    if record.calling_number or record.called_number:
        call = Call(record.calling_number, record.called_number, record.tx_speed, record.rx_speed)
    session = Session(record.local_id, record.side, SessionState.ESTABLISHED, record.call_serial, call)
    session.peer_id = record.peer_id
    session.framing_type = record.framing_type
    session.established_utc_us = record.established_utc_us
    tunnel.ids.reserve((record.local_id,))
    tunnel.sessions[record.local_id] = session
    tunnel.by_peer[record.peer_id] = record.local_id
