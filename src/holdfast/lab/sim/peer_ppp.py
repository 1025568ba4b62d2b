"""PPP at the end of somebody else's call: LCP, PAP or CHAP, IPCP and echoes, as much as a session needs.

It shares no code with `ppp`. A server asks for PAP and gives an address; a client takes what it is asked for. Echoes go
out while the link is up; four of them without an answer end it, and so does a set-up that takes too long.
"""

from collections.abc import Callable
from hashlib import md5
from random import Random
from struct import pack
from typing import Final

from holdfast.core.clock import SECOND, Duration, Instant

LCP: Final = 0xC021
PAP: Final = 0xC023
CHAP: Final = 0xC223
IPCP: Final = 0x8021
FRAME: Final = b"\xff\x03"

REQUEST: Final = 1
ACK: Final = 2
NAK: Final = 3
REJECT: Final = 4
TERMINATE: Final = 5
TERMINATED: Final = 6
PROTOCOL_REJECT: Final = 8
ECHO: Final = 9
ECHOED: Final = 10

CHALLENGE: Final = 1
RESPONSE: Final = 2
SUCCESS: Final = 3

IDENTIFYING: Final = 0
"""The stage between LCP and IPCP."""

AUTH: Final = 3
MAGIC: Final = 5
ADDRESS: Final = 3
KNOWN: Final = {LCP: frozenset((1, 2, AUTH, MAGIC, 7, 8)), IPCP: frozenset((ADDRESS,))}

RETRY: Duration = 3 * SECOND
SET_UP: Duration = 30 * SECOND
ECHO_INTERVAL: Duration = 20 * SECOND
ECHO_FAILURES: Final = 4
LATE: Final = "not set up in time"
OURS: Final = b"\x64\x40\x00\x01"


class Ppp:
    """One end of a link. `failed` says why it is over; its owner hangs up."""

    def __init__(
        self,
        random: Random,
        send: Callable[[bytes], None],
        now: Instant,
        *,
        user: bytes,
        secret: bytes,
        gives: bytes = b"",
    ) -> None:
        """`gives` is the address that a server has for its client; a client has none to give."""
        self.up = False
        self.failed = ""
        self._user, self._secret, self._gives = user, secret, gives
        self._send_frame = send
        self._magic = pack(">I", random.randrange(1, 1 << 32))
        self._id = random.randrange(256)
        self._address = OURS if gives else bytes(4)
        self._fails_at = now + SET_UP
        self._echo_at: Instant = 0
        self._unanswered = 0
        self._begin(now)

    def _begin(self, now: Instant) -> None:
        """LCP, for the first time or once more."""
        self.up = False
        self._mine: set[int] = set()
        self._theirs: set[int] = set()
        self._asked_for = 0
        self._identified = False
        self._response: tuple[int, bytes] | None = None
        self._requests: dict[int, int] = {}
        self._stage = LCP
        self._say_again(now)

    @property
    def begun_at(self) -> Instant:
        """When the present set-up, or the last one, began."""
        return self._fails_at - SET_UP

    # Time.

    def deadline(self) -> Instant:
        """When `timer` wants to be called."""
        return self._echo_at if self.up else min(self._again_at, self._fails_at)

    def timer(self, now: Instant) -> None:
        """Ask again, ask for an echo, give up."""
        if self.up:
            if self._unanswered >= ECHO_FAILURES:
                self.failed = "no echoes"
            elif now >= self._echo_at:
                self._unanswered += 1
                self._echo_at = now + ECHO_INTERVAL
                self._say(LCP, ECHO, self._magic)
        elif now >= self._fails_at:
            self.failed = LATE
        elif now >= self._again_at:
            self._say_again(now)

    def _say_again(self, now: Instant) -> None:
        """What the present stage calls for; an agreement of one side alone is asked for anew (RFC 1661 4.1, Ack-Rcvd)."""
        self._again_at = now + RETRY
        if self._stage in (LCP, IPCP):
            self._mine.discard(self._stage)
            self._request(self._stage)
        elif self._asked_for == PAP:
            texts = bytes((len(self._user),)) + self._user + bytes((len(self._secret),)) + self._secret
            self._say(PAP, REQUEST, texts)
        elif self._response is not None:
            number, body = self._response
            self._say(CHAP, RESPONSE, body, number)

    def _advance(self, now: Instant) -> None:
        """Go on to the next stage once this one is complete."""
        if self._stage == LCP and self._open(LCP):
            self._identified = not self._asked_for and not self._gives
            self._stage = IDENTIFYING
            self._say_again(now)
        if self._stage == IDENTIFYING and self._identified:
            self._stage = IPCP
            self._say_again(now)
        if self._stage == IPCP and self._open(IPCP) and not self.up:
            self.up = True
            self._unanswered = 0
            self._echo_at = now + ECHO_INTERVAL

    def _request(self, protocol: int) -> None:
        if protocol == IPCP:
            options = _option(ADDRESS, self._address)
        else:
            options = _option(MAGIC, self._magic) + (_option(AUTH, pack(">H", PAP)) if self._gives else b"")
        self._say(protocol, REQUEST, options)
        self._requests[protocol] = self._id

    def _open(self, protocol: int) -> bool:
        return protocol in self._mine and protocol in self._theirs

    # Receiving.

    def receive(self, payload: bytes, now: Instant) -> None:
        """A frame, with or without ff 03."""
        payload = payload.removeprefix(FRAME)
        size = 1 if payload[0] & 1 else 2
        protocol = int.from_bytes(payload[:size], "big")
        packet = payload[size:]
        code, number = packet[0], packet[1]
        body = packet[4 : int.from_bytes(packet[2:4], "big")]
        self._unanswered = 0
        if protocol == LCP and code in (TERMINATE, TERMINATED, ECHO, ECHOED, PROTOCOL_REJECT):
            self._housekeeping(code, number, body)
        elif protocol != LCP and self._stage == LCP:
            return
        elif protocol in KNOWN:
            self._negotiate(protocol, code, number, body, now)
        elif protocol == PAP:
            self._on_pap(code, number, body, now)
        elif protocol == CHAP:
            self._on_chap(code, number, body, now)
        elif LCP in self._mine:
            self._say(LCP, PROTOCOL_REJECT, payload)
        self._advance(now)

    def _housekeeping(self, code: int, number: int, body: bytes) -> None:
        if code == TERMINATE:
            self._say(LCP, TERMINATED, b"", number)
            self.failed = "terminated"
        elif code == ECHO and self._open(LCP):
            self._say(LCP, ECHOED, self._magic + body[4:], number)

    def _negotiate(self, protocol: int, code: int, number: int, body: bytes, now: Instant) -> None:
        if code == REQUEST:
            if self._open(protocol):
                self._anew(protocol, now)
            elif protocol == IPCP:
                self._identified = self._identified or not self._gives  # the Success was lost
            self._answer(protocol, number, body)
        elif number != self._requests.get(protocol):
            return
        elif code == ACK:
            self._mine.add(protocol)
        elif code == NAK and protocol == IPCP:
            self._address = _options(body).get(ADDRESS, self._address)
            self._request(IPCP)

    def _anew(self, protocol: int, now: Instant) -> None:
        """A request for what is open: the other end negotiates once more, and so do we (RFC 1661 4.1)."""
        self._fails_at = now + SET_UP
        if protocol == LCP:
            self._begin(now)
        else:
            self.up = False
            self._theirs.discard(IPCP)
            self._say_again(now)

    def _answer(self, protocol: int, number: int, body: bytes) -> None:
        options = _options(body)
        unknown = b"".join(
            _option(kind, value) for kind, value in options.items() if kind not in KNOWN[protocol]
        )
        if unknown:
            self._say(protocol, REJECT, unknown, number)
            return
        if protocol == LCP:
            self._asked_for = int.from_bytes(options.get(AUTH, b"")[:2], "big")
        elif self._gives and options.get(ADDRESS) != self._gives:
            self._say(protocol, NAK, _option(ADDRESS, self._gives), number)
            return
        self._theirs.add(protocol)
        self._say(protocol, ACK, body, number)

    def _on_pap(self, code: int, number: int, body: bytes, now: Instant) -> None:
        if code == REQUEST and self._gives:
            self._identified = True
            self._say(PAP, ACK, b"\0", number)
        elif code == ACK:
            self._identified = True
        elif code == NAK:
            self.failed = "not authenticated"

    def _on_chap(self, code: int, number: int, body: bytes, now: Instant) -> None:
        if code == CHALLENGE:
            challenge = body[1 : 1 + body[0]]
            value = md5(bytes((number,)) + self._secret + challenge, usedforsecurity=False).digest()
            self._response = number, bytes((16,)) + value + self._user
            self._say(CHAP, RESPONSE, self._response[1], number)
        elif code == SUCCESS:
            self._identified = True
        else:
            self.failed = "not authenticated"

    # Sending.

    def _say(self, protocol: int, code: int, body: bytes, number: int | None = None) -> None:
        if number is None:
            self._id = (self._id + 1) % 256
            number = self._id
        self._send_frame(FRAME + pack(">HBBH", protocol, code, number, 4 + len(body)) + body)


def _option(kind: int, value: bytes) -> bytes:
    return bytes((kind, 2 + len(value))) + value


def _options(body: bytes) -> dict[int, bytes]:
    found = {}
    while body:
        found[body[0]] = body[2 : body[1]]
        body = body[body[1] :]
    return found
