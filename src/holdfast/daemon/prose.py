"""The story of a tunnel's recovery in plain words: from the facts of a `WhyView`, and from nothing else."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from holdfast.daemon.evidence import CONTRADICTIONS
from holdfast.daemon.recoveries import FIRST_STEPS
from holdfast.daemon.views import ChoiceView, RecoveryView, StepView, WhyView
from holdfast.protocol.effects import Cause, RecoveryPhase
from holdfast.protocol.recovery import RECOVERY_ENDPOINT, REMOTE_ENDPOINT, Why
from holdfast.protocol.settings import Method
from holdfast.protocol.silent import ROLE as SILENT
from holdfast.records import FailoverCapability

METHODS: Final[Mapping[str, str]] = {
    Method.RFC4951.value: "RFC 4951",
    Method.SILENT.value: "silent resynchronisation",
    Method.OFF.value: "nothing, which is its end",
}

STEPS: Final[Mapping[tuple[str, str], str]] = {
    (RECOVERY_ENDPOINT, RecoveryPhase.STARTED.value): (
        "RFC 4951: SCCRQ on a recovery tunnel, with the ids of this one (Tunnel Recovery AVP) and a tie breaker"
        " (RFC 4951 3.2.1)"
    ),
    (RECOVERY_ENDPOINT, RecoveryPhase.RESET.value): (
        "RFC 4951: the SCCRP was genuine; our side of the control channel was reset to the numbers that it suggests"
        " (RFC 4951 3.2.2), and what was half set up was cleared (3.3, step I)"
    ),
    (RECOVERY_ENDPOINT, RecoveryPhase.CONFIRMED.value): (
        "RFC 4951: the peer has acknowledged the SCCCN, so it has reset as well; send side and receive side are in step"
        " at once (RFC 4951 3.2.2). Every session was asked about with FSQ (3.3, step III)"
    ),
    (RECOVERY_ENDPOINT, RecoveryPhase.SYNCHRONISED.value): (
        "RFC 4951: no question about a session is open any more (RFC 4951 3.3, step III)"
    ),
    (RECOVERY_ENDPOINT, RecoveryPhase.RETRIED.value): (
        "RFC 4951: tried again on a new recovery tunnel (RFC 4951 3.2.1)"
    ),
    (RECOVERY_ENDPOINT, RecoveryPhase.REFUSED.value): "RFC 4951: the peer refused (RFC 4951 3.2.1)",
    (RECOVERY_ENDPOINT, RecoveryPhase.FELL_BACK.value): (
        "RFC 4951: given up for silent resynchronisation; nobody had reset the tunnel, so its numbers still held"
        " (RFC 4951 3.2.1 would have it cleared)"
    ),
    (RECOVERY_ENDPOINT, RecoveryPhase.FAILED.value): (
        "the recovery has failed; the tunnel and its sessions were cleared without a message (RFC 4951 3.2.1)"
    ),
    (SILENT, RecoveryPhase.STARTED.value): (
        "silent: a HELLO with a number that the peer has had; it has to acknowledge the duplicate, and that tells its"
        " numbers (RFC 2661 5.8)"
    ),
    (SILENT, RecoveryPhase.CONFIRMED.value): (
        "silent: the peer has answered; its Nr is our next Ns: send side resynchronised (RFC 2661 5.8)"
    ),
    (SILENT, RecoveryPhase.SYNCHRONISED.value): (
        "silent: nothing that the peer has sent is missing here: receive side settled (RFC 2661 5.8)"
    ),
    (SILENT, RecoveryPhase.FELL_BACK.value): "silent: RFC 4951, which both had offered, was left to be tried",
    (SILENT, RecoveryPhase.FAILED.value): (
        "the recovery has failed; the tunnel and its sessions were cleared without a message"
    ),
    (REMOTE_ENDPOINT, RecoveryPhase.RESET.value): (
        "the peer had failed, and recovered this tunnel itself: its SCCCN was genuine, the control channel was reset"
        " (RFC 4951 3.2.1, 3.2.2), and what was half set up was cleared (3.3, step I)"
    ),
    (REMOTE_ENDPOINT, RecoveryPhase.CONFIRMED.value): (
        "both sides have reset; every session was asked about with FSQ (RFC 4951 3.3, step III)"
    ),
    (REMOTE_ENDPOINT, RecoveryPhase.SYNCHRONISED.value): (
        "no question about a session is open any more (RFC 4951 3.3, step III)"
    ),
}
"""What a step means, by role and phase."""

UNTRIED: Final = "nothing was tried; the tunnel and its sessions were cleared without a message"

ENDED: Final[Mapping[str, str]] = {
    Cause.PURGED.value: "not established before, cleared (RFC 4951 3.3, step I)",
    Cause.STALE.value: "unknown to the peer, cleared (RFC 4951 3.3, step III)",
    Cause.PEER.value: "ended by the peer",
    Cause.LOCAL.value: "ended from here",
    Cause.TUNNEL.value: "gone with the tunnel",
    Cause.TIMEOUT.value: "not answered",
}
"""What became of a session, by the cause of its end; other causes speak for themselves."""


def tell(why: WhyView) -> list[str]:
    """The whole story, line by line."""
    return list(_story(why))


def _story(why: WhyView) -> Iterator[str]:
    host = f" ({why.host_name})" if why.host_name else ""
    yield f"Tunnel {why.tunnel_id} to {why.peer_name}{host}: {why.state}."
    if why.choice is not None:
        lost = why.choice.method == Method.OFF.value
        would = "end it" if lost else f"use {METHODS[why.choice.method]}"
        yield f"A restart of ours now would {would}, because:"
        yield from _because(why.choice)
    if why.recovery is None:
        yield "No recovery of it is remembered."
        return
    began = _utc(why.recovery.started_utc_us)
    yield f"Its recovery {'began' if why.running else 'of'} {began}{' and is under way' if why.running else ''}:"
    if why.chosen is not None:
        yield f"- Chosen was {METHODS[why.chosen.method]}, because:"
        yield from ("  " + line for line in _because(why.chosen))
    yield from _steps(why)
    yield from _times(why)
    yield from _sessions(why)
    yield from _proof(why.recovery)


def _because(choice: ChoiceView) -> Iterator[str]:
    where = "for this peer" if choice.for_this_peer else "for all peers"
    yield f'- the method configured {where} is "{choice.configured}".'
    if choice.why == Why.CONFIGURED.value:
        return
    if _offers(choice.local_offer) or _offers(choice.peer_offer):
        yield f"- {_offer('we', choice.local_offer)}; {_offer('the peer', choice.peer_offer)}."
    else:
        yield "- neither side offered RFC 4951 (no AVP 76 with C=1)."
    failed = f"- in {_restarts(choice.contradictions)} RFC 4951 failed with this peer for tunnels that it still knew"
    if choice.why == Why.CONTRADICTED.value:
        yield (
            f"{failed}. It is tried first again from {_utc(choice.doubted_until_utc_us)}, or when the peer offers"
            " something else."
        )
    elif choice.why == Why.BOTH_OFFER.value and choice.contradictions:
        enough = choice.contradictions >= CONTRADICTIONS
        yield f"{failed}, {'long ago: it is due to be tried again' if enough else 'which is not enough to doubt it'}."


def _offers(offer: FailoverCapability | None) -> bool:
    return offer is not None and offer.control


def _offer(who: str, offer: FailoverCapability | None) -> str:
    if offer is None or not _offers(offer):
        return f"{who} did not offer RFC 4951 (no AVP 76 with C=1)"
    return (
        f"{who} offered RFC 4951 (AVP 76: C=1, D={offer.data:d}, Recovery Time {offer.recovery_time_ms} ms)"
    )


def _restarts(count: int) -> str:
    return "the last restart" if count == 1 else f"the last {count} restarts"


def _steps(why: WhyView) -> Iterator[str]:
    untried = why.chosen is not None and why.chosen.method == Method.OFF.value
    for number, step in enumerate(why.steps):
        if why.steps_left_out and number == FIRST_STEPS:
            yield f"- … {why.steps_left_out} steps are not remembered …"
        yield f"- {_after(step.at_ms)}: {_step(step, untried=untried)}"


def _step(step: StepView, *, untried: bool) -> str:
    meaning = UNTRIED if untried else STEPS.get((step.role, step.phase), f"{step.role}: {step.phase}")
    return f"{meaning}: {step.text}." if step.text else f"{meaning}."


def _times(why: WhyView) -> Iterator[str]:
    assert why.recovery is not None
    spoke, settled = why.recovery.control_recovered_ms, why.recovery.receive_settled_ms
    waiting = "not yet" if why.running else "never"
    yield (
        f"- Send side resynchronised {_after(spoke) if spoke is not None else waiting}, receive side settled"
        f" {_after(settled) if settled is not None else waiting}."
    )


def _sessions(why: WhyView) -> Iterator[str]:
    ended = "; ".join(f"{count} {ENDED.get(cause, cause)}" for cause, count in why.sessions_ended.items())
    yield (
        f"- Sessions: {why.sessions_before} when it began, {why.sessions_now} now;"
        f" {ended or 'none ended'} while it ran."
    )


def _proof(recovery: RecoveryView) -> Iterator[str]:
    if recovery.proof == "off":
        yield "- Nobody asks the sessions whether they forward (ppp.echo_interval_s is 0)."
    elif recovery.proof:
        waiting = f", {recovery.unproved} more not yet" if recovery.unproved else ""
        count = recovery.proved
        yield (
            f"- Proof of forwarding (LCP echo, RFC 1661 5.8): {count} {'session has' if count == 1 else 'sessions have'}"
            f" answered{waiting}; {recovery.silent_cleared} ended for want of an answer (CDN 1)."
        )


def _after(ms: int) -> str:
    return f"after {ms / 1000:.3f} s"


def _utc(utc_us: int) -> str:
    return datetime.fromtimestamp(utc_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
