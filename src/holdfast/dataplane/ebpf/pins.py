"""Pinned maps and programs: adopted as they are, made, or replaced; and when forwarding has moved on, tidied up.

    <root>/v<LAYOUT>/  map_<name>  prog_<name>  link_<interface>_<hook>  program -> checksum  netns -> its inode

A start opens what is there. It is taken as it is if the layout, the sizes and the network namespace are ours; with
other programs than this installation ships, these are loaded over the same maps (an upgrade). Anything else is left
alone to go on forwarding while a new set is made beside it in <root>/new; `Links.begin` then moves the links over, one
atomic step each, and `commit` puts the new set into its place.

Invariants: a map is read only after its layout and sizes were compared; `program` is written last, so a start that is
killed half-way is done again by the next one; whatever is not in its final place is no part of the set.
"""

import mmap
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from holdfast.core.errors import LocalError
from holdfast.dataplane.ebpf import abi, bpffs, syscall
from holdfast.dataplane.ebpf.counted import Counted, counted_in
from holdfast.dataplane.ebpf.libbpf import Loaded, OtherShape
from holdfast.dataplane.ebpf.news import News, Tell
from holdfast.dataplane.ebpf.shipped import PROGRAMS, NotBuilt, Object
from holdfast.dataplane.ebpf.slots import SLOT_SIZE
from holdfast.dataplane.ebpf.syscall import MapType
from holdfast.records import Counters

CURRENT: Final = f"v{abi.LAYOUT}"
NEW: Final = "new"
OLD: Final = "old"

SLOTS: Final = "slots"
"""A map of the daemon alone: whose each slot is, and what the daemon itself forwarded for that session."""

_MMAPABLE = 1 << 10
_SIZED: Final = ("sessions", "subscribers", "prefixes", "counters")
"""Maps with an entry for each session."""
_SHAPES: Final = {
    "sessions": (4, abi.SESSION_SIZE),
    "subscribers": (4, abi.SUBSCRIBER_SIZE),
    "prefixes": (abi.PREFIX_SIZE, abi.SUBSCRIBER_SIZE),
    "counters": (4, abi.COUNTERS_SIZE),
    "reasons": (4, 8),
    SLOTS: (4, SLOT_SIZE),
}
"""Key and value sizes of the maps that Python reads."""
_OTHERS: Final = frozenset({"locals", "ports", "config", "rx_flows", "tx_flows", "captures", "capturing"})


class Pins:
    """An open set. `fresh`: its maps are new and empty; `replaced` is then the set that still forwards, if any, and
    `counted` what that counts, as far as it can be read.

    `upgraded`: its programs are not those that are attached. `directory` is where its pins are.
    """

    def __init__(self, root: str, directory: str, maps: dict[str, int], programs: dict[str, int]) -> None:
        self.root, self.directory = root, directory
        self.maps, self.programs = maps, programs
        self.fresh = self.upgraded = False
        self.checksum = ""
        self.replaced: Pins | None = None
        self.counted: Counted | None = None
        self.former_links = directory
        self.slots = mmap.mmap(maps[SLOTS], _whole_pages(self.max_sessions * SLOT_SIZE))
        self._config = mmap.mmap(maps["config"], mmap.PAGESIZE)

    @property
    def max_sessions(self) -> int:
        """How many sessions the maps hold."""
        return syscall.map_info(self.maps["sessions"]).max_entries

    def forget_flows(self) -> None:
        """Let the programs look up everything anew: they remember for a second what they found in the maps."""
        abi.begin_generation(self._config)

    def close(self) -> None:
        """Let go of the descriptors; what is pinned stays."""
        self._config.close()
        with suppress(BufferError):  # somebody still looks at it: the memory goes with the last one
            self.slots.close()
        _close(self.maps)
        _close(self.programs)
        self._let_go_of_replaced()

    def commit(self) -> None:
        """Every link runs these programs: put this set in its place, and remove what it replaces."""
        if self.upgraded:
            for name, fd in self.programs.items():
                path = f"{self.directory}/prog_{name}"
                with suppress(FileNotFoundError):
                    os.unlink(path)
                syscall.pin(fd, path)
            _record(self.directory, self.checksum)
            self.upgraded = False
        if self.fresh:
            current = f"{self.root}/{CURRENT}"
            if os.path.isdir(current):
                os.rename(current, f"{self.root}/{OLD}")
            os.rename(self.directory, current)
            self.directory = self.former_links = current
            self.fresh = False
        _sweep(self.root)
        self._let_go_of_replaced()

    def _let_go_of_replaced(self) -> None:
        for replaced in (self.replaced, self.counted):
            if replaced is not None:
                replaced.close()
        self.replaced = self.counted = None


def open_pins(root: str, shipped: Object | None, max_sessions: int, tell: Tell) -> Pins:
    """Adopt the set that is pinned below `root`, or make one. `shipped` is None if this installation has no programs.

    Raises NoBpffs, BpfError, NoLibbpf, NotBuilt.
    """
    if bpffs.mount(root) and bpffs.is_private(root):
        remedy = "start the node where the mount is shared (nsenter --net=… instead of ip netns exec)"
        tell(News("dataplane.private_mount", {"directory": root, "remedy": remedy}, warning=True))
    _recover(root)
    current = f"{root}/{CURRENT}"
    found = _adopt(root, current, tell) if os.path.isdir(current) else None
    if found is not None and found.max_sessions == max_sessions:
        if shipped is None or found.checksum == shipped.checksum:
            return found
        try:
            return _upgrade(found, shipped, tell)
        except OtherShape as error:
            tell(News("dataplane.maps_differ", {"text": str(error)}))
    if shipped is None:
        if found is not None:
            found.close()
        raise NotBuilt(
            "there are no pinned programs to go on with, and this installation has none of its own"
        )
    made = _make(root, shipped, max_sessions)
    made.replaced = found
    made.former_links = _last(root)
    made.counted = counted_in(made.former_links)
    if found is not None:
        tell(News("dataplane.resized", {"sessions": max_sessions, "before": found.max_sessions}))
    elif made.former_links:
        told = "of its maps only counters are read" if made.counted is not None else "its maps are not read"
        text = f"{told}: sessions come from the journal"
        tell(News("dataplane.replaced", {"directory": made.former_links, "text": text}, warning=True))
    return made


def pinned(root: str) -> bool:
    """Whether anything is pinned below `root`."""
    return bpffs.is_bpffs(root) and any("." not in name for name in os.listdir(root))


def recorded(root: str) -> str:
    """The checksum of the programs that are pinned below `root`, "" if there are none."""
    try:
        return os.readlink(f"{root}/{CURRENT}/program")
    except OSError:
        return ""


def detach(root: str) -> dict[int, Counters]:
    """Have nothing below `root` forward any more; returns what its sessions have counted, as far as that can be read.

    Raises BpfError.
    """
    directory = _last(root) if bpffs.is_bpffs(root) else ""
    if not directory:
        return {}
    for name in os.listdir(directory):
        if name.startswith("link_"):
            os.unlink(f"{directory}/{name}")
    counted = counted_in(directory)
    if counted is None:
        return {}
    try:
        return counted.read()
    finally:
        counted.close()


def remove(root: str) -> bool:
    """Detach and remove all that is pinned below `root`, and the bpffs; False if there was none. Raises NoBpffs."""
    if not bpffs.is_bpffs(root):
        return False
    bpffs.unmount(root)
    return True


def _adopt(root: str, directory: str, tell: Tell) -> Pins | None:
    """The set that is pinned in a directory, None if it is not whole, or not for this network namespace."""
    maps: dict[str, int] = {}
    programs: dict[str, int] = {}
    try:
        for name in os.listdir(directory):
            kind, _, rest = name.partition("_")
            if kind in ("map", "prog"):
                (maps if kind == "map" else programs)[rest] = syscall.get_pinned(f"{directory}/{name}")
        if not _is_whole(maps, programs):
            raise LocalError("it lacks a map or a program, or one is of another size")
        if not _is_here(directory):
            raise LocalError("it belongs to another network namespace")
        found = Pins(root, directory, maps, programs)
        found.checksum = os.readlink(f"{directory}/program")
    except (OSError, LocalError) as error:
        _close(maps)
        _close(programs)
        tell(News("dataplane.not_adopted", {"directory": directory, "text": str(error)}, warning=True))
        return None
    return found


def _is_whole(maps: Mapping[str, int], programs: Mapping[str, int]) -> bool:
    if not (_SHAPES.keys() | _OTHERS <= maps.keys() and set(PROGRAMS) <= programs.keys()):
        return False
    infos = {name: syscall.map_info(maps[name]) for name in _SHAPES}
    entries = {infos[name].max_entries for name in (*_SIZED, SLOTS)}
    fits = all((info.key_size, info.value_size) == _SHAPES[name] for name, info in infos.items())
    can_be_mapped = syscall.map_info(maps["config"]).flags & _MMAPABLE
    return (
        fits and bool(can_be_mapped) and len(entries) == 1 and infos["reasons"].max_entries >= len(abi.Reason)
    )


def _upgrade(found: Pins, shipped: Object, tell: Tell) -> Pins:
    """Load the shipped programs over the maps of an adopted set. Raises OtherShape, BpfError, NoLibbpf."""
    sizes = dict.fromkeys(_SIZED, found.max_sessions)
    with Loaded(shipped.path, use=found.maps, sizes=sizes, only=frozenset(PROGRAMS)) as loaded:
        for name in loaded.maps.keys() - found.maps.keys():
            if "." not in name:
                found.maps[name] = os.dup(loaded.maps[name])
                syscall.pin(found.maps[name], f"{found.directory}/map_{name}")
        attached, found.programs = found.programs, {n: os.dup(fd) for n, fd in loaded.programs.items()}
        _close(attached)
    tell(News("dataplane.upgrade", {"programs": shipped.checksum[:12], "pinned": found.checksum[:12]}))
    found.checksum, found.upgraded = shipped.checksum, True
    return found


def _make(root: str, shipped: Object, max_sessions: int) -> Pins:
    """A new set, empty, in its own directory. Raises BpfError, NoLibbpf."""
    directory = f"{root}/{NEW}"
    os.mkdir(directory, 0o700)
    with Loaded(shipped.path, sizes=dict.fromkeys(_SIZED, max_sessions), only=frozenset(PROGRAMS)) as loaded:
        maps = {name: os.dup(fd) for name, fd in loaded.maps.items() if "." not in name}
        programs = {name: os.dup(fd) for name, fd in loaded.programs.items()}
    maps[SLOTS] = syscall.create_map(
        MapType.ARRAY, 4, SLOT_SIZE, max_sessions, flags=_MMAPABLE, name="hf_slots"
    )
    if not _is_whole(maps, programs):
        raise LocalError(f"{shipped.path} was not compiled from the sources of this version: build it again")
    for name, fd in maps.items():
        syscall.pin(fd, f"{directory}/map_{name}")
    for name, fd in programs.items():
        syscall.pin(fd, f"{directory}/prog_{name}")
    os.symlink(_namespace(), f"{directory}/netns")
    _record(directory, shipped.checksum)
    made = Pins(root, directory, maps, programs)
    made.checksum, made.fresh = shipped.checksum, True
    return made


def _record(directory: str, checksum: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(f"{directory}/program")
    os.symlink(checksum, f"{directory}/program")


def _recover(root: str) -> None:
    """Finish or undo what a start that was killed left behind."""
    new, old, current = (f"{root}/{name}" for name in (NEW, OLD, CURRENT))
    if os.path.isdir(new) and os.path.isdir(old) and not os.path.isdir(current):
        os.rename(new, current)  # killed between the two renames of `commit`: the links run the new programs
    for leftover in (new, old):
        if os.path.isdir(leftover):
            bpffs.clear(leftover)
            os.rmdir(leftover)


def _sweep(root: str) -> None:
    """Remove every set but the current one."""
    for name in os.listdir(root):
        if name != CURRENT and "." not in name:
            bpffs.clear(f"{root}/{name}")
            os.rmdir(f"{root}/{name}")


def _last(root: str) -> str:
    """The set of the highest layout whose links are of this network namespace, "" if there is none."""
    names = [name for name in os.listdir(root) if name.startswith("v") and name[1:].isdecimal()]
    here = [name for name in names if _is_here(f"{root}/{name}")]
    return f"{root}/{max(here, key=lambda name: int(name[1:]))}" if here else ""


def _is_here(directory: str) -> bool:
    try:
        return os.readlink(f"{directory}/netns") == _namespace()
    except OSError:
        return False


def _namespace() -> str:
    return str(os.stat("/proc/thread-self/ns/net").st_ino)


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _close(descriptors: dict[str, int]) -> None:
    for fd in descriptors.values():
        os.close(fd)
    descriptors.clear()
