"""Terminate: a link closes LCP in an orderly way, or is over at once. The first cause counts."""

from holdfast.core.clock import Instant
from holdfast.ppp.automaton import Event
from holdfast.ppp.automaton import State as Automaton
from holdfast.ppp.effects import NETWORK_DOWN, Cause, Effect, Finished
from holdfast.ppp.lcp import LcpOptions
from holdfast.ppp.negotiation import Negotiation, Outcome
from holdfast.ppp.state import LCP, Lcp, Phase, State


def terminate(link: State, cause: Cause, text: str, now: Instant, out: list[Effect]) -> None:
    """Close LCP; `Finished` follows when the peer has agreed, or has had its time."""
    link.ending = link.ending or (cause, text)
    lcp = link.lcp or resumed_lcp(link)
    lcp_fell(link, lcp, lcp.event(Event.CLOSE, now, out), now, out)


def finish(link: State, cause: Cause, text: str, out: list[Effect]) -> None:
    """The link is over."""
    network_down(link, out)
    over(link)
    out.append(Finished(cause, text))


def over(link: State) -> None:
    """Nothing comes back from here."""
    link.phase, link.asked = Phase.OVER, False
    link.lcp = link.auth = link.ipcp = link.accept = link.deadline = None


def network_down(link: State, out: list[Effect]) -> None:
    """Nothing flows any more, which must be known before anything else is done."""
    if link.opened:
        out.insert(0, NETWORK_DOWN)
    link.opened = False
    link.ipcp = None


def lcp_fell(link: State, lcp: Lcp, outcome: Outcome, now: Instant, out: list[Effect]) -> None:
    """LCP has made a step that did not open it; at rest in Opened only its result is kept."""
    link.identifier = lcp.identifier
    link.lcp = None if lcp.state is Automaton.OPENED else lcp
    if outcome is Outcome.DOWN:
        network_down(link, out)
        link.give_up = now + link.config.setup_timeout
        link.auth = None
        link.phase = Phase.ESTABLISH
    elif outcome is Outcome.OVER:
        finish(link, *(link.ending or (lcp.options.blame, "")), out)
        return
    if lcp.state is Automaton.CLOSING or lcp.state is Automaton.STOPPING:
        link.phase = Phase.TERMINATE


def new_lcp(link: State, magic: int) -> Lcp:
    """LCP from its beginning."""
    options = LcpOptions(link.config, magic, link.random)
    return Negotiation(LCP, options, link.config, link.identifier, link.peer.mru)


def resumed_lcp(link: State) -> Lcp:
    """LCP in Opened, as it was agreed; the magic number continues (K-4)."""
    magic = link.local.magic or int.from_bytes(link.random(4), "big") or 1
    lcp = new_lcp(link, magic)
    lcp.resume()
    return lcp
