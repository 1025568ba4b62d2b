"""A PPP link: LCP, then authentication, then IPCP (RFC 1661 section 3), for a server or a client.

Inputs go in with `now`, effects come out in order; `deadline` is the one moment at which `timer` wants to be called.
What a link is, is in `state`; what it does in each phase, in `phases`. Invariant: arbitrary input raises nothing.
"""

from typing import Self

from holdfast.core.auth import CHAP, PAP, Answer
from holdfast.core.clock import Instant
from holdfast.core.errors import Malformed
from holdfast.core.ids import RandomBytes
from holdfast.ppp import echo
from holdfast.ppp.authentication import Prover
from holdfast.ppp.config import LinkConfig
from holdfast.ppp.effects import Cause, Effect, Transmit
from holdfast.ppp.packet import HEAD, HEAD_SIZE, MAX_PACKET, Code, packet
from holdfast.ppp.phases import authenticate, establish, network, terminate
from holdfast.ppp.state import IPCP, LCP, Phase, State
from holdfast.records import PppRecord
from holdfast.wire.ppp import Protocol, split

_SPOKEN = frozenset({LCP, IPCP, PAP, CHAP, int(Protocol.IPV4)})
_AUTHENTICATION = frozenset({PAP, CHAP})


class Link(State):
    """One PPP link. Every input returns the effects it has, in order; none raises for what a peer sent."""

    __slots__ = ()

    @classmethod
    def restore(cls, config: LinkConfig, record: PppRecord, random: RandomBytes, now: Instant) -> Self:
        """An opened link as the record has it. Nothing is sent; the first echo is spread over one interval."""
        link = cls(config, random)
        chance = random(3)
        link.record, link.opened, link.phase = record, True, Phase.NETWORK
        link.local, link.peer, link.identifier = record.local_lcp, record.peer_lcp, chance[0]
        if config.echo_interval:
            link.deadline = now + config.echo_interval * (1 + int.from_bytes(chance[1:], "big")) // 0x10000
        return link

    def start(self, now: Instant) -> list[Effect]:
        """The session exists: begin LCP. A link is started once."""
        out: list[Effect] = []
        if self.phase is Phase.DEAD:
            chance = self.random(5)
            self.identifier = chance[0]
            self.give_up = now + self.config.setup_timeout
            establish.begin(self, int.from_bytes(chance[1:], "big") or 1, now, out)
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
            echo.due(self, now, out)
        elif self.holding and self.ending is None:
            self._wait(now)
        elif now >= self.give_up:
            terminate.finish(self, *(self.ending or (Cause.TIMEOUT, "")), out)
        elif self.lcp is not None:
            establish.became(self, self.lcp, self.lcp.timer(now, out), now, out)
        elif self.ipcp is not None:
            network.became(self, self.ipcp, self.ipcp.timer(now, out), now, out)
        elif self.auth is not None and not authenticate.prompt(self, now, out):
            if self.record is not None and isinstance(self.auth, Prover):
                # a server that restarted meanwhile has the link opened, and asks for no proof: negotiate once more
                self.auth = None
                establish.begin(self, self.local.magic, now, out)
            else:
                terminate.terminate(self, Cause.AUTH_TIMEOUT, "", now, out)
        self._settle()
        return out

    def answer(self, answer: Answer, now: Instant) -> list[Effect]:
        """What AAA says to `Authenticate`."""
        out: list[Effect] = []
        if self.asked:
            authenticate.answer(self, answer, now, out)
            self._settle()
        return out

    def ask(self, now: Instant) -> list[Effect]:
        """Ask an open link's peer for a sign of life out of turn; the next scheduled request is put off."""
        out: list[Effect] = []
        if self.opened:
            echo.request(self, now, out)
        return out

    def hold(self, on: bool) -> None:
        """Suspend the verdict on a silent peer while the tunnel itself is in doubt (K-7)."""
        self.holding = on
        self.missed = 0

    @property
    def unanswered(self) -> int:
        """Echo-Requests in a row that nothing has been heard since."""
        return self.missed

    def close(self, now: Instant) -> list[Effect]:
        """End the link in an orderly way; Finished follows when the peer has agreed, or has had its time."""
        out: list[Effect] = []
        if self.phase is Phase.DEAD:
            terminate.finish(self, Cause.CLOSED, "", out)
        elif self.phase < Phase.TERMINATE:
            terminate.terminate(self, Cause.CLOSED, "", now, out)
            self._settle()
        return out

    def down(self) -> list[Effect]:
        """The session below is gone: the link is over without another word, and without Finished."""
        out: list[Effect] = []
        terminate.network_down(self, out)
        terminate.over(self)
        return out

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
        if protocol == LCP:
            establish.receive(self, code, identifier, body, now, out)
            self._settle()
            return
        if protocol == IPCP:
            network.receive(self, code, identifier, body, now, out)
        elif protocol in _AUTHENTICATION:
            authenticate.receive(self, protocol, code, identifier, body, now, out)
        else:
            self._other(protocol, frame, now, out)
            return
        self.activity(now)
        self._settle()

    def _other(self, protocol: int, frame: bytes, now: Instant, out: list[Effect]) -> None:
        """Data, which proves life, or a protocol that is not spoken here (P-7, P-14)."""
        self.activity(now)
        if self.phase is Phase.NETWORK and protocol not in _SPOKEN:
            body = frame[2 : 2 + self.peer.mru - 4]
            out.append(Transmit(packet(LCP, Code.PROTOCOL_REJECT, self.next_identifier(), body)))

    def _wait(self, now: Instant) -> None:
        """The tunnel is in doubt: this tick counts for no negotiation, and nothing is asked that nobody can hear."""
        restart = self.config.restart
        self.give_up += restart
        busy = self.lcp or self.ipcp or self.auth
        if busy is not None and busy.deadline is not None:
            busy.deadline = now + restart

    def _settle(self) -> None:
        """Find the deadline of what is under way; an opened link's is that of its next echo."""
        if self.opened:
            return
        busy = self.lcp or self.ipcp or self.auth
        timer = busy.deadline if busy is not None else None
        if self.phase is Phase.OVER:
            self.deadline = None
        else:
            self.deadline = self.give_up if timer is None or timer > self.give_up else timer


def _uncompressed(payload: bytes) -> bytes:
    """The frame with all of its header. Raises Malformed."""
    protocol, start = split(payload)
    return b"\xff\x03" + protocol.to_bytes(2, "big") + payload[start:]
