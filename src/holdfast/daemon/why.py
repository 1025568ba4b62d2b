"""Why a tunnel is recovered the way it is, or was, or would be: the facts of one tunnel, and the same in words."""

from msgspec.structs import replace

from holdfast.daemon import prose, recoveries
from holdfast.daemon.choices import choice_view
from holdfast.daemon.ledger import Ledger
from holdfast.daemon.recoveries import Recoveries
from holdfast.daemon.views import WhyView
from holdfast.protocol.context import Context


def why_view(ctx: Context, ledger: Ledger, remembered: Recoveries, tunnel_id: int) -> WhyView | None:
    """The story of a tunnel that is there, or whose recovery is remembered; None if it is neither."""
    tunnel = ctx.tunnels.get(tunnel_id)
    if tunnel is not None and (tunnel.is_recovery or not tunnel.recorded):
        tunnel = None  # it carries no sessions (any more), or is not set up yet: nobody would recover it
    state = remembered.latest(tunnel_id)
    if tunnel is not None:
        view = WhyView(
            tunnel_id=tunnel_id,
            peer_name=tunnel.peer.name,
            host_name=tunnel.peer_host_name,
            state="recovering" if tunnel.recovering else tunnel.state.name.lower(),
            choice=choice_view(ctx, ledger, tunnel),
        )
    elif state is not None:
        view = WhyView(
            tunnel_id=tunnel_id, peer_name=state.peer_name, host_name=state.host_name, state="gone"
        )
    else:
        return None
    if state is not None:
        view = replace(
            view,
            recovery=recoveries.view(state),
            running=remembered.is_running(state),
            chosen=state.choice,
            steps=state.steps,
            steps_left_out=state.steps_left_out,
            sessions_before=state.sessions_before,
            sessions_now=len(tunnel.by_peer) if tunnel is not None else 0,
            sessions_ended={cause.value: count for cause, count in state.ended.items()},
        )
    return replace(view, text=prose.tell(view))
