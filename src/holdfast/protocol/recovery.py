"""What both roles of a recovery share (RFC 4951 3.2): the control channel reset and its consequences.

`recovery_endpoint` recovers tunnels after a failure of our own; `remote_endpoint` answers a peer that does so.
"""

from enum import Enum
from typing import NamedTuple

from holdfast.core.clock import Instant
from holdfast.protocol import calls, sync
from holdfast.protocol.context import Context
from holdfast.protocol.effects import Persist, Recovery, RecoveryPhase
from holdfast.protocol.settings import Method
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import FailoverCapability
from holdfast.records.writes import Save

RECOVERY_ENDPOINT = "recovery-endpoint"
REMOTE_ENDPOINT = "remote-endpoint"


def capable(local: FailoverCapability | None, peer: FailoverCapability | None) -> bool:
    """Whether a control channel failure can be recovered: both sides said C=1 before it (F-30, T-24)."""
    return local is not None and peer is not None and local.control and peer.control


class Why(Enum):
    """What decided about the method; the value is the word in lists."""

    CONFIGURED = "configured"
    BOTH_OFFER = "both-offer"
    WE_DO_NOT_OFFER = "we-do-not-offer"
    PEER_DOES_NOT_OFFER = "peer-does-not-offer"
    CONTRADICTED = "contradicted"


class Choice(NamedTuple):
    """How a tunnel is to be recovered, and why so."""

    method: Method
    why: Why


def decide(ctx: Context, old: Tunnel) -> Choice:
    """How `old` is to be recovered. `auto` is RFC 4951 where both ends offered it and experience does not speak
    against it, silent resynchronisation elsewhere. RFC 4951 alone is nothing where one end did not offer it.
    """
    wanted = configured(ctx, old)
    both = capable(old.local_failover, old.peer_failover)
    if wanted is Method.RFC4951 and not both:
        return Choice(Method.OFF, _who_does_not_offer(old))
    if wanted is not Method.AUTO:
        return Choice(wanted, Why.CONFIGURED)
    if both:
        if old.evidence.rfc4951_fails:
            return Choice(Method.SILENT, Why.CONTRADICTED)
        return Choice(Method.RFC4951, Why.BOTH_OFFER)
    return Choice(Method.SILENT, _who_does_not_offer(old))


def _who_does_not_offer(old: Tunnel) -> Why:
    peer = old.peer_failover
    return Why.WE_DO_NOT_OFFER if peer is not None and peer.control else Why.PEER_DOES_NOT_OFFER


def choose(ctx: Context, old: Tunnel) -> Method:
    """How `old` is to be recovered."""
    return decide(ctx, old).method


def configured(ctx: Context, old: Tunnel) -> Method:
    """The peer's method, else that of all."""
    return old.peer.method or ctx.settings.failover.method


def may_fall_back(ctx: Context, old: Tunnel) -> bool:
    """Whether one method may give way to the other: only where the choice was ours (`auto`)."""
    return configured(ctx, old) is Method.AUTO


def may_ask(ctx: Context, old: Tunnel) -> bool:
    """Whether RFC 4951 is left where silent resynchronisation finds no answer."""
    return may_fall_back(ctx, old) and capable(old.local_failover, old.peer_failover)


def reset(ctx: Context, old: Tunnel, ns: int, nr: int, now: Instant) -> None:
    """Control channel reset (3.2.2) and step I of 3.3: flush, renumber, clear what was half-made (F-40, F-58).

    The new numbers are recorded at once: silent resynchronisation after a second failure lives by them.
    """
    old.channel.reset(ns, nr, now)
    old.clear_at = None
    old.postponed = False
    old.hello_at = ctx.next_hello(now)
    old.sync = None
    old.resync = None
    old.orphans = None
    for session in old.sessions.values():
        session.queries = 0
        session.requeried = False
    calls.purge(ctx, old)
    s = ctx.settings
    ctx.hint(old)
    saved = Save(old.record(s.local_address, s.local_port, s.host_name))
    ctx.emit(Persist(ctx.lane_of_its_own(), (saved,)))


def resume(ctx: Context, old: Tunnel, role: str, now: Instant) -> None:
    """Both ends have reset: speak on the old tunnel, ask about its sessions, place the calls that waited."""
    ctx.emit(Recovery(old.local_id, old.peer.name, role, RecoveryPhase.CONFIRMED))
    sync.start(ctx, old, role, now)
    calls.request_waiting(ctx, old, now)
    old.channel.release(now)
    ctx.flush(old)
