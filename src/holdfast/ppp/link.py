"""A PPP link: LCP, then authentication, then IPCP (RFC 1661 section 3), for a server or a client.

Inputs go in with `now`, effects come out in order; `deadline` is the one moment at which `timer` wants to be called.

An opened link *is* its record: a negotiation exists only until its layer has opened, and one that a peer starts later
is made from the record. So a link that was restored after a crash is the same thing as one that has just opened, and
restoring it sends nothing (K-4…K-10).

Invariants: `opened` means that no negotiation is under way; an address once assigned stays for the life of the link
(P-46); what the link says never depends on a record that was not emitted as `Established` before (write before
speaking); arbitrary input raises nothing.
"""

from enum import IntEnum
from typing import Self, TypeAlias

import msgspec

from holdfast.core.auth import CHAP, PAP, Accept, Answer, Credentials, Reject
from holdfast.core.clock import Instant
from holdfast.core.errors import Malformed
from holdfast.core.ids import RandomBytes
from holdfast.ppp import authentication
from holdfast.ppp.agreed import client_record, server_record
from holdfast.ppp.authentication import Prover, Verifier
from holdfast.ppp.automaton import Event, State
from holdfast.ppp.config import LinkConfig, Role
from holdfast.ppp.effects import (
    NETWORK_DOWN,
    NETWORK_UP,
    Authenticate,
    Cause,
    Effect,
    Established,
    Finished,
    Transmit,
)
from holdfast.ppp.ipcp import ClientOptions, ServerOptions
from holdfast.ppp.lcp import LcpOptions
from holdfast.ppp.negotiation import Negotiation, Outcome
from holdfast.ppp.packet import HEAD, HEAD_SIZE, MAX_PACKET, Code, packet
from holdfast.records import LcpRecord, PppRecord
from holdfast.wire.ppp import Protocol, split

_LCP, _IPCP = int(Protocol.LCP), int(Protocol.IPCP)
_SPOKEN = frozenset({_LCP, _IPCP, PAP, CHAP, int(Protocol.IPV4)})
_AUTHENTICATION = frozenset({PAP, CHAP})
_NOTHING_AGREED = LcpRecord()
_ANOTHER_USER = Reject("another user's session")
_Lcp: TypeAlias = Negotiation[LcpOptions]
_Ipcp: TypeAlias = Negotiation[ServerOptions] | Negotiation[ClientOptions]


class Phase(IntEnum):
    """RFC 1661 3.2, and OVER, from which nothing comes back."""

    DEAD = 0
    ESTABLISH = 1
    AUTHENTICATE = 2
    NETWORK = 3
    TERMINATE = 4
    OVER = 5


class Link:
    """One PPP link. Every input returns the effects it has, in order; none raises for what a peer sent."""

    __slots__ = (
        "_accept",
        "_asked",
        "_auth",
        "_ending",
        "_give_up",
        "_holding",
        "_identifier",
        "_ipcp",
        "_lcp",
        "_local",
        "_missed",
        "_peer",
        "_random",
        "config",
        "deadline",
        "heard",
        "opened",
        "phase",
        "record",
    )

    def __init__(self, config: LinkConfig, random: RandomBytes) -> None:
        self.config = config
        self.record: PppRecord | None = None
        """What was last given out as `Established`."""
        self.opened = False
        """Whether IP packets may flow."""
        self.deadline: Instant | None = None
        """When `timer` wants to be called; a later one may be found there, an earlier one never."""
        self.heard = False
        """Whether anything has come from the peer since this object was made or restored."""
        self.phase = Phase.DEAD
        self._random = random
        self._identifier = 0
        self._lcp: _Lcp | None = None
        self._auth: Verifier | Prover | None = None
        self._ipcp: _Ipcp | None = None
        self._local = self._peer = _NOTHING_AGREED
        self._accept: Accept | None = None
        self._asked = False
        self._ending: tuple[Cause, str] | None = None
        self._give_up: Instant = 0
        self._missed = 0
        self._holding = False

    @classmethod
    def restore(cls, config: LinkConfig, record: PppRecord, random: RandomBytes, now: Instant) -> Self:
        """An opened link as the record has it. Nothing is sent; the first echo is spread over one interval."""
        link = cls(config, random)
        chance = random(3)
        link.record, link.opened, link.phase = record, True, Phase.NETWORK
        link._local, link._peer, link._identifier = record.local_lcp, record.peer_lcp, chance[0]
        if config.echo_interval:
            link.deadline = now + config.echo_interval * (1 + int.from_bytes(chance[1:], "big")) // 0x10000
        return link

    # Inputs

    def start(self, now: Instant) -> list[Effect]:
        """The session exists: begin LCP. A link is started once."""
        out: list[Effect] = []
        if self.phase is Phase.DEAD:
            chance = self._random(5)
            self.phase, self._identifier = Phase.ESTABLISH, chance[0]
            self._give_up = now + self.config.setup_timeout
            self._lcp = self._new_lcp(int.from_bytes(chance[1:], "big") or 1)
            self._lcp.event(Event.OPEN, now, out)
            self._settle()
        return out

    def receive(self, payload: bytes, now: Instant) -> list[Effect]:
        """A PPP frame, with or without Address and Control, with the protocol number long or short."""
        out: list[Effect] = []
        if self.phase is Phase.DEAD or self.phase is Phase.OVER:
            return out
        try:
            if len(payload) < HEAD_SIZE or payload[0] != 0xFF or payload[1] != 3 or payload[2] & 1:
                payload = _uncompressed(payload)
            if len(payload) < HEAD_SIZE:
                self.activity(now)
                return out
            _, protocol, code, identifier, length = HEAD.unpack_from(payload)
            if 4 <= length <= MAX_PACKET and length + 4 <= len(payload):
                self._control(protocol, code, identifier, payload[HEAD_SIZE : length + 4], payload, now, out)
            elif self.opened:
                self._other(protocol, payload, now, out)
        except Malformed:
            return []
        return out

    def timer(self, now: Instant) -> list[Effect]:
        """The deadline may have come."""
        out: list[Effect] = []
        if self.deadline is None or now < self.deadline:
            return out
        if self.opened:
            self._echo(now, out)
        elif self._holding and self._ending is None:
            self._wait(now)
        elif now >= self._give_up:
            self._finish(*(self._ending or (Cause.TIMEOUT, "")), out)
        elif self._lcp is not None:
            self._lcp_became(self._lcp, self._lcp.timer(now, out), now, out)
        elif self._ipcp is not None:
            self._ipcp_became(self._ipcp, self._ipcp.timer(now, out), now, out)
        elif self._auth is not None and not self._prompt(now, out):
            if self.record is not None and isinstance(self._auth, Prover):
                self._begin_again(now, out)
            else:
                self._terminate(Cause.AUTH_TIMEOUT, "", now, out)
        self._settle()
        return out

    def answer(self, answer: Answer, now: Instant) -> list[Effect]:
        """What AAA says to `Authenticate`. An answer that comes too late is remembered for its address only."""
        out: list[Effect] = []
        if not self._asked:
            return out
        self._asked = False
        auth = self._auth
        stale = self.phase is not Phase.AUTHENTICATE or (isinstance(auth, Verifier) and not auth.waiting)
        if isinstance(answer, Accept):
            held = self._assigned
            self._accept = answer = msgspec.structs.replace(answer, address=held) if held else answer
            if not stale:
                self._admit(answer, now, out)
        elif not stale:
            self._refuse(answer, now, out)
        self._settle()
        return out

    def activity(self, now: Instant) -> None:
        """The peer is alive: it sent data."""
        self.heard = True
        if self.opened:
            self._missed = 0
            if self.config.echo_interval:
                self.deadline = now + self.config.echo_interval

    def ask(self, now: Instant) -> list[Effect]:
        """Ask an open link's peer for a sign of life out of turn; the next scheduled request is put off."""
        out: list[Effect] = []
        if self.opened:
            self._request_echo(now, out)
        return out

    def hold(self, on: bool) -> None:
        """Suspend the verdict on a silent peer while the tunnel itself is in doubt (K-7)."""
        self._holding = on
        self._missed = 0

    @property
    def unanswered(self) -> int:
        """Echo-Requests in a row that nothing has been heard since."""
        return self._missed

    def close(self, now: Instant) -> list[Effect]:
        """End the link in an orderly way; Finished follows when the peer has agreed, or has had its time."""
        out: list[Effect] = []
        if self.phase is Phase.DEAD:
            self._finish(Cause.CLOSED, "", out)
        elif self.phase < Phase.TERMINATE:
            self._terminate(Cause.CLOSED, "", now, out)
            self._settle()
        return out

    def down(self) -> list[Effect]:
        """The session below is gone: the link is over without another word, and without Finished."""
        out: list[Effect] = []
        self._network_down(out)
        self._forget()
        return out

    # Arrivals

    def _control(
        self,
        protocol: int,
        code: int,
        identifier: int,
        body: bytes,
        frame: bytes,
        now: Instant,
        out: list[Effect],
    ) -> None:
        if protocol == _LCP:
            self._on_lcp(code, identifier, body, now, out)
            self._settle()
            return
        if protocol == _IPCP:
            self._on_ipcp(code, identifier, body, now, out)
        elif protocol in _AUTHENTICATION:
            self._on_authentication(protocol, code, identifier, body, now, out)
        else:
            self._other(protocol, frame, now, out)
            return
        self.activity(now)
        self._settle()

    def _other(self, protocol: int, frame: bytes, now: Instant, out: list[Effect]) -> None:
        """Data, which proves life, or a protocol that is not spoken here (P-7, P-14)."""
        self.activity(now)
        if self.phase is Phase.NETWORK and protocol not in _SPOKEN:
            body = frame[2 : 2 + self._peer.mru - 4]
            out.append(Transmit(packet(_LCP, Code.PROTOCOL_REJECT, self._next_identifier(), body)))

    def _on_lcp(self, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]) -> None:
        lcp = self._lcp
        if Code.PROTOCOL_REJECT <= code <= Code.DISCARD_REQUEST:
            if lcp is None:
                self._on_lcp_opened(code, identifier, body, now, out)
            return
        if lcp is None:
            lcp = self._resumed_lcp()
        if code == Code.TERMINATE_REQUEST and self._ending is None:
            self._ending = (Cause.PEER_TERMINATED, "")
        self._lcp_became(lcp, lcp.receive(code, identifier, body, now, out), now, out)
        self.activity(now)

    def _on_lcp_opened(
        self, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]
    ) -> None:
        """What LCP takes in Opened only: echoes (P-9) and Protocol-Reject (P-8)."""
        if code == Code.PROTOCOL_REJECT:
            self.activity(now)
            self._on_protocol_reject(int.from_bytes(body[:2], "big"), now, out)
            return
        if len(body) < 4:
            return
        magic = int.from_bytes(body[:4], "big")
        if magic and magic != self._peer.magic and (self._peer.magic or magic == self._local.magic):
            self._wrong_magic(magic, out)
            return
        self.activity(now)
        if code == Code.ECHO_REQUEST:
            reply = self._local.magic.to_bytes(4, "big") + body[4:]
            out.append(Transmit(packet(_LCP, Code.ECHO_REPLY, identifier, reply)))

    def _wrong_magic(self, magic: int, out: list[Effect]) -> None:
        """A looped line, or another peer than the one agreed with (P-10): worse than silence, so it counts alike."""
        if not self.opened or self._holding:
            return
        self._missed += 1
        if self._missed > self.config.echo_failures:
            cause = Cause.LOOPBACK if magic == self._local.magic else Cause.MISCONFIGURED
            self._finish(cause, "", out)

    def _on_protocol_reject(self, protocol: int, now: Instant, out: list[Effect]) -> None:
        if protocol == _IPCP and self.phase is Phase.NETWORK:
            self._terminate(Cause.IPCP_FAILED, "the peer does not speak IPCP", now, out)
        elif self._auth is not None and protocol == self._auth.method and self.phase is Phase.AUTHENTICATE:
            self._terminate(Cause.AUTH_REFUSED, "the peer rejects the protocol it agreed to", now, out)

    def _on_authentication(
        self, protocol: int, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]
    ) -> None:
        if self.phase is Phase.NETWORK:
            self._authenticated_before(protocol, code, identifier, body, out)
        elif self.phase is not Phase.AUTHENTICATE:
            return
        elif isinstance(self._auth, Verifier):
            if self._asked:
                return
            credentials = self._auth.receive(protocol, code, identifier, body)
            if credentials is not None:
                self._ask(credentials, now, out)
        elif self._auth is not None:
            reply = self._auth.receive(self.config, protocol, code, identifier, body)
            if reply is True:
                self._auth = None
                self._begin_ipcp(now, out)
            elif reply is False:
                text = body[1:] if protocol == PAP else body
                self._terminate(Cause.AUTH_FAILED, text.decode(errors="replace"), now, out)
            elif reply is not None:
                out.append(Transmit(reply))

    def _authenticated_before(
        self, protocol: int, code: int, identifier: int, body: bytes, out: list[Effect]
    ) -> None:
        """Answer a repeated Response as it was answered before (P-23); as a client, a new challenge (P-24)."""
        if self._local.auth == protocol:
            auth, accept, record = self._auth, self._accept, self.record
            if isinstance(auth, Verifier) and accept is not None:
                known, message = auth.identifier, accept.message
            elif record is not None:
                known, message = record.auth_id, record.auth_message
            else:
                return
            repeated = code == authentication.RESPONSE and identifier == known
            if repeated if protocol == CHAP else code == authentication.REQUEST:
                out.append(Transmit(authentication.verdict(protocol, True, identifier, message)))
        elif self._peer.auth == protocol == CHAP and code == authentication.REQUEST:
            response = authentication.respond(self.config, identifier, body)
            if response is not None:
                out.append(Transmit(response))

    def _on_ipcp(self, code: int, identifier: int, body: bytes, now: Instant, out: list[Effect]) -> None:
        if self.phase is not Phase.NETWORK:
            return
        ipcp = self._ipcp
        if ipcp is None:
            ipcp = self._new_ipcp()
            ipcp.resume()
        if code == Code.CONFIGURE_REQUEST:
            verdict, options = ipcp.judge(body)
            if verdict is Code.CONFIGURE_ACK and self._accept is not None and ipcp.state >= State.REQ_SENT:
                record = server_record(
                    self.config, self._local, self._peer, self._verifier, self._accept, self._dns
                )
                self._establish(record, out)
            outcome = ipcp.answer(verdict, options, identifier, now, out)
        else:
            outcome = ipcp.receive(code, identifier, body, now, out)
        self._ipcp_became(ipcp, outcome, now, out)

    # Layers

    def _new_lcp(self, magic: int) -> _Lcp:
        options = LcpOptions(self.config, magic, self._random)
        return Negotiation(_LCP, options, self.config, self._identifier, self._peer.mru)

    def _resumed_lcp(self) -> _Lcp:
        """LCP in Opened, as it was agreed; the magic number continues (K-4)."""
        magic = self._local.magic or int.from_bytes(self._random(4), "big") or 1
        lcp = self._new_lcp(magic)
        lcp.resume()
        return lcp

    def _lcp_became(self, lcp: _Lcp, outcome: Outcome, now: Instant, out: list[Effect]) -> None:
        """LCP has made a step; at rest in Opened only its result is kept."""
        self._identifier = lcp.identifier
        self._lcp = None if lcp.state is State.OPENED else lcp
        if outcome is Outcome.UP:
            self._local, self._peer, self._ending = lcp.options.local, lcp.options.peer, None
            self._begin_authentication(now, out)
        elif outcome is Outcome.DOWN:
            self._network_down(out)
            self._give_up = now + self.config.setup_timeout
            self._auth = None
            self.phase = Phase.ESTABLISH
        elif outcome is Outcome.OVER:
            self._finish(*(self._ending or (lcp.options.blame, "")), out)
            return
        if lcp.state is State.CLOSING or lcp.state is State.STOPPING:
            self.phase = Phase.TERMINATE

    def _begin_again(self, now: Instant, out: list[Effect]) -> None:
        """A server that restarted meanwhile has the link opened, and asks for no proof: negotiate once more."""
        self.phase, self._auth = Phase.ESTABLISH, None
        self._lcp = self._new_lcp(self._local.magic)
        self._lcp.event(Event.OPEN, now, out)

    def _begin_authentication(self, now: Instant, out: list[Effect]) -> None:
        self.phase = Phase.AUTHENTICATE
        if self._local.auth:
            self._auth = Verifier(self._local.auth, self.config)
        elif self._server:
            self._ask(Credentials(method=0, name=""), now, out)
        elif self._peer.auth:
            self._auth = Prover(self._peer.auth, self.config, self._identifier)
        else:
            self._begin_ipcp(now, out)
        self._prompt(now, out)

    def _prompt(self, now: Instant, out: list[Effect]) -> bool:
        if isinstance(self._auth, Verifier):
            identifier = self._next_identifier()
            if self.record is not None and identifier == self.record.auth_id:
                identifier = self._next_identifier()  # the Response of that one may still be repeated (P-23)
            return self._auth.prompt(self.config, identifier, self._random, now, out)
        return self._auth is None or self._auth.prompt(self.config, now, out)

    def _ask(self, credentials: Credentials, now: Instant, out: list[Effect]) -> None:
        """Ask AAA. A session belongs to one user: another name on it is refused here."""
        if self.record is not None and credentials.name != self.record.auth_name:
            self._refuse(_ANOTHER_USER, now, out)
        else:
            self._asked = True
            out.append(Authenticate(credentials, self._assigned))

    def _admit(self, accept: Accept, now: Instant, out: list[Effect]) -> None:
        if (verifier := self._verifier) is not None:
            success = authentication.verdict(verifier.method, True, verifier.identifier, accept.message)
            out.append(Transmit(success))
        self._begin_ipcp(now, out)

    def _refuse(self, reject: Reject, now: Instant, out: list[Effect]) -> None:
        if (verifier := self._verifier) is not None:
            failure = authentication.verdict(verifier.method, False, verifier.identifier, reject.message)
            out.append(Transmit(failure))
        cause = Cause.NO_RESOURCES if reject.temporary else Cause.AUTH_FAILED
        self._terminate(cause, reject.message, now, out)

    def _begin_ipcp(self, now: Instant, out: list[Effect]) -> None:
        self.phase = Phase.NETWORK
        self._ipcp = ipcp = self._new_ipcp()
        ipcp.event(Event.OPEN, now, out)

    def _new_ipcp(self) -> _Ipcp:
        """IPCP for this session, with the addresses that it has already (P-46)."""
        config, record, identifier = self.config, self.record, self._next_identifier()
        if self._server:
            server = ServerOptions(config.local_address, self._assigned, self._dns)
            return Negotiation(_IPCP, server, config, identifier, self._peer.mru)
        client = ClientOptions(record.local_ip if record else "", record.dns if record else ())
        return Negotiation(_IPCP, client, config, identifier, self._peer.mru)

    def _ipcp_became(self, ipcp: _Ipcp, outcome: Outcome, now: Instant, out: list[Effect]) -> None:
        """IPCP has made a step; at rest in Opened only the record is kept."""
        self._ipcp = None if ipcp.state is State.OPENED else ipcp
        if outcome is Outcome.UP:
            self._network_up(ipcp, now, out)
        elif outcome is Outcome.DOWN:
            self._network_down(out)
            self._give_up = now + self.config.setup_timeout
            self._ipcp = ipcp
        elif outcome is Outcome.OVER:
            self._terminate(Cause.IPCP_FAILED, "", now, out)

    def _network_up(self, ipcp: _Ipcp, now: Instant, out: list[Effect]) -> None:
        if isinstance(ipcp.options, ClientOptions):
            if not ipcp.options.local:
                self._terminate(Cause.IPCP_FAILED, "the peer gives no address", now, out)
                return
            self._establish(client_record(self.config, self._local, self._peer, ipcp.options), out)
        self.opened = True
        self.deadline = None
        self._give_up = 0
        self._auth = self._accept = None
        self.activity(now)
        out.append(NETWORK_UP)

    def _network_down(self, out: list[Effect]) -> None:
        """Nothing flows any more, which must be known before anything else is done."""
        if self.opened:
            out.insert(0, NETWORK_DOWN)
        self.opened = False
        self._ipcp = None

    # What is kept

    def _establish(self, record: PppRecord, out: list[Effect]) -> None:
        """Give out the record, if it says anything new."""
        if record != self.record:
            self.record = record
            out.append(Established(record))

    @property
    def _server(self) -> bool:
        return self.config.role is Role.SERVER

    @property
    def _verifier(self) -> Verifier | None:
        return self._auth if isinstance(self._auth, Verifier) else None

    @property
    def _assigned(self) -> str:
        """The address that this session's peer has or is about to get, "" before AAA's answer."""
        if self.record is not None:
            return self.record.peer_ip
        return self._accept.address if self._accept is not None else ""

    @property
    def _dns(self) -> tuple[str, ...]:
        if self._accept is not None and self._accept.dns:
            return self._accept.dns
        return self.record.dns if self.record is not None else self.config.dns

    # Life and end

    def _echo(self, now: Instant, out: list[Effect]) -> None:
        """The peer has been silent for an interval: ask, or give up."""
        if self._missed >= self.config.echo_failures and not self._holding:
            self._finish(Cause.ECHO_TIMEOUT, "", out)
            return
        self._request_echo(now, out)

    def _request_echo(self, now: Instant, out: list[Effect]) -> None:
        self._missed += 1
        self.deadline = now + self.config.echo_interval
        magic = self._local.magic.to_bytes(4, "big")
        out.append(Transmit(packet(_LCP, Code.ECHO_REQUEST, self._next_identifier(), magic)))

    def _wait(self, now: Instant) -> None:
        """The tunnel is in doubt: this tick counts for no negotiation, and nothing is asked that nobody can hear."""
        restart = self.config.restart
        self._give_up += restart
        busy = self._lcp or self._ipcp or self._auth
        if busy is not None and busy.deadline is not None:
            busy.deadline = now + restart

    def _terminate(self, cause: Cause, text: str, now: Instant, out: list[Effect]) -> None:
        """Close LCP in an orderly way; the first cause counts."""
        self._ending = self._ending or (cause, text)
        lcp = self._lcp or self._resumed_lcp()
        self._lcp_became(lcp, lcp.event(Event.CLOSE, now, out), now, out)

    def _finish(self, cause: Cause, text: str, out: list[Effect]) -> None:
        self._network_down(out)
        self._forget()
        out.append(Finished(cause, text))

    def _forget(self) -> None:
        self.phase, self._asked = Phase.OVER, False
        self._lcp = self._auth = self._ipcp = self._accept = self.deadline = None

    def _settle(self) -> None:
        """Find the deadline of what is under way; an opened link's is that of its next echo."""
        if self.opened:
            return
        busy = self._lcp or self._ipcp or self._auth
        timer = busy.deadline if busy is not None else None
        if self.phase is Phase.OVER:
            self.deadline = None
        else:
            self.deadline = self._give_up if timer is None or timer > self._give_up else timer

    def _next_identifier(self) -> int:
        self._identifier = (self._identifier + 1) & 0xFF
        return self._identifier


def _uncompressed(payload: bytes) -> bytes:
    """The frame with all of its header. Raises Malformed."""
    protocol, start = split(payload)
    return b"\xff\x03" + protocol.to_bytes(2, "big") + payload[start:]
