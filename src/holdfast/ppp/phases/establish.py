"""Establish: LCP opens, or opens anew, and Authenticate follows."""

from holdfast.core.clock import Instant
from holdfast.ppp import echo
from holdfast.ppp.automaton import Event
from holdfast.ppp.effects import Cause, Effect
from holdfast.ppp.negotiation import Outcome
from holdfast.ppp.packet import Code
from holdfast.ppp.phases import authenticate
from holdfast.ppp.phases.terminate import lcp_fell, new_lcp, resumed_lcp, terminate
from holdfast.ppp.state import IPCP, Lcp, Phase, State


def begin(link: State, magic: int, now: Instant, out: list[Effect]) -> None:
    """Negotiate from the beginning."""
    link.phase = Phase.ESTABLISH
    link.lcp = new_lcp(link, magic)
    link.lcp.event(Event.OPEN, now, out)


def receive(link: State, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]) -> None:
    """An LCP packet. Raises Malformed."""
    lcp = link.lcp
    if Code.PROTOCOL_REJECT <= code <= Code.DISCARD_REQUEST:  # what LCP takes in Opened only
        if lcp is not None:
            return
        if code == Code.PROTOCOL_REJECT:
            link.activity(now)
            _on_protocol_reject(link, int.from_bytes(body[:2], "big"), now, out)
        else:
            echo.receive(link, code, identifier, body, now, out)
        return
    if lcp is None:
        lcp = resumed_lcp(link)
    if code == Code.TERMINATE_REQUEST and link.ending is None:
        link.ending = (Cause.PEER_TERMINATED, "")
    became(link, lcp, lcp.receive(code, identifier, body, now, out), now, out)
    link.activity(now)


def became(link: State, lcp: Lcp, outcome: Outcome, now: Instant, out: list[Effect]) -> None:
    """LCP has made a step."""
    if outcome is not Outcome.UP:
        lcp_fell(link, lcp, outcome, now, out)
        return
    link.identifier = lcp.identifier
    link.lcp = None
    link.local, link.peer, link.ending = lcp.options.local, lcp.options.peer, None
    authenticate.begin(link, now, out)


def _on_protocol_reject(link: State, protocol: int, now: Instant, out: list[Effect]) -> None:
    """The peer does not speak what it has agreed to (P-8)."""
    if protocol == IPCP and link.phase is Phase.NETWORK:
        terminate(link, Cause.IPCP_FAILED, "the peer does not speak IPCP", now, out)
    elif link.auth is not None and protocol == link.auth.method and link.phase is Phase.AUTHENTICATE:
        terminate(link, Cause.AUTH_REFUSED, "the peer rejects the protocol it agreed to", now, out)
