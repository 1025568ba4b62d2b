"""What the ledger and the endpoint say about peers and methods, as rows for operators."""

from holdfast.daemon.ledger import Ledger
from holdfast.daemon.views import ChoiceView, MethodView, PeerView
from holdfast.protocol.context import Context
from holdfast.protocol.recovery import configured, decide
from holdfast.protocol.tunnel import Tunnel
from holdfast.records.ledger import MethodRecord, PeerKey


def choice_view(ctx: Context, ledger: Ledger, tunnel: Tunnel) -> ChoiceView:
    """By which method a tunnel would be recovered at this moment, and why."""
    choice = decide(ctx, tunnel)
    key = (tunnel.peer.name, tunnel.peer_host_name)
    record = ledger.entry(key)
    return ChoiceView(
        method=choice.method.value,
        why=choice.why.value,
        configured=configured(ctx, tunnel).value,
        for_this_peer=tunnel.peer.method is not None,
        local_offer=tunnel.local_failover,
        peer_offer=tunnel.peer_failover,
        contradictions=record.contradictions if record is not None else 0,
        doubted_until_utc_us=ledger.doubted_until_utc_us(key),
    )


def peer_view(ctx: Context, ledger: Ledger, key: PeerKey) -> PeerView | None:
    """One row of `show peers`."""
    record = ledger.entry(key)
    if record is None:
        return None
    tunnels = [ctx.tunnels[i] for i in ledger.tunnels(key) if i in ctx.tunnels]
    return PeerView(
        name=record.name,
        host_name=record.host_name,
        tunnels=len(tunnels),
        method=decide(ctx, tunnels[0]).method.value if tunnels else "",
        vendor=record.vendor,
        firmware=record.firmware,
        window=record.window,
        offered=record.offered,
        rfc4951=_method_view(record.rfc4951),
        silent=_method_view(record.silent),
        contradictions=record.contradictions,
        doubted_until_utc_us=ledger.doubted_until_utc_us(key),
        kept_ms=record.kept_ms,
        lost_ms=record.lost_ms,
        answered=record.answered,
        seen_utc_us=record.seen_utc_us,
    )


def _method_view(method: MethodRecord) -> MethodView:
    return MethodView(
        attempts=method.attempts,
        successes=method.successes,
        failures=method.failures,
        last=method.last.value,
        last_utc_us=method.last_utc_us,
        last_reason=method.last_reason,
        send_last_ms=method.send_last_ms,
        send_worst_ms=method.send_worst_ms,
        receive_last_ms=method.receive_last_ms,
        receive_worst_ms=method.receive_worst_ms,
    )
