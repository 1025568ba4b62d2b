"""Authenticate: a server demands proof and asks AAA, a client proves who it is; then comes Network."""

import msgspec

from holdfast.core.auth import CHAP, PAP, Accept, Answer, Credentials, Reject
from holdfast.core.clock import Instant
from holdfast.ppp import authentication
from holdfast.ppp.authentication import Prover, Verifier
from holdfast.ppp.effects import Authenticate, Cause, Effect, Transmit
from holdfast.ppp.phases import network
from holdfast.ppp.phases.terminate import terminate
from holdfast.ppp.state import Phase, State

_ANOTHER_USER = Reject("another user's session")


def begin(link: State, now: Instant, out: list[Effect]) -> None:
    """LCP is open."""
    link.phase = Phase.AUTHENTICATE
    if link.local.auth:
        link.auth = Verifier(link.local.auth, link.config)
    elif link.server:
        _ask(link, Credentials(method=0, name=""), now, out)
    elif link.peer.auth:
        link.auth = Prover(link.peer.auth, link.config, link.identifier)
    else:
        network.begin(link, now, out)
    prompt(link, now, out)


def prompt(link: State, now: Instant, out: list[Effect]) -> bool:
    """Start, or the Restart timer has run out. False: waited long enough."""
    if isinstance(link.auth, Verifier):
        identifier = link.next_identifier()
        if link.record is not None and identifier == link.record.auth_id:
            identifier = link.next_identifier()  # the Response of that one may still be repeated (P-23)
        return link.auth.prompt(link.config, identifier, link.random, now, out)
    return link.auth is None or link.auth.prompt(link.config, now, out)


def receive(
    link: State, protocol: int, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]
) -> None:
    """A PAP or CHAP packet."""
    if link.phase is Phase.NETWORK:
        _authenticated_before(link, protocol, code, identifier, body, out)
    elif link.phase is not Phase.AUTHENTICATE:
        return
    elif isinstance(link.auth, Verifier):
        if link.asked:
            return
        credentials = link.auth.receive(protocol, code, identifier, body)
        if credentials is not None:
            _ask(link, credentials, now, out)
    elif link.auth is not None:
        reply = link.auth.receive(link.config, protocol, code, identifier, body)
        if reply is True:
            link.auth = None
            network.begin(link, now, out)
        elif reply is False:
            text = body[1:] if protocol == PAP else body
            terminate(link, Cause.AUTH_FAILED, text.decode(errors="replace"), now, out)
        elif reply is not None:
            out.append(Transmit(reply))


def answer(link: State, answer: Answer, now: Instant, out: list[Effect]) -> None:
    """AAA's answer. One that comes too late is remembered for its address only."""
    link.asked = False
    auth = link.auth
    stale = link.phase is not Phase.AUTHENTICATE or (isinstance(auth, Verifier) and not auth.waiting)
    if isinstance(answer, Accept):
        held = link.assigned
        link.accept = answer = msgspec.structs.replace(answer, address=held) if held else answer
        if not stale:
            _admit(link, answer, now, out)
    elif not stale:
        _refuse(link, answer, now, out)


def _authenticated_before(
    link: State, protocol: int, code: int, identifier: int, body: bytes, out: list[Effect]
) -> None:
    """Answer a repeated Response as it was answered before (P-23); as a client, a new challenge (P-24)."""
    if link.local.auth == protocol:
        verifier, accept, record = link.verifier, link.accept, link.record
        if verifier is not None and accept is not None:
            known, message = verifier.identifier, accept.message
        elif record is not None:
            known, message = record.auth_id, record.auth_message
        else:
            return
        repeated = code == authentication.RESPONSE and identifier == known
        if repeated if protocol == CHAP else code == authentication.REQUEST:
            out.append(Transmit(authentication.verdict(protocol, True, identifier, message)))
    elif link.peer.auth == protocol == CHAP and code == authentication.REQUEST:
        response = authentication.respond(link.config, identifier, body)
        if response is not None:
            out.append(Transmit(response))


def _ask(link: State, credentials: Credentials, now: Instant, out: list[Effect]) -> None:
    """Ask AAA. A session belongs to one user: another name on it is refused here."""
    if link.record is not None and credentials.name != link.record.auth_name:
        _refuse(link, _ANOTHER_USER, now, out)
    else:
        link.asked = True
        out.append(Authenticate(credentials, link.assigned))


def _admit(link: State, accept: Accept, now: Instant, out: list[Effect]) -> None:
    if (verifier := link.verifier) is not None:
        success = authentication.verdict(verifier.method, True, verifier.identifier, accept.message)
        out.append(Transmit(success))
    network.begin(link, now, out)


def _refuse(link: State, reject: Reject, now: Instant, out: list[Effect]) -> None:
    if (verifier := link.verifier) is not None:
        failure = authentication.verdict(verifier.method, False, verifier.identifier, reject.message)
        out.append(Transmit(failure))
    cause = Cause.NO_RESOURCES if reject.temporary else Cause.AUTH_FAILED
    terminate(link, cause, reject.message, now, out)
