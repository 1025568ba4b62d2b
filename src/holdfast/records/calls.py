"""What is known of the calls that a process was setting up when it ended: they have no record."""

from collections.abc import Callable
from typing import TypeAlias

CallsBefore: TypeAlias = Callable[[int, int, int], int]
"""What a peer calls such a session, by our tunnel and session id and the peer's tunnel id; 0 if that is not known."""


def none_before(tunnel_id: int, session_id: int, peer_tunnel: int) -> int:
    """Of a process that is nobody's successor."""
    return 0
