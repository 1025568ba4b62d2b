"""Loading an ELF object with libbpf.so.1 through ctypes; everything else goes to bpf(2) directly.

Only a start that finds no pinned programs, or other ones than it ships, comes here. libbpf's own messages are
silenced; what the kernel's verifier says is kept and becomes part of the error.
"""

import ctypes
import errno
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType

from holdfast.core.errors import LocalError
from holdfast.dataplane.ebpf.syscall import LOADING, BpfError, map_info

LIBRARY = "libbpf.so.1"
_LOG_SIZE = 1 << 20
_LOG_LINES = 12
_MAX_ERRNO = 4095


class NoLibbpf(LocalError):
    """libbpf is not installed."""


class OtherShape(LocalError):
    """A map that was to be used again is not what the object declares."""


class _OpenOptions(ctypes.Structure):
    """struct bpf_object_open_opts of libbpf 1.0; later fields are absent, which `sz` tells."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("unused", ctypes.c_uint32),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
        ("kernel_log_buf", ctypes.c_void_p),
        ("kernel_log_size", ctypes.c_size_t),
        ("kernel_log_level", ctypes.c_uint32),
    )


@cache
def library() -> ctypes.CDLL:
    """libbpf itself. Raises NoLibbpf."""
    try:
        lib = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as error:
        raise NoLibbpf(f"{LIBRARY} cannot be loaded: install libbpf (Debian: apt install libbpf1)") from error
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, *arguments in (
        ("libbpf_set_print", pointer, pointer),
        ("libbpf_version_string", text),
        ("bpf_object__open_file", pointer, text, pointer),
        ("bpf_object__load", number, pointer),
        ("bpf_object__close", None, pointer),
        ("bpf_object__next_map", pointer, pointer, pointer),
        ("bpf_object__next_program", pointer, pointer, pointer),
        ("bpf_map__name", text, pointer),
        ("bpf_map__type", number, pointer),
        ("bpf_map__key_size", ctypes.c_uint32, pointer),
        ("bpf_map__value_size", ctypes.c_uint32, pointer),
        ("bpf_map__max_entries", ctypes.c_uint32, pointer),
        ("bpf_map__fd", number, pointer),
        ("bpf_map__reuse_fd", number, pointer, number),
        ("bpf_map__set_max_entries", number, pointer, ctypes.c_uint32),
        ("bpf_program__name", text, pointer),
        ("bpf_program__fd", number, pointer),
        ("bpf_program__set_autoload", number, pointer, ctypes.c_bool),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(None)
    return lib


def version() -> str:
    """The version of libbpf, such as "v1.1". Raises NoLibbpf."""
    text: bytes = library().libbpf_version_string()
    return text.decode()


class Loaded:
    """A loaded object: descriptors of its maps and programs by name. They are libbpf's, and go with `close`.

    `use` holds maps to use instead of new ones, by name (the caller keeps its descriptors); `sizes` are the entries of
    the maps; `only` names the programs to load (all by default). Raises NoLibbpf, BpfError, and OtherShape for a map in
    `use` that is not as the object declares it.
    """

    def __init__(
        self,
        path: Path,
        *,
        use: Mapping[str, int] | None = None,
        sizes: Mapping[str, int] | None = None,
        only: frozenset[str] | None = None,
    ) -> None:
        self._lib, self._object = library(), None
        log = ctypes.create_string_buffer(_LOG_SIZE)
        options = _OpenOptions(
            sz=ctypes.sizeof(_OpenOptions), kernel_log_buf=ctypes.addressof(log), kernel_log_size=_LOG_SIZE
        )
        ctypes.set_errno(0)
        opened = self._lib.bpf_object__open_file(os.fsencode(path), ctypes.byref(options))
        if not opened or opened > 2**64 - _MAX_ERRNO:
            raise BpfError("opening", str(path), ctypes.get_errno() or errno.EINVAL)
        self._object = ctypes.c_void_p(opened)
        try:
            self._load(path, use or {}, sizes or {}, only, log)
        except BaseException:
            self.close()
            raise

    def _load(
        self,
        path: Path,
        use: Mapping[str, int],
        sizes: Mapping[str, int],
        only: frozenset[str] | None,
        log: "ctypes.Array[ctypes.c_char]",
    ) -> None:
        lib = self._lib
        for name, handle in self._each("map"):
            if name in sizes:
                self._must(lib.bpf_map__set_max_entries(handle, sizes[name]), "sizing map", name)
            if name in use:
                self._compare(name, handle, use[name])
                self._must(lib.bpf_map__reuse_fd(handle, use[name]), "using the pinned map", name)
        for name, handle in self._each("program"):
            if only is not None and name not in only:
                self._must(lib.bpf_program__set_autoload(handle, False), "leaving out program", name)
        if (code := lib.bpf_object__load(self._object)) < 0:
            said = log.value.decode(errors="replace").strip().splitlines()
            raise BpfError(LOADING, path.name, -code, "; ".join(said[-_LOG_LINES:]))
        self.maps = {name: lib.bpf_map__fd(handle) for name, handle in self._each("map")}
        programs = ((name, lib.bpf_program__fd(handle)) for name, handle in self._each("program"))
        self.programs = {name: fd for name, fd in programs if fd >= 0}

    def _compare(self, name: str, handle: ctypes.c_void_p, fd: int) -> None:
        lib, found = self._lib, map_info(fd)
        declared = (
            lib.bpf_map__type(handle),
            lib.bpf_map__key_size(handle),
            lib.bpf_map__value_size(handle),
            lib.bpf_map__max_entries(handle),
        )
        if declared != (found.kind, found.key_size, found.value_size, found.max_entries):
            raise OtherShape(f"map {name} is declared as {declared}, and the pinned one is {found[:6]}")

    def _each(self, kind: str) -> "list[tuple[str, ctypes.c_void_p]]":
        step = getattr(self._lib, f"bpf_object__next_{kind}")
        name_of = getattr(self._lib, f"bpf_{kind}__name")
        found: list[tuple[str, ctypes.c_void_p]] = []
        handle = step(self._object, None)
        while handle:
            found.append((name_of(handle).decode(), ctypes.c_void_p(handle)))
            handle = step(self._object, handle)
        return found

    @staticmethod
    def _must(result: int, operation: str, what: str) -> None:
        if result < 0:
            raise BpfError(operation, what, -result)

    def close(self) -> None:
        """Let go of the object. What is pinned or attached stays."""
        if self._object is not None:
            self._lib.bpf_object__close(self._object)
            self._object = None

    def __enter__(self) -> "Loaded":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
