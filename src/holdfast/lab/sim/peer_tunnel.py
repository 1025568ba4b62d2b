"""What somebody else's daemon remembers of a tunnel, of the calls in it, and of what it has sent."""

from typing import Final

from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.lab.sim.peer_ppp import Ppp
from holdfast.lab.sim.peer_wire import Heard, Kind

NUMBERS: Final = 0x10000

CALL_SETUP: Duration = 60 * SECOND
"""How long a call may stay half-made."""


class Sent:
    """A message that awaits its acknowledgement. `due` is when it is sent again, `sends` how often it has been."""

    __slots__ = ("body", "call", "due", "first", "kind", "nr", "ns", "sends", "session")

    def __init__(self, session: int, kind: Kind, body: bytes, call: "Call | None") -> None:
        self.session, self.kind, self.body, self.call = session, kind, body, call
        self.ns = self.nr = 0
        self.sends = 0
        self.first: Instant = 0
        self.due: Instant = 0


class Call:
    """A session. `up` once both sides may send; `remote` is 0 until it is known; `asked` is its ICRQ or ICRP.

    `ppp` is the link in it, None where nobody is to have one.
    """

    __slots__ = ("asked", "expires", "local", "ppp", "remote", "up")

    def __init__(self, local: int, remote: int, expires: Instant) -> None:
        self.local, self.remote, self.expires = local, remote, expires
        self.up = False
        self.asked: Sent | None = None
        self.ppp: Ppp | None = None


class Tunnel:
    """A control connection. `nr` is the next number expected, `ns` the next one to send."""

    __slots__ = (
        "ack_at",
        "ahead",
        "calls",
        "challenge",
        "closing",
        "clr",
        "ended",
        "hello_at",
        "lingering",
        "local",
        "nr",
        "ns",
        "owes",
        "remote",
        "sent",
        "up",
        "waiting",
        "wedged",
    )

    def __init__(self, local: int) -> None:
        self.local = local
        self.remote = 0
        self.ns = self.nr = 0
        self.sent: list[Sent] = []
        self.waiting: list[Sent] = []
        self.calls: dict[int, Call] = {}
        self.up = self.closing = False
        self.ended = ""
        self.owes = False
        self.challenge = b""
        self.hello_at: Instant | None = None
        # What only some daemons have: see `peers`.
        self.clr = 0
        self.ahead: dict[int, Heard] = {}
        self.wedged = False
        self.ack_at: Instant | None = None
        self.lingering: set[int] = set()

    def renumber(self, ns: int, nr: int) -> None:
        """Go on at other numbers, as after many messages."""
        self.ns, self.nr = ns, nr
        self.clr = ns
        self.ahead.clear()
