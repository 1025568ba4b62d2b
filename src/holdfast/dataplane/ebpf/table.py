"""Entries as the maps hold them, read back: a hundred thousand at a time.

The layout is `abi`'s; `rows` is the other way. An entry in the maps is always of an LNS.
"""

import socket
import struct
import sys
from array import array
from collections.abc import Mapping
from ipaddress import IPv6Network
from typing import Final, NamedTuple

from holdfast.dataplane.contract import Entry
from holdfast.dataplane.ebpf import abi, syscall
from holdfast.dataplane.ebpf.abi import Flag
from holdfast.dataplane.ebpf.rows import cut, interleaved
from holdfast.records import Side, session_key

_ends = struct.Struct("!4s4sHH")
_ids = struct.Struct("!HH")
_session = struct.Struct(
    "=12s4s4s4s8sIHBB"
)  # both ends, the peer's ids, address, magic, prefix, then host order
_subscriber = struct.Struct(
    "=12s4s4sIHH"
)  # both ends the other way, the peer's ids, our ids, then host order
_SLOT_OF_SESSION: Final = 8
_SLOT_OF_SUBSCRIBER: Final = 5

_TO_DAEMON, _CLAMP, _ECHO = int(Flag.TO_DAEMON), int(Flag.CLAMP_MSS), int(Flag.ANSWER_ECHO)
_ACFC, _PFC, _LENGTH = int(Flag.ACFC), int(Flag.PFC), int(Flag.LENGTH)
_TRACE = int(Flag.TRACE)
_IDS_AT: Final = 16  # of a subscriber's value
_ADDRESS: Final = slice(16, 20)  # of a session's
_INET = socket.AF_INET


class Dump(NamedTuple):
    """What a map holds: keys with their values, one behind the other, in the order of the slots that the values name.

    That is about the order in which sessions came, and in which they are wanted and lie in memory; the kernel's own is
    random. If two values name one slot it is that.
    """

    rows: bytes
    key_size: int
    value_size: int
    slots: list[int]

    def pairs(self) -> dict[bytes, bytes]:
        """Values by key."""
        size = self.key_size
        return {row[:size]: row[size:] for row in cut(self.rows, size + self.value_size)}


class Held:
    """What three maps hold; `keys` are those of the sessions, as records have them."""

    def __init__(self, sessions: Dump, subscribers: Dump, prefixes: Dump) -> None:
        self.sessions, self.subscribers, self.prefixes = sessions, subscribers, prefixes
        halves, width = memoryview(sessions.rows).cast("H"), (sessions.key_size + sessions.value_size) // 2
        ids = array("H", halves[0::width].tolist() + halves[1::width].tolist())
        if sys.byteorder == "little":
            ids.byteswap()
        both = zip(ids[: len(ids) // 2], ids[len(ids) // 2 :], strict=True)
        self.keys = [tunnel << 32 | session for tunnel, session in both]  # as session_key has it, but faster


def read(maps: Mapping[str, int]) -> Held:
    """Dump the maps. Raises BpfError."""
    size = syscall.map_info(maps["sessions"]).max_entries
    return Held(
        _dump(maps["sessions"], 4, abi.SESSION_SIZE, size, _SLOT_OF_SESSION),
        _dump(maps["subscribers"], 4, abi.SUBSCRIBER_SIZE, size, _SLOT_OF_SUBSCRIBER),
        _dump(maps["prefixes"], abi.PREFIX_SIZE, abi.SUBSCRIBER_SIZE, size, _SLOT_OF_SUBSCRIBER),
    )


def _dump(fd: int, key_size: int, value_size: int, size: int, word: int) -> Dump:
    """`word`: which of 32 bits in a value is the slot."""
    keys, values, count = syscall.lookup_batch(fd, key_size, value_size, size)
    held = memoryview(values)[: count * value_size]
    rows = interleaved((memoryview(keys)[: count * key_size], held), count, key_size + value_size)
    slots = held.cast("I")[word :: value_size // 4].tolist()
    highest = max(slots, default=-1)
    if highest < size:  # no such slot otherwise
        places = [b""] * (highest + 1)
        for slot, row in zip(slots, cut(rows, key_size + value_size), strict=True):
            places[slot] = row
        if len(places) == count and all(places):  # as long as no session has left
            return Dump(b"".join(places), key_size, value_size, list(range(count)))
        ordered = [row for row in places if row]
        if len(ordered) == count:
            slots = [slot for slot, row in enumerate(places) if row]
            return Dump(b"".join(ordered), key_size, value_size, slots)
    return Dump(bytes(rows), key_size, value_size, slots)


def entries_of(held: Held, *, clamp_mss: bool) -> dict[int, Entry]:
    """The entries that are wholly there: what leads to a session leads to it, or to a younger one with its address."""
    clamp = _CLAMP if clamp_mss else 0
    found: dict[int, Entry] = {}
    sessions, subscribers, prefixes = (
        each.pairs() for each in (held.sessions, held.subscribers, held.prefixes)
    )
    for ids, value in sessions.items():
        entry, slot, flags = _entry(ids, value)
        led = subscribers.get(value[_ADDRESS], b"")
        whole = _leads_to(led, ids, slot) or _has_address(sessions, led, value[_ADDRESS])
        if entry.prefix:
            whole = whole and _leads_to(prefixes.get(abi.prefix_key(entry.prefix)[0], b""), ids, slot)
        if whole and flags & _CLAMP == clamp:
            found[entry.key] = entry
    return found


def _entry(ids: bytes, value: bytes) -> tuple[Entry, int, int]:
    """An entry, its slot and its flags."""
    ends, peer_ids, address, magic, prefix, slot, mtu, length, flags = _session.unpack(value)
    peer, local, peer_port, local_port = _ends.unpack(ends)
    local_tunnel, local_session = _ids.unpack(ids)
    peer_tunnel, peer_session = _ids.unpack(peer_ids)
    text = socket.inet_ntoa
    entry = Entry(
        key=session_key(local_tunnel, local_session),
        side=Side.LNS,
        local_tunnel=local_tunnel,
        local_session=local_session,
        peer_tunnel=peer_tunnel,
        peer_session=peer_session,
        peer=(text(peer), peer_port),
        address=text(address),
        mtu=mtu,
        acfc=bool(flags & _ACFC),
        pfc=bool(flags & _PFC),
        with_length=bool(flags & _LENGTH),
        sequenced=bool(flags & _TO_DAEMON),
        local=(text(local), local_port),
        echo=bool(flags & _ECHO),
        magic=int.from_bytes(magic, "big"),
        prefix=str(IPv6Network((prefix + bytes(8), length))) if length else "",
    )
    return entry, slot, flags


def _leads_to(subscriber: bytes, ids: bytes, slot: int) -> bool:
    return bool(subscriber) and _subscriber.unpack(subscriber)[2:4] == (ids, slot)


def _has_address(sessions: Mapping[bytes, bytes], subscriber: bytes, address: bytes) -> bool:
    """Whether the session that this leads to has that address."""
    return sessions.get(subscriber[_IDS_AT : _IDS_AT + 4], b"")[_ADDRESS] == address


def claimant(subscriber: bytes) -> int:
    """The key of the session that a value of `subscribers` or `prefixes` leads to."""
    return session_key(*_ids.unpack_from(subscriber, _IDS_AT))


def address_key(address: str) -> bytes:
    """A key of `subscribers`."""
    return socket.inet_pton(_INET, address)
