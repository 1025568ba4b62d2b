"""The PPP client of every call: LCP, PAP or CHAP-MD5, IPCP, echo; one object for all calls, state in
`Call`.

Frames come in canonical form (`frames`) and are told apart by one dictionary look-up on protocol and code.
The client accepts every option that costs nothing, rejects the rest (MRRU, endpoint discriminator, VJ),
asks for an address with 0.0.0.0 and takes the one of the Nak. RFC 1661, 1332, 1334, 1994.
"""

from collections.abc import Callable
from hashlib import md5
from typing import Final, Protocol

from holdfast.core.clock import SECOND, Instant
from holdfast.lab.blast.call import (
    IN_AUTH,
    IN_IPCP,
    IN_LCP,
    IPCP_BOTH,
    IPCP_OURS,
    IPCP_PEERS,
    LCP_BOTH,
    LCP_OURS,
    LCP_PEERS,
    OPEN,
    OVER,
    Call,
    Failure,
)
from holdfast.lab.blast.frames import (
    ACK,
    ADDRESS_CONTROL,
    BODY,
    CHAP,
    CODE,
    IDENTIFIER,
    IPCP,
    IPCP_ADDRESS,
    LCP,
    LCP_ACCM,
    LCP_ACFC,
    LCP_AUTH,
    LCP_MAGIC,
    LCP_MRU,
    LCP_PFC,
    LENGTH,
    MAGIC,
    NAK,
    PAP,
    PPP_HEAD,
    REJECT,
    REQUEST,
    U16,
    ppp,
)

RESTART = 3 * SECOND
"""RFC 1661 4.6; a lost frame therefore shows in the latencies."""

CHAP_MD5: Final = b"\xc2\x23\x05"
_LCP_WELCOME: Final = frozenset((LCP_MRU, LCP_ACCM, LCP_AUTH, LCP_MAGIC, LCP_PFC, LCP_ACFC))
_IPCP_WELCOME: Final = frozenset((IPCP_ADDRESS,))
_LCP_ACK: Final = LCP + bytes((ACK,))
_IPCP_ACK: Final = IPCP + bytes((ACK,))
_ECHO_REPLY: Final = LCP + b"\x0a"
_ASK_ADDRESS: Final = IPCP + b"\x01%c\x00\x0a\x03\x06"
_CHALLENGE_LENGTH: Final = BODY

Handler = Callable[[Call, bytes], None]


class Owner(Protocol):
    """Who is told what becomes of a call."""

    def opened(self, call: Call) -> None:
        """IPCP is agreed both ways."""

    def renegotiated(self, call: Call) -> None:
        """The peer began LCP again on an open session."""

    def ended(self, call: Call, reason: str) -> None:
        """The set-up failed, or the session is lost."""

    def packet(self, call: Call, data: bytes) -> None:
        """An IPv4 packet arrived, in its data message."""


class Client:
    """Handlers by protocol and code. `secret` gives a call's password, `send` puts a datagram on the wire."""

    __slots__ = ("_mru", "_owner", "_secret", "_send", "handlers")

    def __init__(
        self, owner: Owner, send: Callable[[bytes], object], secret: Callable[[Call], bytes], mru: int
    ) -> None:
        self._owner = owner
        self._send = send
        self._secret = secret
        self._mru = bytes((LCP_MRU, 4)) + U16.pack(mru)
        table: dict[tuple[bytes, int], Handler] = {
            (LCP, 1): self._lcp_request,
            (LCP, 2): self._lcp_ack,
            (LCP, 3): self._lcp_nak,
            (LCP, 4): self._lcp_reject,
            (LCP, 5): self._terminate,
            (LCP, 9): self._echo,
            (CHAP, 1): self._challenge,
            (CHAP, 3): self._authenticated,
            (CHAP, 4): self._refused,
            (PAP, 2): self._authenticated,
            (PAP, 3): self._refused,
            (IPCP, 1): self._ipcp_request,
            (IPCP, 2): self._ipcp_ack,
            (IPCP, 3): self._ipcp_nak,
            (IPCP, 4): self._ipcp_reject,
            (IPCP, 5): self._terminate,
        }
        self.handlers: dict[bytes, Handler] = {
            ADDRESS_CONTROL + protocol + bytes((code,)): handler
            for (protocol, code), handler in table.items()
        }
        for version_and_length in range(0x45, 0x50):
            self.handlers[ADDRESS_CONTROL + b"\x00\x21" + bytes((version_and_length,))] = owner.packet

    def start(self, call: Call, now: Instant, *, ask: bool) -> None:
        """The call is connected: begin LCP; without `ask` (the ICCN is still queued) the peer begins."""
        call.phase = IN_LCP
        call.agreed = 0
        call.resend_at = now + RESTART
        call.lcp_options = self._mru + b"\x05\x06" + call.magic
        if ask:
            self._ask_lcp(call)

    def timer(self, call: Call, now: Instant) -> None:
        """Ask again for what is not agreed yet, at most once per `RESTART`."""
        if now < call.resend_at:
            return
        call.resend_at = now + RESTART
        if call.phase == IN_LCP and not call.agreed & LCP_OURS:
            self._ask_lcp(call)
        elif call.phase == IN_AUTH and call.auth == PAP:
            self._ask_pap(call)
        elif call.phase == IN_IPCP and not call.agreed & IPCP_OURS:
            self._ask_ipcp(call)

    def unknown(self, call: Call, data: bytes) -> None:
        """A frame without a handler: Protocol-Reject for another NCP once LCP is open, else nothing."""
        protocol = data[8:10]
        if call.phase >= IN_AUTH and protocol not in (LCP, PAP, CHAP, IPCP, b"\x00\x21"):
            call.identifier = (call.identifier + 1) & 0xFF
            self._send(call.head + ppp(LCP, 8, call.identifier, protocol + data[CODE:]))

    def _ask_lcp(self, call: Call) -> None:
        call.identifier = (call.identifier + 1) & 0xFF
        self._send(call.head + ppp(LCP, REQUEST, call.identifier, call.lcp_options))

    def _lcp_request(self, call: Call, data: bytes) -> None:
        end = CODE + U16.unpack_from(data, LENGTH)[0]
        rejected = b""
        auth = b""
        at = BODY
        while at + 2 <= end:
            kind, size = data[at], data[at + 1]
            if size < 2 or at + size > end:
                return
            if kind == LCP_AUTH:
                auth = data[at + 2 : at + size]
            elif kind not in _LCP_WELCOME:
                rejected += data[at : at + size]
            at += size
        if call.phase >= IN_AUTH and call.phase != OVER:
            self._renegotiate(call)
        elif not call.identifier:
            self._ask_lcp(call)
        if rejected:
            self._send(call.head + ppp(LCP, REJECT, data[IDENTIFIER], rejected))
            return
        if auth and auth != CHAP_MD5 and auth != PAP:
            self._send(call.head + ppp(LCP, NAK, data[IDENTIFIER], bytes((LCP_AUTH, 5)) + CHAP_MD5))
            return
        call.auth = auth[:2]
        self._send(call.head + _LCP_ACK + data[IDENTIFIER:end])
        call.agreed |= LCP_PEERS
        if call.agreed & LCP_BOTH == LCP_BOTH:
            self._lcp_up(call)

    def _renegotiate(self, call: Call) -> None:
        if call.phase == OPEN:
            self._owner.renegotiated(call)
        call.phase = IN_LCP
        call.agreed = 0
        call.address = b"\0\0\0\0"
        self._ask_lcp(call)

    def _lcp_ack(self, call: Call, data: bytes) -> None:
        if data[IDENTIFIER] != call.identifier or call.phase != IN_LCP:
            return
        call.agreed |= LCP_OURS
        if call.agreed & LCP_BOTH == LCP_BOTH:
            self._lcp_up(call)

    def _lcp_nak(self, call: Call, data: bytes) -> None:
        if data[IDENTIFIER] != call.identifier or call.phase != IN_LCP:
            return
        wanted = _options(data)
        mine = _options_of(call.lcp_options)
        mine.update({kind: value for kind, value in wanted.items() if kind in mine})
        call.magic = mine.get(LCP_MAGIC, call.magic)
        call.lcp_options = _pack(mine)
        self._ask_lcp(call)

    def _lcp_reject(self, call: Call, data: bytes) -> None:
        if data[IDENTIFIER] != call.identifier or call.phase != IN_LCP:
            return
        unwanted = _options(data)
        mine = _options_of(call.lcp_options)
        call.lcp_options = _pack({kind: value for kind, value in mine.items() if kind not in unwanted})
        self._ask_lcp(call)

    def _lcp_up(self, call: Call) -> None:
        if call.auth == PAP:
            call.phase = IN_AUTH
            self._ask_pap(call)
        elif call.auth:
            call.phase = IN_AUTH
        else:
            call.phase = IN_IPCP
            self._ask_ipcp(call)

    def _ask_pap(self, call: Call) -> None:
        call.identifier = (call.identifier + 1) & 0xFF
        secret = self._secret(call)
        body = bytes((len(call.user),)) + call.user + bytes((len(secret),)) + secret
        self._send(call.head + ppp(PAP, REQUEST, call.identifier, body))

    def _challenge(self, call: Call, data: bytes) -> None:
        if call.phase < IN_AUTH:
            return
        value = data[BODY + 1 : BODY + 1 + data[_CHALLENGE_LENGTH]]
        identifier = data[IDENTIFIER]
        digest = md5(bytes((identifier,)) + self._secret(call) + value).digest()
        self._send(
            call.head
            + CHAP
            + PPP_HEAD.pack(2, identifier, 21 + len(call.user))
            + b"\x10"
            + digest
            + call.user
        )

    def _authenticated(self, call: Call, data: bytes) -> None:
        if call.phase == IN_AUTH:
            call.phase = IN_IPCP
            self._ask_ipcp(call)

    def _refused(self, call: Call, data: bytes) -> None:
        self._owner.ended(call, Failure.AUTH_REFUSED)

    def _ask_ipcp(self, call: Call) -> None:
        call.identifier = identifier = (call.identifier + 1) & 0xFF
        self._send(call.head + _ASK_ADDRESS % identifier + call.address)

    def _ipcp_request(self, call: Call, data: bytes) -> None:
        if call.phase < IN_IPCP:
            return
        end = CODE + U16.unpack_from(data, LENGTH)[0]
        rejected = b""
        at = BODY
        while at + 2 <= end:
            kind, size = data[at], data[at + 1]
            if size < 2 or at + size > end:
                return
            if kind not in _IPCP_WELCOME:
                rejected += data[at : at + size]
            at += size
        if rejected:
            self._send(call.head + ppp(IPCP, REJECT, data[IDENTIFIER], rejected))
            return
        self._send(call.head + _IPCP_ACK + data[IDENTIFIER:end])
        call.agreed |= IPCP_PEERS
        if call.agreed & IPCP_BOTH == IPCP_BOTH:
            self._up(call)

    def _ipcp_ack(self, call: Call, data: bytes) -> None:
        if data[IDENTIFIER] != call.identifier or call.phase != IN_IPCP:
            return
        call.agreed |= IPCP_OURS
        if call.agreed & IPCP_BOTH == IPCP_BOTH:
            self._up(call)

    def _up(self, call: Call) -> None:
        if call.phase == IN_IPCP:
            call.phase = OPEN
            self._owner.opened(call)

    def _ipcp_nak(self, call: Call, data: bytes) -> None:
        if data[IDENTIFIER] != call.identifier or call.phase != IN_IPCP:
            return
        call.address = _options(data).get(IPCP_ADDRESS, call.address)
        self._ask_ipcp(call)

    def _ipcp_reject(self, call: Call, data: bytes) -> None:
        if data[IDENTIFIER] == call.identifier and call.phase == IN_IPCP:
            self._owner.ended(call, Failure.NO_ADDRESS)

    def _echo(self, call: Call, data: bytes) -> None:
        end = CODE + U16.unpack_from(data, LENGTH)[0]
        self._send(call.head + _ECHO_REPLY + data[IDENTIFIER:BODY] + call.magic + data[MAGIC.stop : end])

    def _terminate(self, call: Call, data: bytes) -> None:
        self._send(call.head + ppp(data[8:10], 6, data[IDENTIFIER], b""))
        self._owner.ended(call, Failure.TERMINATED)


def _options(data: bytes) -> dict[int, bytes]:
    """The options of a canonical configure message; what does not parse is left out."""
    return _options_of(data[BODY : CODE + U16.unpack_from(data, LENGTH)[0]])


def _options_of(raw: bytes) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    at = 0
    while at + 2 <= len(raw) and 2 <= raw[at + 1] <= len(raw) - at:
        options[raw[at]] = raw[at + 2 : at + raw[at + 1]]
        at += raw[at + 1]
    return options


def _pack(options: dict[int, bytes]) -> bytes:
    return b"".join(bytes((kind, 2 + len(value))) + value for kind, value in options.items())
