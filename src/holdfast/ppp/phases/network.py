"""Network: IPCP, and the record of what the link has agreed.

Invariant: what the link says never depends on a record that was not emitted as `Established` before (write before
speaking).
"""

from holdfast.core.auth import Accept
from holdfast.core.clock import Instant
from holdfast.ppp.automaton import Event
from holdfast.ppp.automaton import State as Automaton
from holdfast.ppp.effects import NETWORK_UP, Cause, Effect, Established
from holdfast.ppp.ipcp import ClientOptions, ServerOptions
from holdfast.ppp.negotiation import Negotiation, Outcome
from holdfast.ppp.packet import Code
from holdfast.ppp.phases.terminate import network_down, terminate
from holdfast.ppp.state import IPCP, Ipcp, Phase, State
from holdfast.records import PppRecord


def begin(link: State, now: Instant, out: list[Effect]) -> None:
    """The peer is who it has to be, or so are we."""
    link.phase = Phase.NETWORK
    link.ipcp = ipcp = _new_ipcp(link)
    ipcp.event(Event.OPEN, now, out)


def receive(link: State, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]) -> None:
    """An IPCP packet. Raises Malformed."""
    if link.phase is not Phase.NETWORK:
        return
    ipcp = link.ipcp
    if ipcp is None:
        ipcp = _new_ipcp(link)
        ipcp.resume()
    if code == Code.CONFIGURE_REQUEST:
        verdict, options = ipcp.judge(body)
        if verdict is Code.CONFIGURE_ACK and link.accept is not None and ipcp.state >= Automaton.REQ_SENT:
            _establish(link, _server_record(link, link.accept), out)
        outcome = ipcp.answer(verdict, options, identifier, now, out)
    else:
        outcome = ipcp.receive(code, identifier, body, now, out)
    became(link, ipcp, outcome, now, out)


def became(link: State, ipcp: Ipcp, outcome: Outcome, now: Instant, out: list[Effect]) -> None:
    """IPCP has made a step; at rest in Opened only the record is kept."""
    link.ipcp = None if ipcp.state is Automaton.OPENED else ipcp
    if outcome is Outcome.UP:
        _up(link, ipcp, now, out)
    elif outcome is Outcome.DOWN:
        network_down(link, out)
        link.give_up = now + link.config.setup_timeout
        link.ipcp = ipcp
    elif outcome is Outcome.OVER:
        terminate(link, Cause.IPCP_FAILED, "", now, out)


def _new_ipcp(link: State) -> Ipcp:
    """IPCP for this session, with the addresses that it has already (P-46)."""
    config, record, identifier = link.config, link.record, link.next_identifier()
    if link.server:
        server = ServerOptions(config.local_address, link.assigned, link.dns)
        return Negotiation(IPCP, server, config, identifier, link.peer.mru)
    client = ClientOptions(record.local_ip if record else "", record.dns if record else ())
    return Negotiation(IPCP, client, config, identifier, link.peer.mru)


def _up(link: State, ipcp: Ipcp, now: Instant, out: list[Effect]) -> None:
    if isinstance(ipcp.options, ClientOptions):
        if not ipcp.options.local:
            terminate(link, Cause.IPCP_FAILED, "the peer gives no address", now, out)
            return
        _establish(link, _client_record(link, ipcp.options), out)
    link.opened = True
    link.deadline = None
    link.give_up = 0
    link.auth = link.accept = None
    link.activity(now)
    out.append(NETWORK_UP)


def _establish(link: State, record: PppRecord, out: list[Effect]) -> None:
    """Give out the record, if it says anything new."""
    if record != link.record:
        link.record = record
        out.append(Established(record))


def _server_record(link: State, accept: Accept) -> PppRecord:
    verifier = link.verifier
    return PppRecord(
        local_lcp=link.local,
        peer_lcp=link.peer,
        auth_method=link.local.auth,
        auth_name=verifier.name if verifier else "",
        auth_id=verifier.identifier if verifier else 0,
        auth_message=accept.message,
        local_ip=link.config.local_address,
        peer_ip=accept.address,
        dns=link.dns,
    )


def _client_record(link: State, options: ClientOptions) -> PppRecord:
    return PppRecord(
        local_lcp=link.local,
        peer_lcp=link.peer,
        auth_method=link.peer.auth,
        auth_name=link.config.name if link.peer.auth else "",
        auth_id=0,
        auth_message="",
        local_ip=options.local,
        peer_ip=options.peer,
        dns=options.dns,
    )
