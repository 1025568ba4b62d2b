"""PAP (RFC 1334) and CHAP with MD5 (RFC 1994): the side that demands and the side that proves.

A `Verifier` lives from LCP's opening until AAA's answer, a `Prover` until the peer's. Neither compares a secret: the
verifier hands credentials to AAA.

Invariants: every challenge has a new identifier and a new value (P-21); one question to AAA at a time.
"""

from hashlib import md5
from typing import Final

from holdfast.core.auth import CHAP, PAP, Credentials
from holdfast.core.clock import Instant
from holdfast.core.ids import RandomBytes
from holdfast.ppp.config import LinkConfig
from holdfast.ppp.effects import Effect, Transmit
from holdfast.ppp.packet import packet

REQUEST: Final = 1
"""CHAP Challenge, PAP Authenticate-Request."""
RESPONSE: Final = 2
SUCCESS: Final = {CHAP: 3, PAP: 2}
FAILURE: Final = {CHAP: 4, PAP: 3}

CHALLENGE_SIZE: Final = 16
RESPONSE_SIZE: Final = 16
MAX_NAME: Final = 253
"""Longest name taken from a peer, in octets: what a RADIUS User-Name holds."""
MAX_MESSAGE: Final = 255


def chap_response(identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """RFC 1994 4.1: MD5 over identifier, secret, challenge."""
    return md5(bytes((identifier,)) + secret + challenge, usedforsecurity=False).digest()


def respond(config: LinkConfig, identifier: int, challenge_body: bytes) -> bytes | None:
    """The CHAP Response to a Challenge, or None if that is no Challenge."""
    size = challenge_body[0] if challenge_body else 0
    challenge = challenge_body[1 : 1 + size]
    if not size or len(challenge) != size:
        return None
    value = chap_response(identifier, config.secret, challenge)
    return packet(CHAP, RESPONSE, identifier, bytes((len(value),)) + value + config.name.encode())


def verdict(method: int, accepted: bool, identifier: int, message: str) -> bytes:
    """The packet that tells a peer how its authentication ended."""
    text = message.encode()[:MAX_MESSAGE]
    body = bytes((len(text),)) + text if method == PAP else text
    return packet(method, (SUCCESS if accepted else FAILURE)[method], identifier, body)


class Verifier:
    """Demands authentication by `method` and turns what comes into credentials."""

    __slots__ = ("_challenge", "_tries", "deadline", "identifier", "method", "name", "waiting")

    def __init__(self, method: int, config: LinkConfig) -> None:
        self.method = method
        self.identifier = 0
        """That of the last Challenge, or of the peer's last packet."""
        self.name = ""
        self.waiting = False
        """Whether AAA has been asked."""
        self.deadline: Instant = 0
        self._challenge = b""
        self._tries = config.max_configure

    def prompt(
        self, config: LinkConfig, identifier: int, random: RandomBytes, now: Instant, out: list[Effect]
    ) -> bool:
        """Start, or the restart timer has run out: challenge anew, or wait on. False: waited long enough.

        `identifier` is for a Challenge; no Response to an earlier one may be under way that has it.
        """
        if self._tries <= 0:
            return False
        self._tries -= 1
        self.deadline = now + config.restart
        if self.method == CHAP and not self.waiting:
            self.identifier = identifier
            self._challenge = random(CHALLENGE_SIZE)
            body = bytes((CHALLENGE_SIZE,)) + self._challenge + config.name.encode()
            out.append(Transmit(packet(CHAP, REQUEST, self.identifier, body)))
        return True

    def receive(self, protocol: int, code: int, identifier: int, body: bytes) -> Credentials | None:
        """The credentials in a packet; None if it is none that is wanted now."""
        if self.waiting or protocol != self.method:
            return None
        if protocol == CHAP:
            found = self._response(code, identifier, body)
        else:
            found = self._password(code, identifier, body)
        if found is not None:
            self.name, self.identifier, self.waiting = found.name, identifier, True
        return found

    def _response(self, code: int, identifier: int, body: bytes) -> Credentials | None:
        if code != RESPONSE or identifier != self.identifier or not body or body[0] != RESPONSE_SIZE:
            return None
        name = body[1 + RESPONSE_SIZE :]
        if len(body) < 1 + RESPONSE_SIZE or len(name) > MAX_NAME:
            return None
        return Credentials(
            method=CHAP,
            name=name.decode(errors="replace"),
            chap_id=identifier,
            challenge=self._challenge,
            response=body[1 : 1 + RESPONSE_SIZE],
        )

    def _password(self, code: int, identifier: int, body: bytes) -> Credentials | None:
        if code != REQUEST or not body or len(body) < 2 + body[0]:
            return None
        at = 1 + body[0]
        name, size = body[1:at], body[at]
        password = body[at + 1 : at + 1 + size]
        if len(password) != size or len(name) > MAX_NAME:
            return None
        return Credentials(method=PAP, name=name.decode(errors="replace"), password=password)


class Prover:
    """Proves who we are, by the `method` that the peer demanded."""

    __slots__ = ("_identifier", "_said", "_tries", "deadline", "method")

    def __init__(self, method: int, config: LinkConfig, identifier: int) -> None:
        """`identifier` is the last one used."""
        self.method = method
        self.deadline: Instant = 0
        self._tries = config.max_configure
        self._identifier = identifier
        self._said = b""

    def prompt(self, config: LinkConfig, now: Instant, out: list[Effect]) -> bool:
        """Start, or the restart timer has run out: say it (again). False: waited long enough.

        With CHAP the peer begins; our Response is repeated because its Success may be lost (RFC 1994 4.2).
        """
        if self._tries <= 0:
            return False
        self._tries -= 1
        self.deadline = now + config.restart
        if self.method == PAP:
            self._identifier = (self._identifier + 1) & 0xFF
            name = config.name.encode()
            body = bytes((len(name),)) + name + bytes((len(config.secret),)) + config.secret
            self._said = packet(PAP, REQUEST, self._identifier, body)
        if self._said:
            out.append(Transmit(self._said))
        return True

    def receive(
        self, config: LinkConfig, protocol: int, code: int, identifier: int, body: bytes
    ) -> bytes | bool | None:
        """A packet to send in answer, or how it ended (True: we are in), or None."""
        if protocol != self.method:
            return None
        if protocol == CHAP and code == REQUEST:
            response = respond(config, identifier, body)
            if response is not None:
                self._identifier, self._said = identifier, response
            return response
        if self._said and identifier == self._identifier and code in (SUCCESS[protocol], FAILURE[protocol]):
            return code == SUCCESS[protocol]
        return None
