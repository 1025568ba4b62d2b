"""A line: one session with its PPP link and what the node keeps beside them; and what follows from these, as a record
and as an entry of the data plane.
"""

from collections.abc import Callable

from holdfast.core.clock import Instant
from holdfast.dataplane.contract import Entry
from holdfast.ppp.link import Link
from holdfast.protocol.effects import Address
from holdfast.protocol.session import Session
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import AaaRecord, Counters, PppRecord, SessionRecord, Side
from holdfast.wire.header import data_header

NO_TRAFFIC = Counters()


class Line:
    """`saved`: a record was asked for, `recorded`: one is on disk. `address` is the subscriber's; `held` mirrors the
    link's; `received` is how many packets the data plane has had from the peer, when it was last asked.
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
        "received",
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
        self.received: int | None = None

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

    @property
    def fields(self) -> dict[str, object]:
        """What every log event about it has."""
        return {"tunnel": self.tunnel_id, "session": self.session_id, "peer": self.tunnel.peer.name}

    def data_came(self, traffic: Callable[[int], Counters | None]) -> bool:
        """Whether the data plane has had packets from the peer in this session since this was last asked.

        They are as good as the answer to an echo, which gets lost where more arrives than a socket holds.
        """
        if not self.link.opened:
            return False
        counted, before = traffic(self.key), self.received
        if counted is None:
            return False
        self.received = counted.up_packets if self.session.side is Side.LNS else counted.down_packets
        return before is not None and self.received != before

    def make_header(self) -> bytes:
        """The header of its data messages, from now on to be found in `header`."""
        self.header = data_header(self.tunnel.peer_id, self.session.peer_id)
        return self.header

    def record(self, ppp: PppRecord) -> SessionRecord:
        """The session as it must survive, with what PPP has agreed."""
        session, call = self.session, self.session.call
        return SessionRecord(
            tunnel_id=self.tunnel_id,
            local_id=session.local_id,
            peer_id=session.peer_id,
            side=session.side,
            call_serial=session.call_serial,
            established_utc_us=session.established_utc_us,
            ppp=ppp,
            aaa=self.aaa(),
            subscriber=self.subscriber,
            framing_type=session.framing_type,
            tx_speed=call.tx_speed,
            rx_speed=call.rx_speed,
            calling_number=call.calling_number,
            called_number=call.called_number,
            counter_base=self.counter_base,
        )

    def entry(self, local: Address, largest_mtu: int) -> Entry:
        """How the data plane of the node at `local` forwards for it: what both sides take is in the PPP record, which
        there has to be.
        """
        record = self.link.record
        assert record is not None
        peer_lcp = record.peer_lcp
        return Entry(
            key=self.key,
            side=self.session.side,
            local_tunnel=self.tunnel_id,
            local_session=self.session_id,
            peer_tunnel=self.tunnel.peer_id,
            peer_session=self.session.peer_id,
            peer=self.tunnel.peer_address,
            address=self.address,
            mtu=min(peer_lcp.mru, largest_mtu),
            acfc=peer_lcp.acfc,
            pfc=peer_lcp.pfc,
            local=local,
            echo=True,
            magic=record.local_lcp.magic,
        )

    def aaa(self) -> AaaRecord:
        """The identity towards AAA, as it is recorded."""
        return AaaRecord(user=self.user, pool=self.pool)
