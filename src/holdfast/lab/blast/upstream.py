"""Packets from the subscribers: sent in turn over all open sessions, each with its number."""

from collections.abc import Callable, Iterable
from socket import inet_aton

from holdfast.core.clock import Instant
from holdfast.lab.blast.call import Call
from holdfast.lab.blast.packets import MARK, NUMBER, NUMBER_AT, Pacer, head
from holdfast.lab.blast.plan import Traffic

_IPV4 = b"\x00\x21"
BURST = 64
"""Packets sent between two looks at the socket."""


class Upstream:
    """Sends what is due. A session's packets are numbered from 1."""

    __slots__ = ("_heads", "_padding", "_send", "pacer")

    def __init__(
        self, calls: Iterable[Call], traffic: Traffic, pacer: Pacer, send: Callable[[bytes], object]
    ) -> None:
        core = inet_aton(traffic.core)
        self._send = send
        self._padding = bytes(traffic.up_size - NUMBER_AT - NUMBER.size)
        self._heads = [
            (call.head + _IPV4 + head(call.address, core, traffic.port, traffic.up_size), call.index)
            for call in calls
        ]
        self.pacer = pacer

    def send(self, now: Instant) -> None:
        """Send what is due by now, at most a burst."""
        pacer, heads, send, pack, padding = self.pacer, self._heads, self._send, NUMBER.pack, self._padding
        if not heads:
            return
        count = len(heads)
        for k in range(pacer.sent, pacer.sent + min(pacer.due(now), BURST)):
            prefix, index = heads[k % count]
            send(prefix + pack(MARK, index, k // count + 1) + padding)
            pacer.sent += 1
