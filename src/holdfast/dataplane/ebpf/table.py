"""Entries as the maps hold them: packed, compared, and read back, a hundred thousand at a time.

The layout is `abi`'s (a test compares what this packs with what that does); this is its fast form, since a restart
packs every session before data flows. An entry in the maps is always of an LNS.
"""

import socket
import struct
from collections.abc import Mapping
from ipaddress import IPv6Network
from typing import Final, NamedTuple, TypeAlias

from holdfast.dataplane.contract import Address, BadEntry, Entry
from holdfast.dataplane.ebpf import abi, syscall
from holdfast.dataplane.ebpf.abi import Flag
from holdfast.records import Side, session_key

Elements: TypeAlias = tuple[bytes, bytes, bytes, bytes, bytes]
"""Of one entry: key and value of `sessions`; a key of `subscribers`; a key of `prefixes` or ""; the value of both."""

_ends = struct.Struct("!4s4sHH")
_ids = struct.Struct("!HH")
_session = struct.Struct(
    "=12s4s4s4s8sIHBB"
)  # both ends, the peer's ids, address, magic, prefix, then host order
_subscriber = struct.Struct(
    "=12s4s4sIHH"
)  # both ends the other way, the peer's ids, our ids, then host order
_slot = struct.Struct("=32xI4x")  # of a session

_TO_DAEMON, _CLAMP, _ECHO = int(Flag.TO_DAEMON), int(Flag.CLAMP_MSS), int(Flag.ANSWER_ECHO)
_ACFC, _PFC, _LENGTH = int(Flag.ACFC), int(Flag.PFC), int(Flag.LENGTH)
_TRACE = int(Flag.TRACE)
_IDS_AT: Final = 16  # of a subscriber's value
_ADDRESS: Final = slice(16, 20)  # of a session's
_INET = socket.AF_INET


class Packer:
    """Packs entries; remembers what the sessions of one peer have in common."""

    def __init__(self, *, clamp_mss: bool) -> None:
        self._clamp = _CLAMP if clamp_mss else 0
        self._ends: dict[Address, tuple[Address, bytes, bytes]] = {}

    def elements(self, entry: Entry, slot: int, traced: bool = False) -> Elements:
        """What the maps hold for an entry. Raises BadEntry."""
        try:
            known = self._ends.get(entry.peer)
            if known is None or known[0] != entry.local:
                known = self._ends[entry.peer] = _both_ends(entry)
            _, ends, reverse = known
            address = socket.inet_pton(_INET, entry.address)
            prefix_key, prefix, length = abi.prefix_key(entry.prefix) if entry.prefix else (b"", b"", 0)
            flags = (
                self._clamp
                | (_ECHO if entry.echo else 0)
                | (_TO_DAEMON if entry.sequenced else 0)
                | (_ACFC if entry.acfc else 0)
                | (_PFC if entry.pfc else 0)
                | (_LENGTH if entry.with_length else 0)
                | (_TRACE if traced else 0)
            )
            mtu, magic = entry.mtu, entry.magic.to_bytes(4, "big")
            ids = _ids.pack(entry.local_tunnel, entry.local_session)
            peer_ids = _ids.pack(entry.peer_tunnel, entry.peer_session)
            session = _session.pack(ends, peer_ids, address, magic, prefix, slot, mtu, length, flags)
            return (
                ids,
                session,
                address,
                prefix_key,
                _subscriber.pack(reverse, peer_ids, ids, slot, mtu, flags),
            )
        except (OSError, OverflowError, ValueError, struct.error) as error:
            raise BadEntry(f"session {entry.key:#x}: {error}") from error


def _both_ends(entry: Entry) -> tuple[Address, bytes, bytes]:
    """Raises OSError, struct.error."""
    peer, local = socket.inet_pton(_INET, entry.peer[0]), socket.inet_pton(_INET, entry.local[0])
    ports = entry.peer[1], entry.local[1]
    return entry.local, _ends.pack(peer, local, *ports), _ends.pack(local, peer, *ports[::-1])


class Held(NamedTuple):
    """What three maps hold, by key, and the slot of every session by session key."""

    sessions: dict[bytes, bytes]
    subscribers: dict[bytes, bytes]
    prefixes: dict[bytes, bytes]
    slots: dict[int, int]


def read(maps: Mapping[str, int]) -> Held:
    """Dump the maps. Raises BpfError."""
    size = syscall.map_info(maps["sessions"]).max_entries
    ids, values = _dump(maps["sessions"], 4, abi.SESSION_SIZE, size)
    slots = zip(_ids.iter_unpack(ids), _slot.iter_unpack(values), strict=True)
    return Held(
        _paired(ids, 4, values, abi.SESSION_SIZE),
        _leads(maps["subscribers"], 4, size),
        _leads(maps["prefixes"], abi.PREFIX_SIZE, size),
        {tunnel << 32 | session: slot for (tunnel, session), (slot,) in slots},
    )


def _leads(fd: int, key_size: int, size: int) -> dict[bytes, bytes]:
    keys, values = _dump(fd, key_size, abi.SUBSCRIBER_SIZE, size)
    return _paired(keys, key_size, values, abi.SUBSCRIBER_SIZE)


def _dump(fd: int, key_size: int, value_size: int, size: int) -> tuple[memoryview, memoryview]:
    keys, values, count = syscall.lookup_batch(fd, key_size, value_size, size)
    return memoryview(keys)[: count * key_size], memoryview(values)[: count * value_size]


def _paired(keys: memoryview, key_size: int, values: memoryview, value_size: int) -> dict[bytes, bytes]:
    pairs = zip(
        struct.iter_unpack(f"{key_size}s", keys), struct.iter_unpack(f"{value_size}s", values), strict=True
    )
    return {key: value for (key,), (value,) in pairs}


def entries_of(held: Held, *, clamp_mss: bool) -> dict[int, Entry]:
    """The entries that are wholly there: what leads to a session leads to it, or to a younger one with its address."""
    clamp = _CLAMP if clamp_mss else 0
    found: dict[int, Entry] = {}
    for ids, value in held.sessions.items():
        entry, slot, flags = _entry(ids, value)
        led = held.subscribers.get(value[_ADDRESS], b"")
        whole = _leads_to(led, ids, slot) or _has_address(held, led, value[_ADDRESS])
        if entry.prefix:
            whole = whole and _leads_to(held.prefixes.get(abi.prefix_key(entry.prefix)[0], b""), ids, slot)
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


def _has_address(held: Held, subscriber: bytes, address: bytes) -> bool:
    """Whether the session that this leads to has that address."""
    return held.sessions.get(subscriber[_IDS_AT : _IDS_AT + 4], b"")[_ADDRESS] == address


def claimant(subscriber: bytes) -> int:
    """The key of the session that a value of `subscribers` or `prefixes` leads to."""
    return session_key(*_ids.unpack_from(subscriber, _IDS_AT))


def address_key(address: str) -> bytes:
    """A key of `subscribers`."""
    return socket.inet_pton(_INET, address)
