"""A session as the control protocol sees it, and the table of its states (RFC 2661 7.4; V2-100, V2-110).

Invariant: `state` changes only through `Session.step`; a pair that is not in the table is the peer's fault (CDN).
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from holdfast.records import Side
from holdfast.wire.codes import Cdn, General, PeerError


class SessionState(IntEnum):
    """`WAIT_*` as RFC 2661 7.4 names them; both roles share the table, their states do not overlap."""

    WAIT_TUNNEL = 1
    WAIT_REPLY = 2
    WAIT_CONNECT = 3
    ESTABLISHED = 4
    CLOSED = 5


class SessionInput(IntEnum):
    """What moves a session. `CLOSE` is our own decision, `CDN` the peer's."""

    TUNNEL_OPEN = 1
    ICRP = 2
    ICCN = 3
    CDN = 4
    CLOSE = 5


SESSION: Final[Mapping[tuple[SessionState, SessionInput], SessionState]] = {
    (SessionState.WAIT_TUNNEL, SessionInput.TUNNEL_OPEN): SessionState.WAIT_REPLY,
    (SessionState.WAIT_REPLY, SessionInput.ICRP): SessionState.ESTABLISHED,
    (SessionState.WAIT_CONNECT, SessionInput.ICCN): SessionState.ESTABLISHED,
    **{
        (state, how): SessionState.CLOSED
        for state in SessionState
        for how in (SessionInput.CDN, SessionInput.CLOSE)
    },
}


class Call:
    """What a LAC says of a call when it places it. Speeds are bits per second."""

    __slots__ = ("called_number", "calling_number", "rx_speed", "tx_speed")

    def __init__(
        self,
        calling_number: str = "",
        called_number: str = "",
        tx_speed: int = 1_000_000_000,
        rx_speed: int = 0,
    ) -> None:
        self.calling_number, self.called_number = calling_number, called_number
        self.tx_speed, self.rx_speed = tx_speed, rx_speed


NO_CALL = Call()


class Session:
    """One session of a tunnel. `queries` counts the FSQs it is asked about in and not yet answered (T-33, T-34)."""

    __slots__ = (
        "call",
        "call_serial",
        "established_utc_us",
        "framing_type",
        "local_id",
        "peer_id",
        "queries",
        "requeried",
        "side",
        "state",
    )

    def __init__(self, local_id: int, side: Side, state: SessionState, call_serial: int, call: Call) -> None:
        self.local_id = local_id
        self.peer_id = 0
        self.side = side
        self.state = state
        self.call_serial = call_serial
        self.call = call
        self.framing_type = 1
        self.established_utc_us = 0
        self.queries = 0
        self.requeried = False

    def step(self, how: SessionInput) -> None:
        """Move by the table. Raises PeerError for a pair that it does not hold."""
        following = SESSION.get((self.state, how))
        if following is None:
            raise PeerError(Cdn.GENERAL_ERROR, General.VENDOR_ERROR, f"{how.name} in {self.state.name}")
        self.state = following

    @property
    def established(self) -> bool:
        """Whether both ends may send data."""
        return self.state is SessionState.ESTABLISHED
