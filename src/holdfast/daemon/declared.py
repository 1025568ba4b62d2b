"""Configuration declared as msgspec structs: reading it, saying what is valid, writing a commented template.

A key's meaning, default and valid values stand once, in the annotation of its field. This module knows no key
by name: it turns a TOML table into the struct, names the exact key and what would be valid when that fails,
and generates the template. `Meta(extra={"format": ...})` names a format (addresses, networks), `{"hidden": True}`
marks what no error may show.

A refused value is found by trying key by key, so no error is ever recognised by its text.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from holdfast.core.errors import LocalError

S = TypeVar("S", bound=msgspec.Struct)


class ConfigError(LocalError):
    """A configuration that cannot be used: in `file`, `key` is wrong, and `valid` says what it may be."""

    def __init__(self, file: str, key: str, valid: str, found: object = msgspec.UNSET) -> None:
        super().__init__(file, key, valid)
        self.file, self.key, self.valid, self.found = file, key, valid, found

    def __str__(self) -> str:
        found = "" if self.found is msgspec.UNSET else f" is {_shown(self.found)}, but it"
        return f"{self.file}: {self.key}{found} {self.valid}" if self.key else f"{self.file}: {self.valid}"


class Refused(LocalError):
    """A table that does not fit its declaration; `read` turns it into a ConfigError with the file's name."""

    def __init__(self, key: str, valid: str, found: object = msgspec.UNSET) -> None:
        super().__init__(key, valid)
        self.key, self.valid, self.found = key, valid, found


def parse_range(text: str) -> tuple[IPv4Address, IPv4Address]:
    """First and last address of `a.b.c.d/n` or `first-last`; up to /30 without network and broadcast address.

    Raises ValueError.
    """
    if "-" in text:
        first, _, last = (part.strip() for part in text.partition("-"))
        low, high = IPv4Address(first), IPv4Address(last)
        if low > high:
            raise ValueError(text)
        return low, high
    network = IPv4Network(text)
    if network.prefixlen > 30:
        return network[0], network[-1]
    return network[1], network[-2]


def _device_name(text: str) -> None:
    if not text.isprintable() or text in (".", "..") or set(text) & set("/%: ") or len(text.encode()) > 15:
        raise ValueError(text)


_FORMATS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "ipv4": ("an IPv4 address such as 192.0.2.1", IPv4Address),
    "ipv4-or-none": ('an IPv4 address such as 192.0.2.1, or ""', lambda v: v == "" or IPv4Address(v)),
    "ipv4-network": ("an IPv4 address or network such as 192.0.2.0/24", IPv4Network),
    "device": ("a name for a network device: 1 to 15 characters, no / % : or space", _device_name),
    "ipv4-range": ("a network such as 100.64.0.0/16 or a range such as 100.64.0.10-100.64.0.99", parse_range),
}


def read(table: Mapping[str, object], declaration: type[S], file: str) -> S:
    """The struct that `table` declares. Raises ConfigError naming the first key that does not fit."""
    try:
        value = msgspec.convert(table, declaration)
    except msgspec.ValidationError:
        value = None
    try:
        if value is None:
            _find_fault(table, declaration, "")
            raise Refused("", "does not fit its declaration")
        _check_formats(value, "")
        return value
    except Refused as e:
        raise ConfigError(file, e.key, e.valid, e.found) from None


def describe(kind: inspect.Type) -> str:
    """What is valid for a key of this type, in words that follow "must be"."""
    kind, extra = _unwrap(kind)
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=int(low), le=int(high)):
            return f"an integer from {low} to {high}"
        case inspect.IntType():
            return "an integer"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(_shown(v) for v in sorted(values, key=str))
        case inspect.StrType() if "format" in extra:
            return _FORMATS[extra["format"]][0]
        case inspect.StrType(min_length=int(low), max_length=int(high)):
            return f"a text of {low} to {high} characters"
        case inspect.StrType(max_length=int(high)):
            return f"a text of up to {high} characters"
        case inspect.StrType(min_length=int(low)):
            return f"a text of at least {low} character{'s' * (low > 1)}"
        case inspect.StrType():
            return "a text"
        case inspect.VarTupleType(item_type=item):
            return f"a list, each entry {describe(item)}"
        case inspect.StructType():
            return "a table"
        case _:
            return "a value of another type"


def template(declaration: type[msgspec.Struct], chosen: Mapping[str, Sequence[Mapping[str, object]]]) -> str:
    """A commented TOML file. `chosen` holds what is active, by table; more than one for `[[table]]`.

    Keys that are not chosen are shown commented with their defaults, whole tables likewise.
    """
    return "\n".join(_template_lines(declaration, chosen)).strip() + "\n"


def _template_lines(
    declaration: type[msgspec.Struct], chosen: Mapping[str, Sequence[Mapping[str, object]]]
) -> Iterator[str]:
    for section in fields_of(declaration):
        kind, extra = _unwrap(section.type)
        many = isinstance(kind, inspect.VarTupleType)
        struct = kind.item_type if isinstance(kind, inspect.VarTupleType) else kind
        assert isinstance(struct, inspect.StructType)
        yield from ("", *_comment(extra.get("description", "")))
        for values in chosen.get(section.name) or [{}]:
            off = "" if values or not many else "# "
            yield f"{off}[[{section.name}]]" if many else f"[{section.name}]"
            for field in struct.fields:
                yield from _template_key(field, values, off)


def _template_key(field: inspect.Field, values: Mapping[str, object], off: str) -> Iterator[str]:
    _, extra = _unwrap(field.type)
    yield from _comment(f"{extra.get('description', '')} ({describe(field.type)})")
    if field.name in values:
        yield f"{field.encode_name} = {_shown(values[field.name])}"
    elif field.required:
        example = extra.get("examples", [""])[0]
        yield f"{off}{field.encode_name} = {_shown(example)}"
    else:
        yield f"# {field.encode_name} = {_shown(_default(field))}"


def _default(field: inspect.Field) -> object:
    return field.default_factory() if callable(field.default_factory) else field.default


def _comment(text: str, width: int = 110) -> Iterator[str]:
    line = "#"
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            yield line
            line = "#"
        line += " " + word
    if line != "#":
        yield line


def _shown(value: object) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return msgspec.json.encode(value).decode()
        case list() | tuple():
            return "[" + ", ".join(_shown(v) for v in value) + "]"
        case _:
            return str(value)


@cache
def fields_of(declaration: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    """The declared fields of a struct, in order."""
    info = inspect.type_info(declaration)
    assert isinstance(info, inspect.StructType)
    return info.fields


def _unwrap(kind: inspect.Type) -> tuple[inspect.Type, dict[str, Any]]:
    """The type without its metadata, and the metadata: description, examples, format."""
    extra: dict[str, Any] = {}
    while isinstance(kind, inspect.Metadata):
        extra = {**(kind.extra_json_schema or {}), **(kind.extra or {}), **extra}
        kind = kind.type
    return kind, extra


def _named(table: str, index: int, value: object) -> str:
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return f"{table}[{name if isinstance(name, str) and name else f'number {index + 1}'}]"


def _find_fault(table: Mapping[str, object], declaration: type[msgspec.Struct], prefix: str) -> None:
    """Raise Refused for the first key of `table` that does not fit."""
    declared = {f.encode_name: f for f in fields_of(declaration)}
    for name in table:
        if name not in declared:
            close = difflib.get_close_matches(name, declared, n=1, cutoff=0)
            raise Refused(prefix + name, f"is not known: did you mean {prefix}{close[0]}?")
    for name, field in declared.items():
        if name in table:
            _find_fault_in(table[name], field.type, prefix + name)
        elif field.required:
            raise Refused(prefix + name, f"is missing: it must be {describe(field.type)}")


def _find_fault_in(value: object, declared: inspect.Type, key: str) -> None:
    kind, extra = _unwrap(declared)
    match kind, value:
        case inspect.StructType(cls=cls), Mapping():
            _find_fault(value, cls, key + ".")
        case inspect.VarTupleType(item_type=inspect.StructType(cls=cls)), list():
            for i, item in enumerate(value):
                if not isinstance(item, Mapping):
                    raise Refused(key, f"must be tables: write [[{key}]]")
                _find_fault(item, cls, _named(key, i, item) + ".")
        case inspect.VarTupleType(item_type=inspect.StructType()), _:
            raise Refused(key, f"must be tables: write [[{key}]]")
        case inspect.VarTupleType(item_type=item_type), list():
            for item in value:
                _find_fault_in(item, item_type, key)
        case _:
            if not _fits(value, kind):
                shown = msgspec.UNSET if extra.get("hidden") else value
                raise Refused(key, f"must be {describe(declared)}", shown)


def _fits(value: object, kind: inspect.Type) -> bool:
    match kind:
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType(ge=low, le=high):
            return (
                isinstance(value, int)
                and not isinstance(value, bool)
                and (low is None or value >= low)
                and (high is None or value <= high)
            )
        case inspect.LiteralType(values=values):
            return value in values
        case inspect.StrType(min_length=low, max_length=high):
            return isinstance(value, str) and (low or 0) <= len(value) <= (high or len(value))
        case _:
            return False


class _Checks(msgspec.Struct, frozen=True):
    """What of one declaration has a format: its own texts, its lists of texts, its tables, its arrays of tables.

    Texts and lists are pairs of a field's name and the name of its format.
    """

    texts: tuple[tuple[str, str], ...]
    lists: tuple[tuple[str, str], ...]
    tables: tuple[str, ...]
    arrays: tuple[str, ...]


@cache
def _checks(declaration: type[msgspec.Struct]) -> _Checks:
    texts: list[tuple[str, str]] = []
    lists: list[tuple[str, str]] = []
    tables: list[str] = []
    arrays: list[str] = []
    for field in fields_of(declaration):
        kind, extra = _unwrap(field.type)
        if isinstance(kind, inspect.StructType):
            tables.append(field.name)
        elif isinstance(kind, inspect.VarTupleType) and isinstance(kind.item_type, inspect.StructType):
            arrays.append(field.name)
        elif isinstance(kind, inspect.VarTupleType):
            _, extra = _unwrap(kind.item_type)
            if "format" in extra:
                lists.append((field.name, extra["format"]))
        elif "format" in extra:
            texts.append((field.name, extra["format"]))
    return _Checks(tuple(texts), tuple(lists), tuple(tables), tuple(arrays))


def _check_formats(value: msgspec.Struct, prefix: str) -> None:
    """Raise Refused for the first text that is not of its declared format."""
    checks = _checks(type(value))
    for name, form in checks.texts:
        _check_format(getattr(value, name), form, prefix + name)
    for name, form in checks.lists:
        for text in getattr(value, name):
            _check_format(text, form, prefix + name)
    for name in checks.tables:
        _check_formats(getattr(value, name), f"{prefix}{name}.")
    for name in checks.arrays:
        for i, item in enumerate(getattr(value, name)):
            try:
                _check_formats(item, "")
            except Refused as e:
                raise Refused(f"{_named(prefix + name, i, item)}.{e.key}", e.valid, e.found) from None


def _check_format(value: str, form: str, key: str) -> None:
    valid, check = _FORMATS[form]
    try:
        check(value)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise Refused(key, f"must be {valid}", value) from None
