"""The configuration of a node from its file: `load` reads and refuses, `template` is what `holdfast init` writes.

The keys are declared in `config_keys`; what needs more than one of them to be judged is judged here.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

from holdfast.daemon.config_keys import Config
from holdfast.daemon.declared import ConfigError, read
from holdfast.daemon.declared import template as _template

__all__ = ["Config", "ConfigError", "load", "no_ebpf", "parse", "template", "verify"]

T = TypeVar("T")


def load(path: str | Path) -> Config:
    """Read a configuration file. Raises ConfigError."""
    file = str(path)
    try:
        text = Path(path).read_bytes().decode()
    except FileNotFoundError:
        raise ConfigError(file, "", "there is no such file: `holdfast init` writes one") from None
    except OSError as e:
        raise ConfigError(file, "", f"cannot be read: {e.strerror}") from None
    except UnicodeDecodeError as e:
        raise ConfigError(file, "", f"is not UTF-8 at octet {e.start}") from None
    return parse(text, file)


def parse(text: str, file: str) -> Config:
    """A configuration from its text; `file` is its name in errors. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(file, "", f"is not TOML: {e}") from None
    config = read(table, Config, file)
    verify(config, file)
    return config


def verify(config: Config, file: str = "configuration") -> None:
    """What no single key can show: names that are unique and known, addresses that do not collide.

    Raises ConfigError.
    """
    for table, entries in (
        ("peer", config.peer),
        ("pool", config.pool),
        ("user", config.user),
        ("subscriber", config.subscriber),
    ):
        if (twice := _first_repeated(entry.name for entry in entries)) is not None:
            raise ConfigError(file, f"{table}[{twice}].name", f"must be unique among all [[{table}]]")
    if config.dataplane.kind == "ebpf" and (why := no_ebpf(config)):
        raise ConfigError(file, *why)
    pools = {pool.name for pool in config.pool}
    if (again := _first_repeated(user.address for user in config.user if user.address)) is not None:
        raise ConfigError(file, f"user address {again}", "must be given to one user only")
    for user in config.user:
        if user.pool and user.pool not in pools:
            raise ConfigError(file, f"user[{user.name}].pool", f"must be {_names(pools, 'pool')}", user.pool)
        if not user.address and not pools:
            raise ConfigError(file, f"user[{user.name}].address", "must be set, or a [[pool]] declared")
    ranges = sorted((pool.bounds, pool.name) for pool in config.pool)
    for ((_, last), name), ((first, _), other) in pairwise(ranges):
        if first <= last:
            raise ConfigError(file, f"pool[{other}].range", f"must not overlap with that of pool {name}")
    for peer in config.peer:
        if peer.connect and peer.network.prefixlen < 32:
            raise ConfigError(
                file, f"peer[{peer.name}].address", "must be one address to connect to", peer.address
            )
        if peer.connect and config.node.role == "lns":
            raise ConfigError(file, f"peer[{peer.name}].connect", 'needs role = "lac" or "both" in [node]')
    reachable = {peer.name for peer in config.peer if peer.connect}
    for subscriber in config.subscriber:
        if "/" in subscriber.name:
            raise ConfigError(file, f"subscriber[{subscriber.name}].name", "must not contain a slash")
        if subscriber.tunnel not in reachable:
            raise ConfigError(
                file,
                f"subscriber[{subscriber.name}].tunnel",
                f"must be {_names(reachable, 'peer with connect = true')}",
                subscriber.tunnel,
            )


def no_ebpf(config: Config) -> tuple[str, str] | None:
    """Why this configuration is not for the ebpf data plane: the key, and what it would have to be."""
    if not config.role_is_lns:
        return "node.role", 'must be "lns" or "both" for dataplane.kind = "ebpf": it forwards for an LNS only'
    if config.listen.address == "0.0.0.0":
        return "listen.address", 'must be one address of this host for dataplane.kind = "ebpf"'
    return None


def template(role: Literal["lns", "lac"] = "lns", *, tunnel_secret: str, user_secret: str) -> str:
    """The commented configuration that `holdfast init` writes: valid as it is, every key shown."""
    if role == "lns":
        chosen: Mapping[str, Sequence[Mapping[str, object]]] = {
            "node": [{"name": "lns1", "role": "lns"}],
            "ppp": [{"auth": ["chap"]}],
            "peer": [{"name": "lac1", "address": "192.0.2.10", "secret": tunnel_secret}],
            "pool": [{"name": "subscribers", "range": "100.64.0.0/16"}],
            "user": [{"name": "alice", "secret": user_secret}],
        }
    else:
        chosen = {
            "node": [{"name": "lac1", "role": "lac"}],
            "peer": [{"name": "lns1", "address": "192.0.2.1", "secret": tunnel_secret, "connect": True}],
            "subscriber": [{"name": "alice", "secret": user_secret, "tunnel": "lns1"}],
        }
    return _template(Config, chosen)


def _first_repeated(values: Iterable[T]) -> T | None:
    seen: set[T] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _names(names: Iterable[str], what: str) -> str:
    known = ", ".join(sorted(names))
    return f"the name of a {what}: {known}" if known else f"the name of a {what}, and there is none"
