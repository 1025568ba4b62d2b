"""Entries as the maps hold them, packed many at a time: a restart packs every session before data flows.

The layout is `abi`'s; a test compares what is packed here, field by field over all entries, with what `abi.elements`
makes of each. Only entries of an LNS come here.
"""

import socket
import struct
import sys
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from holdfast.dataplane import ipv4
from holdfast.dataplane.contract import Address, BadEntry, Entry
from holdfast.dataplane.ebpf import abi
from holdfast.dataplane.ebpf.abi import Flag
from holdfast.dataplane.flows import check
from holdfast.records import Side

FEW: Final = 16
"""So many entries are packed one by one as fast as field by field."""

_ends = struct.Struct("!4s4sHH")
_NO_PREFIX = (b"", bytes(8), 0)
_inet4: Callable[[str], bytes] = partial(socket.inet_pton, socket.AF_INET)


def cut(rows: bytes | bytearray, size: int) -> list[bytes]:
    """What lies one behind the other, by itself."""
    return [row for (row,) in struct.iter_unpack(f"{size}s", rows)]


def interleaved(columns: Iterable[bytes | bytearray | memoryview], count: int, size: int) -> bytearray:
    """Rows of `size` octets from columns; each has as many words of 32 bits of every row."""
    made, at, width = bytearray(count * size), 0, size // 4
    words = memoryview(made).cast("I")
    for column in columns:
        source = memoryview(column).cast("B").cast("I")
        each = len(source) // max(count, 1)
        for word in range(each):
            words[at::width] = source[word::each]
            at += 1
    assert at == width or not count
    return made


class Rows(NamedTuple):
    """Keys and values of the maps for some entries, each one behind the other.

    `subscribers` are the values of both `addresses` and `prefixes`; of the latter there are as many as of the others,
    "" for an entry without IPv6, or none at all if no entry has it.
    """

    ids: bytearray
    sessions: bytearray
    addresses: bytearray
    prefixes: list[bytes]
    subscribers: bytearray

    def columns(self) -> tuple[list[bytes], list[bytes], list[bytes], list[bytes], list[bytes]]:
        """What `abi.Keyed` has of one entry, of all of them."""
        ids = cut(self.ids, 4)
        return (
            ids,
            cut(self.sessions, abi.SESSION_SIZE),
            cut(self.addresses, 4),
            self.prefixes or [b""] * len(ids),
            cut(self.subscribers, abi.SUBSCRIBER_SIZE),
        )

    def dumped(self) -> tuple[bytearray, bytearray, bytes]:
        """Keys and values together, as `table.Dump` has those of `sessions`, `subscribers` and `prefixes`."""
        count = len(self.ids) // 4
        led = (
            zip(self.prefixes, cut(self.subscribers, abi.SUBSCRIBER_SIZE), strict=True)
            if self.prefixes
            else ()
        )
        return (
            interleaved((self.ids, self.sessions), count, 4 + abi.SESSION_SIZE),
            interleaved((self.addresses, self.subscribers), count, 4 + abi.SUBSCRIBER_SIZE),
            b"".join([prefix + value for prefix, value in led if prefix]),
        )


def pack(
    entries: Sequence[Entry], slots: Sequence[int], *, clamp_mss: bool = False, traced: Collection[int] = ()
) -> Rows:
    """What the maps hold for entries with these slots; those whose keys are in `traced` are shown. Raises BadEntry."""
    if len(entries) > FEW:
        return Fields(entries).rows(slots, clamp_mss=clamp_mss, traced=traced)
    each = [
        abi.elements(entry, slot, clamp_mss=clamp_mss, traced=entry.key in traced)
        for entry, slot in zip(entries, slots, strict=True)
    ]
    ids, sessions, addresses, prefixes, subscribers = zip(*each, strict=True) if each else ((),) * 5
    return Rows(
        bytearray(b"".join(ids)),
        bytearray(b"".join(sessions)),
        bytearray(b"".join(addresses)),
        list(prefixes) if any(prefixes) else [],
        bytearray(b"".join(subscribers)),
    )


def usable(entries: Iterable[Entry]) -> "tuple[list[Entry], Fields | None, BadEntry | None]":
    """The entries before the first that no map can hold, the fields of many, and what is wrong with that one.

    Those of a LAC, which are not for maps, are not looked at, and are not among the fields.
    """
    given = list(entries)
    ours = [entry for entry in given if entry.side is Side.LNS]
    try:
        if len(ours) > FEW:
            return given, Fields(ours), None
    except BadEntry:
        pass  # which of them, the following tells
    for at, entry in enumerate(given):
        if entry.side is Side.LNS and (error := fault(entry)) is not None:
            return given[:at], None, error
    return given, None, None


def fault(entry: Entry) -> BadEntry | None:
    """Why no map can hold this entry."""
    try:
        check(entry)
        abi.elements(entry, 0)
    except BadEntry as error:
        return error
    return None


class Fields:
    """The fields of `entries`, each in a column of its own; what each word of a row is made of."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        """Raises BadEntry; which entry is bad, `fault` tells."""
        self.entries = entries
        try:
            tunnels, sessions = [e.local_tunnel for e in entries], [e.local_session for e in entries]
            if array("Q", [e.key for e in entries]).tobytes() != _keys(tunnels, sessions):
                raise ValueError("a key is not of its ids")
            self._ids = _ids(tunnels, sessions)
            self._peer_ids = _ids([e.peer_tunnel for e in entries], [e.peer_session for e in entries])
            self._addresses = b"".join(map(_inet4, [e.address for e in entries]))
            self._magics = _in_network_order(array("I", [e.magic for e in entries]))
            self._mtus = array("H", [e.mtu for e in entries])
            if min(self._mtus) < ipv4.MINIMUM_MTU:
                raise ValueError("an MTU is too small")
            self._both_ends()
            self._prefix_fields([e.prefix for e in entries])
        except (OSError, OverflowError, ValueError, struct.error) as error:
            raise BadEntry(str(error)) from error

    def _both_ends(self) -> None:
        """Addresses and ports of the peer and ours: those of few pairs, and nearly always one address of ours."""
        peers, ours = [e.peer for e in self.entries], [e.local for e in self.entries]
        local, *others = set(ours)
        keys: Sequence[object] = peers
        pairs: dict[object, tuple[Address, Address]] = {peer: (peer, local) for peer in set(peers)}
        if others:
            keys = list(zip(peers, ours, strict=True))
            pairs = dict(zip(keys, zip(peers, ours, strict=True), strict=True))
        there, back = {}, {}
        for key, (peer, local) in pairs.items():
            there[key] = _ends.pack(_inet4(peer[0]), _inet4(local[0]), peer[1], local[1])
            back[key] = _ends.pack(_inet4(local[0]), _inet4(peer[0]), local[1], peer[1])
        self._there = b"".join([there[key] for key in keys])
        self._back = b"".join([back[key] for key in keys])

    def _prefix_fields(self, prefixes: list[str]) -> None:
        count = len(prefixes)
        self._prefix_keys: list[bytes] = []
        self._prefixes, self._prefix_lengths = bytes(8 * count), bytes(count)
        if any(prefixes):
            parsed = [abi.prefix_key(prefix) if prefix else _NO_PREFIX for prefix in prefixes]
            self._prefix_keys = [key for key, _, _ in parsed]
            self._prefixes = b"".join([prefix for _, prefix, _ in parsed])
            self._prefix_lengths = bytes([length for _, _, length in parsed])

    def rows(self, slots: Sequence[int], *, clamp_mss: bool, traced: Collection[int]) -> Rows:
        """With these slots."""
        flags = self._flags(clamp_mss, traced)
        ends = [bytearray(4 * len(slots)) for _ in range(2)]
        for end in ends:
            memoryview(end).cast("H")[0::2] = memoryview(self._mtus)
        ends[0][2::4], ends[0][3::4] = self._prefix_lengths, flags
        memoryview(ends[1]).cast("H")[1::2] = memoryview(array("H", list(flags)))
        slot = memoryview(array("I", slots))
        session = (self._there, self._peer_ids, self._addresses, self._magics, self._prefixes, slot, ends[0])
        subscriber = (self._back, self._peer_ids, self._ids, slot, ends[1])
        return Rows(
            bytearray(self._ids),
            interleaved(session, len(slots), abi.SESSION_SIZE),
            bytearray(self._addresses),
            self._prefix_keys,
            interleaved(subscriber, len(slots), abi.SUBSCRIBER_SIZE),
        )

    def _flags(self, clamp_mss: bool, traced: Collection[int]) -> bytes:
        """One octet for each entry. A column of bools is a number in which each has an octet."""
        entries, size = self.entries, len(self.entries)
        columns = {
            Flag.TO_DAEMON: [e.sequenced for e in entries],
            Flag.CLAMP_MSS: [clamp_mss] * size,
            Flag.ANSWER_ECHO: [e.echo for e in entries],
            Flag.ACFC: [e.acfc for e in entries],
            Flag.PFC: [e.pfc for e in entries],
            Flag.LENGTH: [e.with_length for e in entries],
            Flag.TRACE: [e.key in traced for e in entries] if traced else [False] * size,
        }
        return sum(flag * int.from_bytes(bytes(column)) for flag, column in columns.items()).to_bytes(size)


def _ids(tunnels: list[int], sessions: list[int]) -> bytes:
    """Raises OverflowError, ValueError."""
    if 0 in tunnels or 0 in sessions:
        raise ValueError("0 is no id")
    both = array("H", bytes(4 * len(tunnels)))
    both[0::2], both[1::2] = array("H", tunnels), array("H", sessions)
    return _in_network_order(both)


def _keys(tunnels: list[int], sessions: list[int]) -> bytes:
    """Session keys (records.session_key) as 64 bits each. Raises OverflowError."""
    halves = array("H", bytes(8 * len(tunnels)))
    little = sys.byteorder == "little"
    halves[2 if little else 1 :: 4], halves[0 if little else 3 :: 4] = (
        array("H", tunnels),
        array("H", sessions),
    )
    return halves.tobytes()


def _in_network_order(numbers: "array[int]") -> bytes:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()
