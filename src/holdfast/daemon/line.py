"""A line: one session with its PPP link and what the node keeps beside them."""

from holdfast.core.clock import Instant
from holdfast.ppp.link import Link
from holdfast.protocol.session import Session
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import AaaRecord, Counters, SessionRecord

NO_TRAFFIC = Counters()


class Line:
    """`saved`: a record was asked for, `recorded`: one is on disk. `address` is the subscriber's; `held` mirrors the
    link's.
    """

    __slots__ = (
        "address",
        "counter_base",
        "deadline",
        "header",
        "held",
        "key",
        "link",
        "pool",
        "recorded",
        "saved",
        "session",
        "subscriber",
        "tunnel",
        "user",
        "wanted",
    )

    def __init__(self, key: int, tunnel: Tunnel, session: Session, link: Link, subscriber: str = "") -> None:
        self.key = key
        self.tunnel = tunnel
        self.session = session
        self.link = link
        self.subscriber = subscriber
        self.user = subscriber
        self.pool = ""
        self.address = ""
        self.header = b""
        self.saved = self.recorded = False
        self.wanted = False
        self.held = False
        self.deadline: Instant | None = None
        self.counter_base = NO_TRAFFIC

    @property
    def tunnel_id(self) -> int:
        """The local tunnel id."""
        return self.tunnel.local_id

    @property
    def session_id(self) -> int:
        """The local session id."""
        return self.session.local_id

    def take_over(self, record: SessionRecord) -> None:
        """What the record of a restored session says, besides PPP."""
        self.saved = self.recorded = True
        self.wanted = True
        self.counter_base = record.counter_base
        if record.aaa is not None:
            self.user, self.pool = record.aaa.user, record.aaa.pool
        if record.ppp is not None:
            self.address = record.ppp.local_ip if self.subscriber else record.ppp.peer_ip

    def aaa(self) -> AaaRecord:
        """The identity towards AAA, as it is recorded."""
        return AaaRecord(user=self.user, pool=self.pool)
