"""Echoes: an opened link asks whether its peer is alive, and answers when it is asked (RFC 1661 5.8, P-9)."""

from holdfast.core.clock import Instant
from holdfast.ppp.effects import Cause, Effect, Transmit
from holdfast.ppp.packet import Code, packet
from holdfast.ppp.phases.terminate import finish
from holdfast.ppp.state import LCP, State


def due(link: State, now: Instant, out: list[Effect]) -> None:
    """The peer has been silent for an interval: ask, or give up."""
    if link.missed >= link.config.echo_failures and not link.holding:
        finish(link, Cause.ECHO_TIMEOUT, "", out)
        return
    request(link, now, out)


def request(link: State, now: Instant, out: list[Effect]) -> None:
    """Ask."""
    link.missed += 1
    link.deadline = now + link.config.echo_interval
    magic = link.local.magic.to_bytes(4, "big")
    out.append(Transmit(packet(LCP, Code.ECHO_REQUEST, link.next_identifier(), magic)))


def receive(link: State, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]) -> None:
    """An Echo-Request, an Echo-Reply or a Discard-Request."""
    if len(body) < 4:
        return
    magic = int.from_bytes(body[:4], "big")
    if magic and magic != link.peer.magic and (link.peer.magic or magic == link.local.magic):
        _wrong_magic(link, magic, out)
        return
    link.activity(now)
    if code == Code.ECHO_REQUEST:
        reply = link.local.magic.to_bytes(4, "big") + body[4:]
        out.append(Transmit(packet(LCP, Code.ECHO_REPLY, identifier, reply)))


def _wrong_magic(link: State, magic: int, out: list[Effect]) -> None:
    """A looped line, or another peer than the one agreed with (P-10): worse than silence, so it counts alike."""
    if not link.opened or link.holding:
        return
    link.missed += 1
    if link.missed > link.config.echo_failures:
        cause = Cause.LOOPBACK if magic == link.local.magic else Cause.MISCONFIGURED
        finish(link, cause, "", out)
