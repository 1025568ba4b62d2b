"""One subscriber's call: what the load generator remembers of it, as small as it gets."""

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from holdfast.core.clock import Instant

if TYPE_CHECKING:
    from holdfast.lab.blast.tunnel import Tunnel


# How far a call has come. Plain integers here and below: Enums would double a frame's cost.
CALLING: Final = 0
IN_LCP: Final = 1
IN_AUTH: Final = 2
IN_IPCP: Final = 3
OPEN: Final = 4
OVER: Final = 5

# Which Configure-Requests have been acknowledged: ours by the peer, the peer's by us.
LCP_OURS: Final = 1
LCP_PEERS: Final = 2
LCP_BOTH: Final = 3
IPCP_OURS: Final = 4
IPCP_PEERS: Final = 8
IPCP_BOTH: Final = 12


class Failure(StrEnum):
    """Why a set-up failed or an open session was lost; a CDN or StopCCN adds its result and error code."""

    NO_ANSWER = "no answer to ICRQ"
    LCP_TIMEOUT = "LCP not agreed in time"
    AUTH_TIMEOUT = "authentication not done in time"
    IPCP_TIMEOUT = "IPCP not agreed in time"
    AUTH_REFUSED = "authentication refused"
    AUTH_UNKNOWN = "no authentication protocol in common"
    NO_ADDRESS = "no address"
    TERMINATED = "PPP terminated by the peer"
    CDN = "CDN"
    STOPCCN = "tunnel ended: StopCCN"
    TUNNEL_SILENT = "tunnel ended: no acknowledgement"
    TUNNEL_REFUSED = "tunnel refused"
    NO_TUNNEL = "no tunnel left"


class Call:
    """A call from ICRQ to its end. Instants are microseconds; `head` is the data header towards the peer."""

    __slots__ = (
        "address",
        "agreed",
        "auth",
        "due_at",
        "head",
        "identifier",
        "ids",
        "index",
        "lcp_options",
        "local_id",
        "magic",
        "peer_id",
        "phase",
        "resend_at",
        "started_at",
        "tunnel",
        "user",
    )

    def __init__(self, index: int, tunnel: "Tunnel", local_id: int, due_at: Instant, now: Instant) -> None:
        self.index = index
        self.tunnel = tunnel
        self.local_id = local_id
        self.peer_id = 0
        self.ids = b""
        self.head = b""
        self.phase = CALLING
        self.agreed = 0
        self.auth = b""
        self.identifier = 0
        self.magic = b""
        self.lcp_options = b""
        self.address = b"\0\0\0\0"
        self.user = b""
        self.due_at = due_at
        self.started_at = now
        self.resend_at: Instant = 0
