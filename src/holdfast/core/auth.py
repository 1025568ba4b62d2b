"""What PPP asks of AAA and what AAA answers. Both sides know only this; RADIUS fits behind the same types."""

from typing import TypeAlias

import msgspec

PAP = 0xC023
CHAP = 0xC223


class Credentials(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a PPP peer presented. PAP fills `password`; CHAP-MD5 fills `chap_id`, `challenge`, `response`."""

    method: int
    name: str
    password: bytes = b""
    chap_id: int = 0
    challenge: bytes = b""
    response: bytes = b""
    calling_number: str = ""
    called_number: str = ""


class Accept(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Access granted. `address` is the subscriber's IPv4 address; `pool` names its pool, "" for a fixed one."""

    user: str
    address: str
    pool: str = ""
    dns: tuple[str, ...] = ()
    message: str = ""
    acct_session_id: str = ""
    class_attributes: tuple[bytes, ...] = ()
    session_timeout_s: int = 0


class Reject(msgspec.Struct, frozen=True, gc=False):
    """Access refused. `temporary` when no fault of the user's (an empty pool, a server that is away)."""

    message: str
    temporary: bool = False


Answer: TypeAlias = Accept | Reject
