"""What a node asks of AAA, whoever serves it. No I/O: a server on the network is asked by means of its own machine.

Order of use: `reserve` for every recorded session, then `authenticate` for new ones; `release` once a session's
record is gone (write before speaking, K-12).
"""

from typing import Protocol

from holdfast.core.auth import Answer, Credentials
from holdfast.records import SessionRecord


class Authenticator(Protocol):
    """Serves local users now, RADIUS later."""

    def authenticate(self, credentials: Credentials, held: str = "") -> Answer | None:
        """Judge credentials and assign an address. None: the answer comes later, by another way.

        `held` is the address that the session has already: an Accept repeats it and takes no other (P-46).
        """

    def release(self, pool: str, address: str) -> None:
        """Take back an address that an Accept gave out; `pool` as in that Accept. Unknown ones are ignored."""

    def reserve(self, record: SessionRecord) -> str:
        """Take note of an address that a recorded session has. Returns the pool to release it to, as in an Accept.

        Raises LocalError if another session has the address.
        """
