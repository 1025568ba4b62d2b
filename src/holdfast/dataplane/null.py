"""A plane without a device: it judges and counts like the others, and what it forwards goes nowhere.

For nodes that only speak the control protocol, for simulations, and as the plainest form of the contract.
"""

import time
from collections.abc import Iterable, Sequence

from holdfast.dataplane.contract import Address, Entry, Punt, Verdict
from holdfast.dataplane.flows import Arrival, Departure, Flows
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.trace import NOWHERE, Seen, claimed_session, outer
from holdfast.dataplane.userspace import UserspacePlane
from holdfast.records import Counters


class NullPlane(UserspacePlane):
    """Forwards to nowhere. `arrive` and `depart` say what would have gone out."""

    def __init__(self, *, mss_clamp: bool = False, icmp_source: str = "") -> None:
        super().__init__(Flows(mss_clamp=mss_clamp, icmp_source=icmp_source))

    def install(self, entries: Iterable[Entry]) -> None:
        """Add or replace entries (DataPlane.install)."""
        self._flows.install(entries)

    def remove(self, keys: Iterable[int]) -> dict[int, Counters]:
        """Remove entries (DataPlane.remove)."""
        gone = list(keys)
        for key in gone:
            self._flows.sinks.pop(key, None)
        return self._flows.remove(gone)

    def describe(self) -> str:
        """For people (DataPlane.describe)."""
        return "null"

    def receive(self, inbox: Inbox) -> Sequence[Punt]:
        """Judge what `inbox` holds (DataPlane.receive)."""
        arrivals = [self.arrive(inbox.datagram(i), inbox.source(i)) for i in range(inbox.count)]
        return [arrival.punt for arrival in arrivals if arrival.punt is not None]

    def arrive(self, data: bytes, source: Address) -> Arrival:
        """Judge and count one datagram."""
        arrival = self._flows.from_peer(data, source)
        if arrival.verdict is not Verdict.RX_WRONG_PEER:
            self._show(claimed_session(data), False, data, source, NOWHERE)
        self._flows.verdicts[arrival.verdict] += 1
        if arrival.verdict is Verdict.RX_FORWARDED and arrival.flow is not None:
            arrival.flow.rx_packets += 1
            arrival.flow.rx_bytes += len(arrival.packet)
        return arrival

    def depart(self, packet: bytes) -> Departure:
        """Judge and count one packet of the device that there would be."""
        departure = self._flows.from_device(packet)
        if departure.flow is not None:
            entry = departure.flow.entry
            for datagram in departure.datagrams:
                self._show(entry.key, True, datagram, entry.local, entry.peer)
        self._flows.verdicts[departure.verdict] += 1
        if departure.verdict is Verdict.TX_FORWARDED and departure.flow is not None:
            departure.flow.tx_packets += 1
            departure.flow.tx_bytes += len(packet)
        return departure

    def _show(self, key: int, to_peer: bool, datagram: bytes, source: Address, to: Address) -> None:
        sink = self._flows.sinks.get(key)
        if sink is not None:
            packet = outer(datagram, source, to)
            sink(Seen(key, time.time_ns(), to_peer, len(packet), packet))

    def fileno(self) -> int:
        """There is nothing to watch: -1."""
        return -1

    def on_readable(self) -> None:
        """Nothing ever waits."""

    def close(self) -> None:
        """Forget the entries."""
        self._flows.remove(list(self._flows.by_key))
