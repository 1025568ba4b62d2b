"""The sessions that the daemon itself forwards for at the moment: made when a packet of theirs comes, and few.

Sequenced sessions, fragments, packets that are too big: whatever the programs pass on is finished by the TUN plane's
rules (`flows`), with counters in the slots' pinned memory.

Invariants: at most `LIMIT` flows are kept, besides those that count by themselves (a LAC's, sequenced ones, and any
that found no slot); a flow is dropped as soon as its entry changes.
"""

from array import array
from typing import Final, Protocol

from holdfast.dataplane.contract import Entry
from holdfast.dataplane.ebpf.slots import WORDS
from holdfast.dataplane.flows import Flow, Flows, Outbox
from holdfast.records import session_key

LIMIT: Final = 1024


class Sessions(Protocol):
    """Where the entries are."""

    def entry(self, key: int) -> Entry | None: ...
    def slot(self, key: int) -> int | None: ...
    def owner(self, address: int) -> int | None: ...


class SlowFlow(Flow):
    """A flow that counts in the memory of its slot."""

    __slots__ = ("_at", "_words")

    def __init__(self, entry: Entry, outbox: Outbox, words: memoryview, slot: int) -> None:
        """Raises BadEntry."""
        self._words, self._at = memoryview(array("Q", [0] * WORDS)), 0  # which the next line zeroes
        super().__init__(entry, outbox)
        self._words, self._at = words, slot * WORDS


def _word(place: int) -> property:
    def get(flow: SlowFlow) -> int:
        value: int = flow._words[flow._at + place]
        return value

    def set_(flow: SlowFlow, value: int) -> None:
        flow._words[flow._at + place] = value

    return property(get, set_)


for _place, _name in enumerate(("rx_packets", "rx_bytes", "tx_packets", "tx_bytes"), 1):
    setattr(SlowFlow, _name, _word(_place))


class SlowFlows(Flows):
    """Flows that are made from a plane's entries when they are looked for."""

    def __init__(self, sessions: Sessions, words: memoryview, *, mss_clamp: bool, icmp_source: str) -> None:
        super().__init__(mss_clamp=mss_clamp, icmp_source=icmp_source)
        self._sessions, self._words = sessions, words
        self._passing: dict[int, None] = {}

    def _make(self, entry: Entry, outbox: Outbox) -> Flow:
        slot = self._sessions.slot(entry.key)
        return Flow(entry, outbox) if slot is None else SlowFlow(entry, outbox, self._words, slot)

    def find(self, ids: int) -> Flow | None:
        """The flow of a data message."""
        return self.by_ids.get(ids) or self._load(session_key(ids >> 16, ids & 0xFFFF))

    def towards(self, source: int, destination: int) -> Flow | None:
        """The flow of a packet of the device."""
        flow = super().towards(source, destination)
        if flow is not None:
            return flow
        key = self._sessions.owner(destination)
        return None if key is None else self._load(key)

    def disown(self, address: int) -> None:
        """Whose this address is has to be found out anew."""
        self.by_destination.pop(address, None)

    def change(self, entry: Entry) -> None:
        """The session has another entry now."""
        if entry.key in self._passing:
            self.drop(entry.key)
        elif entry.key in self.by_key:
            self.install((entry,))

    def drop(self, key: int) -> None:
        """The session is no longer installed, or not looked for any more."""
        self._passing.pop(key, None)
        self.remove((key,))

    def _load(self, key: int) -> Flow | None:
        flow = self.by_key.get(key)
        if flow is not None:
            return flow
        entry = self._sessions.entry(key)
        if entry is None:
            return None
        if len(self._passing) >= LIMIT:
            self.drop(next(iter(self._passing)))
        self.install((entry,))
        flow = self.by_key[key]
        if self._sessions.owner(flow.address) != key:  # a younger session has claimed it
            self.disown(flow.address)
        if not entry.sequenced:  # whose next Ns is in the flow
            self._passing[key] = None
        return flow
