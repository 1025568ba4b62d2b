"""The plane in the kernel: programs at the interfaces forward, the daemon programs their maps and finishes the rest.

What the programs pass on comes to the daemon's socket and TUN device, and is forwarded by the rules of `flows`, like
everything on the TUN plane. Sessions that are not for the maps (a LAC's, and those beyond the maps' size) are forwarded
there altogether, while the daemon lives.

Invariants: `subscribers` and `prefixes` lead to a session only while `sessions` has it or is about to (written before
it, removed after it); a slot is given to another session only once `forget` was told of its last one; the maps are
what `enumerate` reports, not what was written to them.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from holdfast.dataplane import ipv4
from holdfast.dataplane.contract import BadEntry, Entry, Plan, Punt, Verdict
from holdfast.dataplane.ebpf import abi, counters, syscall
from holdfast.dataplane.ebpf.compare import compare
from holdfast.dataplane.ebpf.links import Attached
from holdfast.dataplane.ebpf.news import News, Tell
from holdfast.dataplane.ebpf.pins import Pins
from holdfast.dataplane.ebpf.ring import Ring, missed
from holdfast.dataplane.ebpf.rows import Fields, Rows, cut, pack, usable
from holdfast.dataplane.ebpf.service import Service
from holdfast.dataplane.ebpf.slots import Slots
from holdfast.dataplane.ebpf.slow import SlowFlows
from holdfast.dataplane.ebpf.table import (
    Held,
    address_key,
    claimant,
    entries_of,
    read,
)
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.trace import Seen, Sink
from holdfast.dataplane.tun import Device, Socket, TunPlane
from holdfast.records import Counters, Side, session_key

TRACED_AT_ONCE: Final = 256
"""Packets of traced sessions that one call gives out."""


class EbpfPlane:
    """Forwards in the kernel, and goes on when this process has ended."""

    def __init__(
        self,
        pins: Pins,
        device: Device,
        socket: Socket,
        service: Service,
        tell: Tell,
        *,
        mtu: int = 1460,
        mss_clamp: bool = False,
        icmp_source: str = "",
    ) -> None:
        self._pins, self._service, self._tell = pins, service, tell
        self._mss_clamp = mss_clamp
        self._entries: dict[int, Entry] = {}
        self._slots = Slots(pins.slots, pins.max_sessions)
        self._flows = SlowFlows(self, self._slots.view, mss_clamp=mss_clamp, icmp_source=icmp_source)
        self._tun = TunPlane(device, socket, mtu=mtu, flows=self._flows)
        self._device = device
        self._counted: dict[int, Counters] = {}
        self._full = False
        self._strays: tuple[set[bytes], set[bytes]] = (set(), set())
        self._seen: Held | None = None
        self._ring: Ring | None = None
        self._adopt()

    def _adopt(self) -> None:
        """Find out which sessions the maps hold, and what those of the set that they replace have counted."""
        maps = self._pins.maps
        self._seen = read(maps)
        slots = dict(zip(self._seen.keys, self._seen.sessions.slots, strict=True))
        if len(set(slots.values())) < len(slots):  # no telling whose a shared slot's counters are
            for slot, many in Counter(slots.values()).items():
                for key in [key for key, its in slots.items() if its == slot and many > 1]:
                    syscall.delete(maps["sessions"], abi.ids_key(key >> 32, key & 0xFFFF))
                    del slots[key]
            self._seen = None
            self._pins.forget_flows()
        self._slots.adopt(slots)
        if self._pins.counted is not None:
            self._counted = self._pins.counted.read()
            self._flows.earlier = dict(self._counted)

    # Entries.

    def install(self, entries: Iterable[Entry]) -> None:
        """Add or replace entries (DataPlane.install). Raises BadEntry, BpfError."""
        known, flows, slots = self._entries, self._flows, self._slots.by_key
        entries, fields, refused = usable(entries)
        self._take_slots(entries)
        installed: list[Entry] = []
        mtus: list[int] = []
        replaced: list[Entry] = []
        self._seen = None
        try:
            for entry in entries:
                key = entry.key
                old = known.get(key)
                if old == entry:
                    continue
                if key in slots:
                    installed.append(entry)
                else:
                    flows.install((entry,))
                known[key] = entry
                mtus.append(entry.mtu)
                if old is not None:
                    replaced.append(old)
                if flows.by_key:
                    flows.change(entry)
                    flows.disown(int.from_bytes(address_key(entry.address), "big"))
            if refused is not None:
                raise refused
        except BadEntry:
            for entry in entries:
                if entry.key in slots and entry.key not in known:
                    self._slots.give_back(entry.key)
            raise
        finally:
            self._tun.mtu.count(Counter(mtus))
            self._set_counters()
            self._write(self._rows(installed, fields))
            for old in replaced:
                self._tun.mtu.change(old.mtu, 0)
                if old.key in slots:
                    self._lead_elsewhere(old, known[old.key])
            if installed:
                self._pins.forget_flows()
            self._tun.mtu.adjust(self._device)

    def _rows(self, entries: Sequence[Entry], fields: Fields | None = None) -> Rows:
        """What the maps shall hold for entries that have slots. Raises BadEntry.

        `fields` may be those of these entries, or of others.
        """
        slots = self._slots.by_key
        own = [slots[entry.key] for entry in entries]
        if fields is None or fields.entries != entries:
            return pack(entries, own, clamp_mss=self._mss_clamp, traced=self._flows.sinks.keys())
        return fields.rows(own, clamp_mss=self._mss_clamp, traced=self._flows.sinks.keys())

    def _take_slots(self, entries: Sequence[Entry]) -> None:
        """A slot for each session that is new here. A LAC's need none."""
        slots, known, earlier = self._slots, self._entries, self._flows.earlier
        new = dict.fromkeys(e.key for e in entries if e.key not in known and e.side is Side.LNS)
        keys = [key for key in new if key not in slots.by_key] if slots.by_key else list(new)
        slots.take_all(keys)
        for key in keys if earlier else ():
            slot = slots.by_key.get(key)
            total = None if slot is None else earlier.pop(key, None)
            if slot is not None and total is not None and slot in slots.fresh:
                slots.resume(slot, total)
        if not self._full and not new.keys() <= slots.by_key.keys():
            self._full = True
            text = "more sessions than the maps hold: these stop while the daemon is away"
            remedy = "raise dataplane.max_sessions"
            self._tell(News("dataplane.full", {"text": text, "remedy": remedy}, warning=True))

    def _set_counters(self) -> None:
        """New owners of slots count from nothing."""
        counters.set_slots(self._pins.maps["counters"], dict.fromkeys(self._slots.to_zero, Counters()))
        self._slots.settle()

    def _write(self, rows: Rows) -> None:
        """What leads to sessions first, then the sessions."""
        maps, count = self._pins.maps, len(rows.addresses) // 4
        syscall.update_batch(maps["subscribers"], rows.addresses, rows.subscribers, count)
        if rows.prefixes:
            values = cut(rows.subscribers, abi.SUBSCRIBER_SIZE)
            led = [value for prefix, value in zip(rows.prefixes, values, strict=True) if prefix]
            keys, to = bytearray(b"".join(rows.prefixes)), bytearray(b"".join(led))
            syscall.update_batch(maps["prefixes"], keys, to, len(led))
        syscall.update_batch(maps["sessions"], rows.ids, rows.sessions, count)

    def _lead_elsewhere(self, old: Entry, new: Entry) -> None:
        """What led to a session and shall no longer, once what leads to it now is written."""
        if old.address != new.address:
            self._release("subscribers", address_key(old.address), old.key)
        if old.prefix and old.prefix != new.prefix:
            self._release("prefixes", abi.prefix_key(old.prefix)[0], old.key)

    def _release(self, name: str, lead: bytes, key: int) -> None:
        """Remove what leads to this session, unless it leads to another one by now."""
        if self._leads_to(name, lead, key):
            syscall.delete(self._pins.maps[name], lead)

    def _leads_to(self, name: str, lead: bytes, key: int) -> bool:
        value = syscall.lookup(self._pins.maps[name], lead, abi.SUBSCRIBER_SIZE)
        return value is not None and claimant(value) == key

    def remove(self, keys: Iterable[int]) -> dict[int, Counters]:
        """Remove entries (DataPlane.remove). Their slots stay theirs until `forget`. Raises BpfError."""
        last: dict[int, Counters] = {}
        gone: list[Entry] = []
        ids = bytearray()
        self._seen = None
        for key in keys:
            self._flows.sinks.pop(key, None)
            entry = self._entries.pop(key, None)
            if entry is None:
                if key in self._slots.by_key:  # adopted, and never wanted
                    ids += abi.ids_key(key >> 32, key & 0xFFFF)
                    self._slots.leave(key)
                continue
            self._tun.mtu.change(entry.mtu, 0)
            if key not in self._slots.by_key:
                last.update(self._flows.remove((key,)))
                continue
            self._flows.drop(key)
            gone.append(entry)
            ids += abi.ids_key(entry.local_tunnel, entry.local_session)
        syscall.delete_batch(self._pins.maps["sessions"], ids, 4, len(ids) // 4)
        for entry in gone:
            self._release("subscribers", address_key(entry.address), entry.key)
            if entry.prefix:
                self._release("prefixes", abi.prefix_key(entry.prefix)[0], entry.key)
        if ids:
            self._pins.forget_flows()
        for entry in gone:
            slot = self._slots.leave(entry.key)
            assert slot is not None
            last[entry.key] = counters.of_session(self._pins.maps["counters"], self._slots, slot)
        self._tun.mtu.adjust(self._device)
        return last

    def forget(self, keys: Iterable[int]) -> None:
        """The slots of these sessions may be given away (DataPlane.forget)."""
        self._slots.forget(keys)

    def enumerate(self) -> Mapping[int, Entry]:
        """What the maps hold, and what the daemon forwards by itself (DataPlane.enumerate). Raises BpfError."""
        ours = {key: entry for key, entry in self._entries.items() if key not in self._slots.by_key}
        return {**entries_of(read(self._pins.maps), clamp_mss=self._mss_clamp), **ours}

    def differences(self, want: Mapping[int, Entry]) -> Plan:
        """What to change (DataPlane.differences), by a dump of the maps. Raises BpfError.

        Entries that agree are ours from now on: this is how those of a predecessor are adopted.
        """
        seen, self._seen = self._seen or read(self._pins.maps), None
        slots, known = self._slots.by_key, self._entries
        compared = compare(
            seen, want, slots, partial(pack, clamp_mss=self._mss_clamp, traced=self._flows.sinks.keys())
        )
        wrong, self._strays = compared.wrong, compared.strays
        if len(compared.agreed) < len(want):
            wrong |= {key for key, entry in want.items() if key not in slots and known.get(key) != entry}
        delete = [*(slots.keys() - want.keys()), *(known.keys() - want.keys() - slots.keys())]
        new = [entry for entry in compared.agreed if entry.key not in known] if known else compared.agreed
        self._tun.mtu.count(Counter([entry.mtu for entry in new]))
        known.update(zip([entry.key for entry in new], new, strict=True))
        return Plan([entry for key, entry in want.items() if key in wrong] if wrong else [], delete)

    def counters(self, key: int) -> Counters:
        """One session's traffic (DataPlane.counters). Raises UnknownSession, BpfError."""
        slot = self._slots.by_key.get(key)
        if slot is None or key not in self._entries:
            return self._flows.counters(key)
        return counters.of_session(self._pins.maps["counters"], self._slots, slot)

    def all_counters(self) -> dict[int, Counters]:
        """Every session's traffic (DataPlane.all_counters). Raises BpfError."""
        ours = {key: self._flows.counters(key) for key in self._flows.by_key if key not in self._slots.by_key}
        return {**counters.of_all(self._pins.maps["counters"], self._slots), **ours}

    def verdicts(self) -> Mapping[Verdict, int]:
        """Packets by verdict (DataPlane.verdicts): the programs' since the maps were made, ours since our start."""
        total = dict(self._flows.totals())
        for reason, count in counters.reasons(self._pins.maps["reasons"]).items():
            verdict = abi.VERDICTS.get(reason)
            if verdict is not None:
                total[verdict] += count
        return total

    def reasons(self) -> Mapping[str, int]:
        """What the programs did with packets since the maps were made (DataPlane.reasons). Raises BpfError."""
        found = counters.reasons(self._pins.maps["reasons"])
        return {reason.name.lower(): count for reason, count in found.items()}

    def describe(self) -> str:
        """Where the programs are attached (DataPlane.describe)."""
        return "ebpf: " + (
            ", ".join(f"{a.interface} {a.mode}" for a in self.attached.values()) or "no interface"
        )

    # Traces.

    def trace(self, key: int, sink: Sink | None) -> None:
        """Show a session's packets (DataPlane.trace). Raises BpfError."""
        if sink is not None and self._ring is None:
            self._ring = Ring(self._pins.maps["captures"])
        self._flows.trace(key, sink)
        entry = self._entries.get(key)
        if entry is not None and key in self._slots.by_key:
            self._write_flags(entry)
            self._pins.forget_flows()

    def _write_flags(self, entry: Entry) -> None:
        """Write an entry that differs in its flags alone; what leads to a younger session with its address stays."""
        rows, maps = self._rows([entry]), self._pins.maps
        leads = [("subscribers", bytes(rows.addresses)), *(("prefixes", prefix) for prefix in rows.prefixes)]
        for name, lead in leads:
            if lead and self._leads_to(name, lead, entry.key):
                syscall.update(maps[name], lead, bytes(rows.subscribers))
        syscall.update(maps["sessions"], bytes(rows.ids), bytes(rows.sessions))

    def traces_fileno(self) -> int:
        """The ring's descriptor (DataPlane.traces_fileno)."""
        return self._pins.maps["captures"]

    def show_traced(self) -> None:
        """Give packets to their sinks (DataPlane.show_traced)."""
        if self._ring is None:
            return
        utc_ns = time.time_ns() - time.monotonic_ns()
        for tunnel, session, at_ns, to_peer, length, packet in self._ring.read(TRACED_AT_ONCE):
            key = session_key(tunnel, session)
            sink = self._flows.sinks.get(key)
            if sink is not None:  # otherwise the last ones of a trace that has ended
                length = min(length, ipv4.word_of(packet, 2)) if len(packet) > ipv4.HEADER else length
                sink(Seen(key, utc_ns + at_ns, to_peer, length, packet[:length]))

    def traced_missed(self) -> int:
        """Packets that found the ring full (DataPlane.traced_missed). Raises BpfError."""
        return missed(self._pins.maps["capturing"])

    # `SlowFlows` asks.

    def entry(self, key: int) -> Entry | None:
        """The entry of a session."""
        return self._entries.get(key)

    def slot(self, key: int) -> int | None:
        """The slot of a session that has one."""
        return self._slots.by_key.get(key)

    def owner(self, address: int) -> int | None:
        """The session that an address leads to."""
        value = syscall.lookup(
            self._pins.maps["subscribers"], address.to_bytes(4, "big"), abi.SUBSCRIBER_SIZE
        )
        return None if value is None else claimant(value)

    # What the programs pass on.

    def fileno(self) -> int:
        """The TUN device's descriptor."""
        return self._tun.fileno()

    def receive(self, inbox: Inbox) -> Sequence[Punt]:
        """Finish what came to the socket (DataPlane.receive)."""
        return self._tun.receive(inbox)

    def on_readable(self) -> None:
        """Finish what came to the TUN device (DataPlane.on_readable). Raises DeviceLost."""
        self._tun.on_readable()

    # Interfaces.

    def resume(self, totals: Mapping[int, Counters]) -> None:
        """Go on counting from there (DataPlane.resume). What the maps say of a session is newer."""
        known = self._flows.earlier
        for key, total in totals.items():
            before = known.get(key)
            known[key] = total if before is None else total.at_least(before)

    def begin(self) -> None:
        """Forward by what was installed. The sessions of the journal have been installed: whatever else is here goes.

        Raises BpfError if the programs cannot be attached to the TUN device; an interface that refuses them is told of.
        """
        self.remove([key for key in self._slots.by_key if key not in self._entries])
        for name, leads in zip(("subscribers", "prefixes"), self._strays, strict=True):
            for lead in leads:
                self._remove_stray(name, lead)
        if any(self._strays):
            self._pins.forget_flows()
        self._slots.forget_all_left()
        self._flows.earlier.clear()
        self._service.begin()
        self._take_over_counters()
        self._pins.commit()

    def _take_over_counters(self) -> None:
        """What the replaced set has counted since it was read first; from now on it counts no more. Raises BpfError."""
        if self._pins.counted is None:
            return
        for key, now in self._pins.counted.read().items():
            slot, before = self._slots.by_key.get(key), self._counted.get(key)
            if slot is not None and before is not None and now.at_least(before) == now != before:
                self._slots.add(slot, now.since(before))
        self._counted.clear()

    def _remove_stray(self, name: str, lead: bytes) -> None:
        """What led to no wanted session when the maps were read goes, unless one has taken it since."""
        fd = self._pins.maps[name]
        value = syscall.lookup(fd, lead, abi.SUBSCRIBER_SIZE)
        entry = self._entries.get(claimant(value)) if value is not None else None
        if entry is None or lead not in (
            address_key(entry.address),
            entry.prefix and abi.prefix_key(entry.prefix)[0],
        ):
            syscall.delete(fd, lead)

    def tend(self) -> None:
        """Once in a while: serve interfaces that came, or came back. Raises BpfError."""
        self._service.tend()

    def change_device(self, device: Device) -> None:
        """Go on with another TUN device, after `DeviceLost`. Raises BpfError."""
        self._device = device
        self._tun.change_device(device)
        self._service.begin()

    @property
    def attached(self) -> Mapping[str, Attached]:
        """How each interface is served."""
        return self._service.attached

    def close(self) -> None:
        """Let go of everything (DataPlane.close). The programs go on forwarding."""
        if self._ring is not None:
            self._ring.close()
        self._tun.close()
        self._slots.close()
        self._pins.close()
