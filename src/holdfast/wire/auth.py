"""Tunnel authentication: CHAP-MD5 over the Challenge and Challenge Response AVPs (RFC 2661 4.4.3, 5.1.1).

The id in the digest is the type of the message that carries the *response* (V2-188), not of the one that
carried the challenge.
"""

from hashlib import md5
from hmac import compare_digest

from holdfast.wire.codes import Msg


def challenge_response(msg: Msg, secret: bytes, challenge: bytes) -> bytes:
    """The 16 octets that answer `challenge` in a message of type `msg` (SCCRP or SCCCN)."""
    return md5(bytes((msg,)) + secret + challenge, usedforsecurity=False).digest()


def verify(msg: Msg, secret: bytes, challenge: bytes, response: bytes) -> bool:
    """Whether `response`, received in a message of type `msg`, answers `challenge`; in constant time."""
    return compare_digest(challenge_response(msg, secret, challenge), response)
