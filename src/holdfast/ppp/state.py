"""A PPP link as data: what it has agreed, what it negotiates, what it waits for. `phases` are what it does.

An opened link *is* its record: a negotiation exists only until its layer has opened, and one that a peer starts later
is made from the record. So a link that was restored after a crash is the same thing as one that has just opened, and
restoring it sends nothing (K-4…K-10).

Invariants: `opened` means that no negotiation is under way; an address once assigned stays for the life of the link
(P-46).
"""

from enum import IntEnum
from typing import TypeAlias

from holdfast.core.auth import Accept
from holdfast.core.clock import Instant
from holdfast.core.ids import RandomBytes
from holdfast.ppp.authentication import Prover, Verifier
from holdfast.ppp.config import LinkConfig, Role
from holdfast.ppp.effects import Cause
from holdfast.ppp.ipcp import ClientOptions, ServerOptions
from holdfast.ppp.lcp import LcpOptions
from holdfast.ppp.negotiation import Negotiation
from holdfast.records import LcpRecord, PppRecord
from holdfast.wire.ppp import Protocol

LCP, IPCP = int(Protocol.LCP), int(Protocol.IPCP)

Lcp: TypeAlias = Negotiation[LcpOptions]
Ipcp: TypeAlias = Negotiation[ServerOptions] | Negotiation[ClientOptions]

_NOTHING_AGREED = LcpRecord()


class Phase(IntEnum):
    """RFC 1661 3.2, and OVER, from which nothing comes back."""

    DEAD = 0
    ESTABLISH = 1
    AUTHENTICATE = 2
    NETWORK = 3
    TERMINATE = 4
    OVER = 5


class State:
    """`local` and `peer` are what LCP has agreed for either side. Under way: `lcp`, then `auth`, then `ipcp`, until
    `give_up` at the latest; `asked`: AAA is to answer, `accept`: what it has answered. `ending` is why the link ends.
    `missed` counts Echo-Requests in a row that nothing has been heard since; `holding`: they bring no verdict (K-7).
    """

    __slots__ = (
        "accept",
        "asked",
        "auth",
        "config",
        "deadline",
        "ending",
        "give_up",
        "heard",
        "holding",
        "identifier",
        "ipcp",
        "lcp",
        "local",
        "missed",
        "opened",
        "peer",
        "phase",
        "random",
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
        self.random = random
        self.identifier = 0
        self.lcp: Lcp | None = None
        self.auth: Verifier | Prover | None = None
        self.ipcp: Ipcp | None = None
        self.local = self.peer = _NOTHING_AGREED
        self.accept: Accept | None = None
        self.asked = False
        self.ending: tuple[Cause, str] | None = None
        self.give_up: Instant = 0
        self.missed = 0
        self.holding = False

    def activity(self, now: Instant) -> None:
        """The peer is alive: it sent data."""
        self.heard = True
        if self.opened:
            self.missed = 0
            if self.config.echo_interval:
                self.deadline = now + self.config.echo_interval

    def next_identifier(self) -> int:
        """A fresh identifier for a packet of our own."""
        self.identifier = (self.identifier + 1) & 0xFF
        return self.identifier

    @property
    def server(self) -> bool:
        """Whether we demand and give, rather than prove and ask."""
        return self.config.role is Role.SERVER

    @property
    def verifier(self) -> Verifier | None:
        """Who demands authentication here, if that is what is under way."""
        return self.auth if isinstance(self.auth, Verifier) else None

    @property
    def assigned(self) -> str:
        """The address that this session's peer has or is about to get, "" before AAA's answer."""
        if self.record is not None:
            return self.record.peer_ip
        return self.accept.address if self.accept is not None else ""

    @property
    def dns(self) -> tuple[str, ...]:
        """The name servers that go with it."""
        if self.accept is not None and self.accept.dns:
            return self.accept.dns
        return self.record.dns if self.record is not None else self.config.dns
