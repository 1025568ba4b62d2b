"""What a link asks of its owner. The order of a returned list is part of its meaning."""

from enum import Enum
from typing import TypeAlias

import msgspec

from holdfast.core.auth import Credentials
from holdfast.records import PppRecord


class Cause(Enum):
    """Why a link ended."""

    PEER_TERMINATED = "the peer terminated the link"
    CLOSED = "closed on request"
    ECHO_TIMEOUT = "the peer no longer answers echo requests"
    LOOPBACK = "the line is looped back"
    MISCONFIGURED = "the peer's magic number is not the one agreed"
    AUTH_FAILED = "authentication failed"
    AUTH_REFUSED = "no authentication protocol could be agreed"
    AUTH_TIMEOUT = "authentication was not finished in time"
    NO_RESOURCES = "no address or no answer to be had for the moment"
    TIMEOUT = "the link was not open in time"
    LCP_FAILED = "the link could not be agreed"
    IPCP_FAILED = "no address could be agreed"


class Transmit(msgspec.Struct, frozen=True, gc=False):
    """Send this payload behind an L2TP data header."""

    payload: bytes


class Authenticate(msgspec.Struct, frozen=True, gc=False):
    """Ask AAA; give the outcome to `Link.answer`. `held` is the address that the session has already, "" for none."""

    credentials: Credentials
    held: str = ""


class Established(msgspec.Struct, frozen=True, gc=False):
    """This record must be safe before any effect that follows; it replaces an earlier one of the session."""

    record: PppRecord


class NetworkUp(msgspec.Struct, frozen=True, gc=False):
    """IPCP is open both ways: IP packets may flow."""


class NetworkDown(msgspec.Struct, frozen=True, gc=False):
    """IPCP is no longer open. The session and its address remain."""


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The link is over; no input has an effect any more."""

    cause: Cause
    text: str = ""


Effect: TypeAlias = Transmit | Authenticate | Established | NetworkUp | NetworkDown | Finished

NETWORK_UP = NetworkUp()
NETWORK_DOWN = NetworkDown()
