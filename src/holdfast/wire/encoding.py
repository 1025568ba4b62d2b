"""Encoding of control message bodies. We send nothing that a strict peer could refuse.

Every mandatory AVP is there, none that does not belong (F-86, F-6), none twice, and the rules for recovery
tunnels hold (F-18, F-22). A misuse is a LocalError before anything is on the wire.
"""

from functools import lru_cache
from typing import Any

from holdfast.core.errors import LocalError
from holdfast.wire.avp import Avp, EncodedAvp, Hiding
from holdfast.wire.codes import Msg
from holdfast.wire.dictionary import (
    FAILOVER_CAPABILITY,
    RANDOM_VECTOR,
    SUGGESTED_CONTROL_SEQUENCE,
    TIE_BREAKER,
    TUNNEL_RECOVERY,
)
from holdfast.wire.table import SPECS


def encode(msg: Msg, *avps: EncodedAvp, hiding: Hiding | None = None) -> bytes:
    """The body of a message: Message Type, then `avps` in their order. (A ZLB has no body at all.)

    With `hiding` its Random Vector comes before them. Raises LocalError if they do not make such a message.
    """
    _check_shape(msg, tuple([e.avp for e in avps]))
    head = SPECS[msg].head
    if hiding is None:
        return head + b"".join([e.data for e in avps])
    return head + RANDOM_VECTOR(hiding.vector).data + b"".join([hiding.apply(e) for e in avps])


@lru_cache(maxsize=512)
def _check_shape(msg: Msg, avps: tuple[Avp[Any], ...]) -> None:
    """Raise LocalError if these AVPs make no such message. We send few kinds: each is looked at once."""
    spec = SPECS[msg]
    present = frozenset(a.key for a in avps)
    for i, avp in enumerate(avps):
        if avp.key not in spec.allowed:
            raise LocalError(f"{avp} does not belong in {msg.name}")
        if not avp.repeats and avp in avps[:i]:
            raise LocalError(f"{avp} twice in {msg.name}")
    if missing := spec.required - present:
        raise LocalError(f"{msg.name} without {spec.names(missing)}")
    if TUNNEL_RECOVERY.key in present and TIE_BREAKER.key not in present:
        raise LocalError("a recovery tunnel always has a tie breaker (RFC 4951 3.2.1)")
    if FAILOVER_CAPABILITY.key in present and present & _ONLY_IN_RECOVERY:
        raise LocalError("a recovery tunnel has no failover capability (RFC 4951 3.2.1)")


_ONLY_IN_RECOVERY = frozenset({TUNNEL_RECOVERY.key, SUGGESTED_CONTROL_SEQUENCE.key})
