"""What a link is told once. One config is shared by every link of its kind."""

from enum import Enum

import msgspec

from holdfast.core.auth import CHAP, PAP
from holdfast.core.clock import SECOND, Duration


class Role(Enum):
    """Which part of a link we play."""

    SERVER = "server"
    """Demands authentication and gives the address: what an LNS does."""
    CLIENT = "client"
    """Proves who it is and asks for an address: what a subscriber does."""


class LinkConfig(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Parameters of a link; counters and timer of RFC 1661 4.6 (P-2).

    `auth`: a server demands one of these, best first; a client accepts any of them, and prefers the first.
    `name`: what a server calls itself in a challenge; the user name of a client. `secret`: the client's.
    `local_address`, `dns`: a server's own address and the name servers it gives out; a client asks for two.
    `setup_timeout` bounds a negotiation as a whole, which a peer could draw out for ever. `echo_interval` 0
    sends no Echo-Request.
    """

    role: Role
    auth: tuple[int, ...] = (CHAP, PAP)
    name: str = "holdfast"
    secret: bytes = b""
    mru: int = 1460
    local_address: str = ""
    dns: tuple[str, ...] = ()
    restart: Duration = 3 * SECOND
    max_configure: int = 10
    max_terminate: int = 2
    max_failure: int = 5
    setup_timeout: Duration = 120 * SECOND
    echo_interval: Duration = 10 * SECOND
    echo_failures: int = 6
