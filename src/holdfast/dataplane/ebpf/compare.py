"""Whether the maps hold what is wanted: over all entries at once, since a restart waits for it.

The wanted entries are packed in the order of the sessions' dump. Where all is well both are the same octets; only where
they are not, entries are looked at one by one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

from holdfast.dataplane.contract import BadEntry, Entry
from holdfast.dataplane.ebpf import abi
from holdfast.dataplane.ebpf.rows import Rows, cut, fault
from holdfast.dataplane.ebpf.table import Held, address_key, claimant

Pack: TypeAlias = Callable[[Sequence[Entry], Sequence[int]], Rows]
"""Packs entries with their slots. Raises BadEntry."""


_ROW = 4 + abi.SESSION_SIZE


class Compared(NamedTuple):
    """`wrong`: keys of wanted sessions that the maps do not hold so; `agreed`: what they do; `strays`: addresses and
    prefixes that lead to no wanted session.
    """

    wrong: set[int]
    agreed: list[Entry]
    strays: tuple[set[bytes], set[bytes]]


def compare(held: Held, want: Mapping[int, Entry], slots: Mapping[int, int], pack: Pack) -> Compared:
    """`slots`: those that sessions should have. A wanted session without one is neither wrong nor agreed."""
    here, own, rows = _wanted(held, want, slots)
    try:
        packed = pack(here, own)
    except BadEntry:
        bad = {entry.key for entry in here if fault(entry) is not None}
        rest = compare(held, {key: e for key, e in want.items() if key not in bad}, slots, pack)
        return rest._replace(wrong=rest.wrong | bad)
    sessions, *leads = packed.dumped()
    wrong = _absent(here, want, slots)
    if sessions != rows:
        both = zip(here, cut(sessions, _ROW), cut(rows, _ROW), strict=True)
        wrong.update(entry.key for entry, wanted, is_there in both if wanted != is_there)
    strays: tuple[set[bytes], set[bytes]] = set(), set()
    if leads != [held.subscribers.rows, held.prefixes.rows]:
        addresses, prefixes = held.subscribers.pairs(), held.prefixes.pairs()
        for entry, _, _, address, prefix, wanted in zip(here, *packed.columns(), strict=True):
            led = addresses.get(address)
            if (prefix and prefixes.get(prefix) != wanted) or (
                led != wanted and not _is_youngers(entry, led, want)
            ):
                wrong.add(entry.key)
        strays = _strays(set(addresses), set(prefixes), want, slots, packed)
    return Compared(wrong, [entry for entry in here if entry.key not in wrong] if wrong else here, strays)


def _wanted(
    held: Held, want: Mapping[int, Entry], slots: Mapping[int, int]
) -> tuple[list[Entry], list[int], bytes]:
    """The wanted entries of the sessions that are held, with their slots and what is held, in the order of the dump."""
    rows = held.sessions.rows
    found, own = list(map(want.get, held.keys)), list(map(slots.get, held.keys))
    if all(found) and None not in own:
        return (
            cast(list[Entry], found),
            cast(list[int], own),
            rows,
        )  # all are there: a look at each costs more
    each = zip(found, own, cut(rows, _ROW), strict=True)
    picked = [(e, slot, row) for e, slot, row in each if e is not None and slot is not None]
    return [e for e, _, _ in picked], [s for _, s, _ in picked], b"".join([row for _, _, row in picked])


def _absent(here: Sequence[Entry], want: Mapping[int, Entry], slots: Mapping[int, int]) -> set[int]:
    """Keys of wanted sessions that have a slot and are not held."""
    if len(here) == len(want):
        return set()
    there = {entry.key for entry in here}
    return {key for key in want if key in slots and key not in there}


def _is_youngers(entry: Entry, leads: bytes | None, want: Mapping[int, Entry]) -> bool:
    """Whether an entry's address leads to a younger session that has it too."""
    other = want.get(claimant(leads)) if leads is not None else None
    return other is not None and other.key != entry.key and other.address == entry.address


def _strays(
    addresses: set[bytes],
    prefixes: set[bytes],
    want: Mapping[int, Entry],
    slots: Mapping[int, int],
    rows: Rows,
) -> tuple[set[bytes], set[bytes]]:
    """Of these, those that no wanted entry has: none of `rows`, and none that has no slot."""
    elsewhere = [entry for key, entry in want.items() if key not in slots and fault(entry) is None]
    leads = {*cut(rows.addresses, 4), *(address_key(entry.address) for entry in elsewhere)}
    leads6 = {*rows.prefixes, *(abi.prefix_key(entry.prefix)[0] for entry in elsewhere if entry.prefix)}
    return addresses - leads, prefixes - leads6
