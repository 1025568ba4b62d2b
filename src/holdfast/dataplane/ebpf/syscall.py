"""The bpf(2) system call as plain functions: maps, pins, links, test runs. ctypes only, since a restart waits for it.

Attribute layouts are those of linux/bpf.h; only leading parts that we use are written, the kernel takes the rest
as zeros. Batches work on one buffer of packed keys and one of packed values, in the map's own order.

Invariants: every descriptor returned is closed on exec (the kernel sees to it) and is the caller's to close; every
refusal is a BpfError that names the operation and, where it is known, the remedy.
"""

import ctypes
import errno
import os
import struct
from enum import IntEnum
from functools import cache
from typing import Final, NamedTuple

from holdfast.core.errors import LocalError

_NUMBER = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}.get(
    os.uname().machine, -1
)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_ulong]
_libc.syscall.restype = ctypes.c_long

_ELEMENT = struct.Struct("=I4xQQQ")  # map_fd, key, value or next key, flags
_BATCH = struct.Struct("=QQQQIIQQ")  # in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags
_PATH = struct.Struct("=QII")  # pathname, bpf_fd, file_flags
_INFO = struct.Struct("=IIQ")  # bpf_fd, info_len, info
_MAP = struct.Struct("=5I8x16s")  # type, key size, value size, entries, flags, (inner map, NUMA node), name
_LINK = struct.Struct("=IIII16x")  # prog_fd, target (interface), attach type, flags
_LINK_UPDATE = struct.Struct("=IIII")  # link_fd, new_prog_fd, flags, old_prog_fd
_TEST_RUN = struct.Struct("=IIIIQQIIIIQQIII4x")
_MAP_INFO = struct.Struct("=6I16s")  # type, id, key size, value size, entries, flags, name
_PROG_INFO = struct.Struct(
    "=II8sIIQQQIIQ16s"
)  # type, id, tag, 2 lengths, 2 addresses, load time, uid, maps, ids, name
_LINK_INFO = struct.Struct(
    "=III4xII"
)  # type, id, prog_id; then of XDP the interface, of tcx that and the hook
_INFO_SIZE = 256
_NAME_SIZE = 16


class Command(IntEnum):
    """What bpf(2) is asked to do (enum bpf_cmd)."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    PROG_GET_FD_BY_ID = 13
    OBJ_GET_INFO_BY_FD = 15
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29


class MapType(IntEnum):
    """Kinds of maps (enum bpf_map_type)."""

    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LPM_TRIE = 11
    DEVMAP = 14
    RINGBUF = 27


PER_CPU: Final = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY})


class Attach(IntEnum):
    """Hooks of a network device (enum bpf_attach_type)."""

    XDP = 37
    TCX_INGRESS = 46
    TCX_EGRESS = 47


XDP_GENERIC: Final = 1 << 1
XDP_DRIVER: Final = 1 << 2
LIVE_FRAMES: Final = 1 << 1

_MEANING = {
    errno.EPERM: "not permitted: grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or run it as root; bpf(2) is not "
    "for user namespaces",
    errno.EACCES: "the kernel's verifier refuses the program, or an LSM forbids it",
    errno.ENOSYS: "this kernel has no bpf(2): it needs CONFIG_BPF_SYSCALL",
    errno.EINVAL: "this kernel does not know it, or the arguments do not fit together",
    errno.EOPNOTSUPP: "the driver of this interface does not support it",
    524: "this kernel does not support it",  # ENOTSUPP, which errno does not know
    errno.EBUSY: "another program is attached there: `bpftool net` shows which",
    errno.EEXIST: "it exists already",
    errno.ENOENT: "there is no such thing",
    errno.ENOSPC: "no room: enlarge dataplane.max_sessions",
    errno.E2BIG: "no room: enlarge dataplane.max_sessions",
    errno.ENOMEM: "no memory for it: a map is charged to the memory cgroup of this process",
}

LOADING: Final = "loading"
"""The operation that passes the kernel's verifier."""
_LOADING = {
    errno.E2BIG: "the kernel's verifier finds the program too complex",
    errno.EINVAL: "the kernel's verifier refuses the program, or this kernel lacks something that it needs",
}


class BpfError(LocalError):
    """A bpf(2) call, or libbpf, that failed: `operation` on `what`, with `code` as errno has it."""

    def __init__(self, operation: str, what: str, code: int, detail: str = "") -> None:
        super().__init__(operation, what, code, detail)
        self.operation, self.what, self.code, self.detail = operation, what, code, detail

    def __str__(self) -> str:
        name = errno.errorcode.get(self.code, str(self.code))
        meanings = {**_MEANING, **_LOADING} if self.operation == LOADING else _MEANING
        meaning = meanings.get(self.code, os.strerror(self.code))
        subject = f"{self.operation} {self.what}".strip()
        return f"{subject}: {name}: {meaning}" + (f" ({self.detail})" if self.detail else "")


def bpf(command: Command, attributes: ctypes.Array[ctypes.c_char], what: str = "") -> int:
    """One call; `attributes` may be written to by the kernel. Raises BpfError."""
    result: int = _libc.syscall(_NUMBER, command, attributes, len(attributes))
    if result < 0:
        raise BpfError(command.name, what, ctypes.get_errno())
    return result


def _buffer(packed: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(packed, len(packed))


def address_of(buffer: bytearray | memoryview | ctypes.Array[ctypes.c_char]) -> int:
    """Where a writable buffer lies; it must be kept alive, and not resized, while the address is in use."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


# Maps: single elements.


def create_map(
    kind: MapType, key_size: int, value_size: int, max_entries: int, *, flags: int = 0, name: str = ""
) -> int:
    """A new map's descriptor. Raises BpfError."""
    packed = _MAP.pack(kind, key_size, value_size, max_entries, flags, name.encode()[: _NAME_SIZE - 1])
    return bpf(Command.MAP_CREATE, _buffer(packed), name)


def lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """The value of a key, None if it has none. Of a per-CPU map all values, each rounded up to 8 octets."""
    held, value = _buffer(key), ctypes.create_string_buffer(value_size)
    attributes = _buffer(_ELEMENT.pack(fd, ctypes.addressof(held), ctypes.addressof(value), 0))
    try:
        bpf(Command.MAP_LOOKUP_ELEM, attributes)
    except BpfError as error:
        if error.code == errno.ENOENT:
            return None
        raise
    return value.raw


def update(fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
    """Set a key's value. Raises BpfError."""
    held, new = _buffer(key), _buffer(value)
    attributes = _buffer(_ELEMENT.pack(fd, ctypes.addressof(held), ctypes.addressof(new), flags))
    bpf(Command.MAP_UPDATE_ELEM, attributes)


def delete(fd: int, key: bytes) -> bool:
    """Remove a key; False if it was not there. Raises BpfError."""
    held = _buffer(key)
    try:
        bpf(Command.MAP_DELETE_ELEM, _buffer(_ELEMENT.pack(fd, ctypes.addressof(held), 0, 0)))
    except BpfError as error:
        if error.code == errno.ENOENT:
            return False
        raise
    return True


# Maps: batches.


def update_batch(fd: int, keys: bytearray, values: bytearray, count: int) -> None:
    """Set the first `count` keys and values of two packed buffers. Raises BpfError; then some may be set."""
    if count:
        _batch(Command.MAP_UPDATE_BATCH, fd, address_of(keys), address_of(values), count)


def delete_batch(fd: int, keys: bytearray, key_size: int, count: int) -> None:
    """Remove the first `count` keys of a packed buffer; those that are not there are passed over. Raises BpfError."""
    start, at = 0, address_of(keys) if count else 0
    while start < count:
        done = ctypes.c_uint32()
        try:
            _batch(Command.MAP_DELETE_BATCH, fd, at + start * key_size, 0, count - start, done=done)
            return
        except BpfError as error:
            if error.code != errno.ENOENT:
                raise
            start += done.value + 1


def lookup_batch(
    fd: int, key_size: int, value_size: int, max_entries: int, *, limit: int = 0
) -> tuple[bytearray, bytearray, int]:
    """All keys and values, packed, and how many there are. `value_size` of a per-CPU map is that of all CPUs.

    `limit` is how many are fetched at most (0: all). Raises BpfError.
    """
    most = limit or max_entries
    keys, values = bytearray(most * key_size), bytearray(most * value_size)
    keys_at, values_at = address_of(keys), address_of(values)
    position = ctypes.create_string_buffer(max(key_size, 8))
    total, first = 0, True
    while total < most:
        done = ctypes.c_uint32()
        try:
            _batch(
                Command.MAP_LOOKUP_BATCH,
                fd,
                keys_at + total * key_size,
                values_at + total * value_size,
                most - total,
                position=position,
                first=first,
                done=done,
            )
        except BpfError as error:
            if error.code == errno.ENOENT:  # that was the last part
                return keys, values, total + done.value
            raise
        total, first = total + done.value, False
    return keys, values, total


def _batch(
    command: Command,
    fd: int,
    keys_at: int,
    values_at: int,
    count: int,
    *,
    position: "ctypes.Array[ctypes.c_char] | None" = None,
    first: bool = True,
    done: ctypes.c_uint32 | None = None,
) -> None:
    at = ctypes.addressof(position) if position is not None else 0
    attributes = _buffer(_BATCH.pack(0 if first else at, at, keys_at, values_at, count, fd, 0, 0))
    try:
        bpf(command, attributes)
    finally:
        if done is not None:
            done.value = _BATCH.unpack(attributes.raw)[4]


# Pins.


def pin(fd: int, path: str) -> None:
    """Give a map, program or link a name in a bpffs. Raises BpfError."""
    held = _buffer(os.fsencode(path) + b"\0")
    bpf(Command.OBJ_PIN, _buffer(_PATH.pack(ctypes.addressof(held), fd, 0)), path)


def get_pinned(path: str) -> int:
    """A descriptor of what is pinned there. Raises BpfError."""
    held = _buffer(os.fsencode(path) + b"\0")
    return bpf(Command.OBJ_GET, _buffer(_PATH.pack(ctypes.addressof(held), 0, 0)), path)


# What a descriptor is.


class MapInfo(NamedTuple):
    """A map's shape."""

    kind: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


class LinkInfo(NamedTuple):
    """What a link joins. `interface` is 0 once the interface has gone."""

    kind: int
    id: int
    program_id: int
    interface: int


def map_info(fd: int) -> MapInfo:
    """Raises BpfError."""
    kind, number, key_size, value_size, entries, flags, name = _MAP_INFO.unpack_from(_info(fd))
    text = name.rstrip(b"\0").decode(errors="replace")
    return MapInfo(kind, number, key_size, value_size, entries, flags, text)


def link_info(fd: int) -> LinkInfo:
    """Raises BpfError."""
    return LinkInfo(*_LINK_INFO.unpack_from(_info(fd))[:4])


def program_id(fd: int) -> int:
    """Raises BpfError."""
    return int(_PROG_INFO.unpack_from(_info(fd))[1])


def _info(fd: int) -> bytes:
    found = ctypes.create_string_buffer(_INFO_SIZE)
    bpf(Command.OBJ_GET_INFO_BY_FD, _buffer(_INFO.pack(fd, _INFO_SIZE, ctypes.addressof(found))))
    return found.raw


# Links.


def create_link(program: int, interface: int, hook: Attach, *, flags: int = 0, what: str = "") -> int:
    """Attach a program to an interface, by index; forwarding lasts as long as the link does. Raises BpfError."""
    return bpf(Command.LINK_CREATE, _buffer(_LINK.pack(program, interface, hook, flags)), what)


def update_link(link: int, program: int, what: str = "") -> None:
    """Put another program in the place of the attached one: every packet meets one or the other. Raises BpfError."""
    bpf(Command.LINK_UPDATE, _buffer(_LINK_UPDATE.pack(link, program, 0, 0)), what)


# Test runs.


class Run(NamedTuple):
    """What a program did with a packet; `duration_ns` is the mean of one run."""

    verdict: int
    data: bytes
    duration_ns: int
    context: bytes


def test_run(program: int, data: bytes, *, repeat: int = 1, context: bytes = b"", flags: int = 0) -> Run:
    """Run a program on a packet (BPF_PROG_TEST_RUN). `context` is a struct __sk_buff or xdp_md. Raises BpfError."""
    room = 0 if flags & LIVE_FRAMES else len(data) + 512
    sent, out = _buffer(data), ctypes.create_string_buffer(max(room, 1))
    given = _buffer(context) if context else None
    returned = ctypes.create_string_buffer(len(context)) if context and not flags & LIVE_FRAMES else None
    attributes = _buffer(
        _TEST_RUN.pack(
            program,
            0,
            len(data),
            room,
            ctypes.addressof(sent),
            ctypes.addressof(out) if room else 0,
            repeat,
            0,
            len(context),
            len(context) if returned is not None else 0,
            ctypes.addressof(given) if given is not None else 0,
            ctypes.addressof(returned) if returned is not None else 0,
            flags,
            0,
            0,
        )
    )
    bpf(Command.PROG_TEST_RUN, attributes)
    done = _TEST_RUN.unpack(attributes.raw)
    verdict, size, duration, left = done[1], done[3], done[7], done[9]
    return Run(verdict, out.raw[:size], duration, returned.raw[:left] if returned is not None else b"")


@cache
def possible_cpus() -> int:
    """How many values a per-CPU map has."""
    with open("/sys/devices/system/cpu/possible") as f:
        last = f.read().strip().split(",")[-1]
    return int(last.rpartition("-")[2]) + 1


def value_stride(kind: int, value_size: int) -> int:
    """The octets that one entry's value takes in a lookup."""
    return -(-value_size // 8) * 8 * possible_cpus() if kind in PER_CPU else value_size
