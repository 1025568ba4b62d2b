"""The configuration of a node: each key declared once, with its meaning, its default and what is valid.

`load` reads and refuses, `check` warns of weak choices, `template` is the file that `holdfast init` writes.
Everything else that speaks of configuration (errors, template, docs) is generated from these structs.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from holdfast.daemon.declared import ConfigError, parse_range, read
from holdfast.daemon.declared import template as _template

__all__ = ["Advice", "Config", "ConfigError", "check", "load", "parse", "template"]

T = TypeVar("T")

_IPV4 = {"format": "ipv4"}
_IPV4_OR_NONE = {"format": "ipv4-or-none"}

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Secret = Annotated[str, Meta(max_length=255, extra={"hidden": True})]
Port = Annotated[int, Meta(ge=1, le=65535)]


class _Table(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A TOML table; a key that is not declared is refused."""


class NodeSettings(_Table, frozen=True):
    name: Annotated[
        Name, Meta(description="name of this node: its Host Name towards peers", examples=["lns1"])
    ]
    role: Annotated[
        Literal["lns", "lac", "both"],
        Meta(description="what this node may be to its peers", examples=["lns"]),
    ]


class PathSettings(_Table, frozen=True):
    run_dir: Annotated[
        str, Meta(min_length=1, description="directory of the control socket; may vanish at a reboot")
    ] = "/run/holdfast"
    state_dir: Annotated[
        str, Meta(min_length=1, description="directory of the journal: what survives a crash and a reboot")
    ] = "/var/lib/holdfast"

    @property
    def pins(self) -> str:
        """Path of the file system that holds what ebpf pins."""
        return f"{self.run_dir}/bpf"

    @property
    def control_socket(self) -> str:
        """Path of the UNIX socket of the control API."""
        return f"{self.run_dir}/control.sock"

    @property
    def journal(self) -> str:
        """Path of the journal."""
        return f"{self.state_dir}/journal.db"


class ListenSettings(_Table, frozen=True):
    address: Annotated[
        str,
        Meta(
            extra=_IPV4,
            description="address of the UDP socket; one address, if the host has several, "
            "keeps replies on the address that peers know",
        ),
    ] = "0.0.0.0"
    port: Annotated[
        Port, Meta(description="UDP port, for the LAC too; peers find us there after a restart")
    ] = 1701
    receive_buffer_mib: Annotated[
        int, Meta(ge=1, le=1024, description="receive buffer of the UDP socket in MiB")
    ] = 16


class LogSettings(_Table, frozen=True):
    format: Annotated[
        Literal["text", "json"], Meta(description="key=value text, or one JSON object per line")
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least level that is logged")
    ] = "info"


class TunnelSettings(_Table, frozen=True):
    receive_window: Annotated[
        int, Meta(ge=1, le=1024, description="control messages that a peer may have outstanding towards us")
    ] = 16
    hello_interval_s: Annotated[
        int, Meta(ge=0, le=3600, description="silence of a peer after which a HELLO is sent; 0 sends none")
    ] = 60
    retransmit_initial_ms: Annotated[
        int,
        Meta(ge=100, le=60_000, description="wait before a control message is sent again; doubles each time"),
    ] = 1000
    retransmit_cap_ms: Annotated[
        int, Meta(ge=8000, le=60_000, description="longest wait between two retransmissions")
    ] = 16_000
    retransmit_count: Annotated[
        int, Meta(ge=1, le=50, description="timeouts without any answer after which a tunnel is given up")
    ] = 5
    setup_timeout_s: Annotated[
        int, Meta(ge=1, le=600, description="longest time that the set-up of a tunnel or session may take")
    ] = 30
    max_half_open: Annotated[
        int, Meta(ge=1, le=65_535, description="tunnels that may be in set-up at once, all peers together")
    ] = 1000
    max_tunnels: Annotated[int, Meta(ge=1, le=65_535, description="tunnels that may exist at once")] = 10_000
    max_sessions: Annotated[int, Meta(ge=1, le=65_535, description="sessions that one tunnel may hold")] = (
        60_000
    )
    sccrq_per_second: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="tunnel set-ups answered per second and peer; more are dropped and counted",
        ),
    ] = 2000


class FailoverSettings(_Table, frozen=True):
    method: Annotated[
        Literal["auto", "rfc4951", "silent", "off"],
        Meta(
            description="how tunnels are recovered after a restart: auto is RFC 4951 where both ends offered it, and "
            "silent resynchronisation elsewhere and when that fails"
        ),
    ] = "auto"
    advertise: Annotated[bool, Meta(description="offer RFC 4951 to peers")] = True
    recovery_time_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=3_600_000,
            description="Recovery Time that we send: how long a peer keeps our tunnel for us",
        ),
    ] = 60_000
    peer_recovery_time_cap_s: Annotated[
        int,
        Meta(ge=1, le=86_400, description="longest time that we keep a tunnel for a peer, whatever it asks"),
    ] = 300
    require_secret: Annotated[
        bool, Meta(description="a tunnel without a secret neither offers nor accepts recovery")
    ] = True
    strict_discard: Annotated[
        bool,
        Meta(
            description="discard control messages of the old tunnel from a recovery's SCCRQ on (RFC 4951 "
            "3.2.1 to the letter) instead of from its authentication on"
        ),
    ] = False
    additive: Annotated[
        bool, Meta(description="the Recovery Time begins when retransmission has given up, not beside it")
    ] = False
    suggest_sequence: Annotated[
        bool, Meta(description="suggest unpredictable sequence numbers for the recovered control channel")
    ] = True


class PppSettings(_Table, frozen=True):
    auth: Annotated[
        tuple[Literal["chap", "pap"], ...],
        Meta(description="authentication asked of subscribers, best first"),
    ] = ("chap", "pap")
    mru: Annotated[
        int,
        Meta(
            ge=576, le=9000, description="MRU that we offer: path MTU less 40 avoids fragments in the tunnel"
        ),
    ] = 1460
    local_address: Annotated[
        str, Meta(extra=_IPV4_OR_NONE, description="our address on every PPP link of an LNS")
    ] = "192.0.0.1"
    dns: Annotated[
        tuple[Annotated[str, Meta(extra=_IPV4)], ...],
        Meta(max_length=2, description="name servers given to subscribers (RFC 1877)"),
    ] = ()
    echo_interval_s: Annotated[
        int, Meta(ge=0, le=3600, description="pause between LCP Echo-Requests; 0 sends none")
    ] = 10
    echo_failures: Annotated[
        int, Meta(ge=1, le=100, description="Echo-Requests without any answer after which a link is ended")
    ] = 6
    restart_ms: Annotated[int, Meta(ge=100, le=60_000, description="PPP Restart timer (RFC 1661 4.6)")] = 3000
    max_configure: Annotated[int, Meta(ge=1, le=100, description="PPP Max-Configure")] = 10
    max_terminate: Annotated[int, Meta(ge=1, le=100, description="PPP Max-Terminate")] = 2
    max_failure: Annotated[int, Meta(ge=1, le=100, description="PPP Max-Failure")] = 5


class DataplaneSettings(_Table, frozen=True):
    kind: Annotated[
        Literal["auto", "ebpf", "tun", "null"],
        Meta(
            description="what forwards packets: ebpf is the kernel, which goes on while this node is away (an LNS, with "
            "one address in listen.address); tun is this process; auto is ebpf where that is possible, else tun "
            "(`holdfast doctor` says why); null forwards none, for tests"
        ),
    ] = "tun"
    mode: Annotated[
        Literal["auto", "xdp", "tc"],
        Meta(
            description="where ebpf takes packets: xdp in the driver, tc behind it; auto is xdp where the driver of "
            "a network card has it, else tc"
        ),
    ] = "auto"
    interfaces: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=15, extra={"format": "device"})], ...],
        Meta(
            description="the interfaces towards LACs and core that ebpf serves; none stands for every Ethernet "
            "interface that is up"
        ),
    ] = ()
    max_sessions: Annotated[
        int,
        Meta(
            ge=64,
            le=4_194_304,
            description="sessions that ebpf has room for: memory is taken for all of them",
        ),
    ] = 131_072
    device: Annotated[
        str,
        Meta(min_length=1, max_length=15, extra={"format": "device"}, description="name of the TUN device"),
    ] = "hf0"
    path_mtu: Annotated[int, Meta(ge=616, le=9216, description="MTU of the path between LAC and LNS")] = 1500
    mss_clamp: Annotated[
        bool, Meta(description="lower the MSS of TCP connections to the MTU of the session")
    ] = False


class JournalSettings(_Table, frozen=True):
    synchronous: Annotated[
        Literal["full", "normal"],
        Meta(description="full survives a power cut; normal survives a killed process"),
    ] = "full"


class Peer(_Table, frozen=True):
    name: Annotated[Name, Meta(description="name in lists and logs, unique", examples=["lac1"])]
    address: Annotated[
        str,
        Meta(
            extra={"format": "ipv4-network"},
            description="its address, or the network it may come from",
            examples=["192.0.2.10"],
        ),
    ]
    port: Annotated[Port, Meta(description="its UDP port, when we open the tunnel")] = 1701
    secret: Annotated[Secret, Meta(description='shared secret of tunnel authentication; "" for none')] = ""
    host_name: Annotated[
        str,
        Meta(max_length=255, description='Host Name that this peer has to give; "" accepts any'),
    ] = ""
    recovery_addresses: Annotated[
        tuple[Annotated[str, Meta(extra=_IPV4)], ...],
        Meta(description="other addresses from which this peer may recover its tunnels"),
    ] = ()
    method: Annotated[
        Literal["", "auto", "rfc4951", "silent", "off"],
        Meta(description='how its tunnels are recovered; "" is that of [failover]'),
    ] = ""
    connect: Annotated[bool, Meta(description="open the tunnels (a LAC); otherwise wait for the peer")] = (
        False
    )
    tunnels: Annotated[int, Meta(ge=1, le=1000, description="tunnels opened to this peer")] = 1

    @property
    def network(self) -> IPv4Network:
        """Where the peer may come from."""
        return IPv4Network(self.address)


class Pool(_Table, frozen=True):
    name: Annotated[Name, Meta(description="name of the pool, unique", examples=["subscribers"])]
    range: Annotated[
        str,
        Meta(
            extra={"format": "ipv4-range"},
            description="its addresses, routed to the TUN device",
            examples=["100.64.0.0/16"],
        ),
    ]

    @property
    def bounds(self) -> tuple[IPv4Address, IPv4Address]:
        """First and last address that may be given to a subscriber."""
        return parse_range(self.range)


class User(_Table, frozen=True):
    name: Annotated[Name, Meta(description="PPP user name, unique", examples=["alice"])]
    secret: Annotated[Secret, Meta(min_length=1, description="PPP password or CHAP secret", examples=["…"])]
    address: Annotated[
        str, Meta(extra=_IPV4_OR_NONE, description='fixed address; "" takes one from the pool')
    ] = ""
    pool: Annotated[str, Meta(max_length=64, description='name of the pool; "" takes the first one')] = ""


class SubscriberSettings(_Table, frozen=True):
    name: Annotated[Name, Meta(description="PPP user name, unique", examples=["alice"])]
    secret: Annotated[Secret, Meta(min_length=1, description="PPP password or CHAP secret", examples=["…"])]
    tunnel: Annotated[Name, Meta(description="name of the peer whose tunnel carries it", examples=["lns1"])]
    auto: Annotated[bool, Meta(description="connect at start, and again whenever it is lost")] = True


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A whole configuration. Built by `load` or, in tests and tools, directly: then call `verify`."""

    node: Annotated[NodeSettings, Meta(description="The node itself.")]
    paths: Annotated[PathSettings, Meta(description="Where things are kept.")] = PathSettings()
    listen: Annotated[ListenSettings, Meta(description="The UDP socket.")] = ListenSettings()
    log: Annotated[LogSettings, Meta(description="Log events, on standard error.")] = LogSettings()
    tunnel: Annotated[TunnelSettings, Meta(description="Control connections.")] = TunnelSettings()
    failover: Annotated[FailoverSettings, Meta(description="RFC 4951.")] = FailoverSettings()
    ppp: Annotated[PppSettings, Meta(description="PPP towards subscribers, and of our own subscribers.")] = (
        PppSettings()
    )
    dataplane: Annotated[DataplaneSettings, Meta(description="Forwarding.")] = DataplaneSettings()
    journal: Annotated[JournalSettings, Meta(description="The record of what is established.")] = (
        JournalSettings()
    )
    peer: Annotated[tuple[Peer, ...], Meta(description="One per peer.")] = ()
    pool: Annotated[tuple[Pool, ...], Meta(description="Addresses for subscribers (an LNS).")] = ()
    user: Annotated[tuple[User, ...], Meta(description="Who may connect (an LNS).")] = ()
    subscriber: Annotated[
        tuple[SubscriberSettings, ...], Meta(description="PPP clients that this node itself runs (a LAC).")
    ] = ()

    @property
    def role_is_lns(self) -> bool:
        """Whether peers may place calls to this node."""
        return self.node.role != "lac"

    @property
    def role_is_lac(self) -> bool:
        """Whether this node opens tunnels and runs subscribers."""
        return self.node.role != "lns"

    def peer_for(self, address: str) -> Peer | None:
        """The peer that `address` belongs to, by the longest matching network; None if there is none."""
        if (peer := self._peers_by_host.get(address)) is not None:
            return peer
        host = IPv4Address(address)
        return next((peer for network, peer in self._peer_networks if host in network), None)

    def peer_named(self, name: str) -> Peer | None:
        """The peer of that name."""
        return self._peers_by_name.get(name)

    @cached_property
    def _peers_by_name(self) -> dict[str, Peer]:
        return {peer.name: peer for peer in self.peer}

    @cached_property
    def _peers_by_host(self) -> dict[str, Peer]:
        nets = ((IPv4Network(peer.address), peer) for peer in self.peer)
        return {str(net.network_address): peer for net, peer in nets if net.prefixlen == 32}

    @cached_property
    def _peer_networks(self) -> list[tuple[IPv4Network, Peer]]:
        nets = [(IPv4Network(peer.address), peer) for peer in self.peer]
        return sorted(((n, p) for n, p in nets if n.prefixlen < 32), key=lambda pair: -pair[0].prefixlen)


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


class Advice(msgspec.Struct, frozen=True, gc=False):
    """A choice that is allowed and weak: the key, and what it means."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


SHORT_SECRET = 12
"""Secrets below this many characters are called weak: MD5 challenges can be tried offline."""


def check(config: Config, path: str | Path | None = None) -> list[Advice]:
    """The weak choices of a valid configuration; with `path`, also who may read the file."""
    return [*_weak_file(path), *_weak_peers(config), *_weak_settings(config), *_incomplete(config)]


def _weak_file(path: str | Path | None) -> Iterable[Advice]:
    if path is not None and Path(path).stat().st_mode & 0o027:
        yield Advice(str(path), "holds secrets and others may read or change it: chmod 600, or 640")


def _weak_peers(config: Config) -> Iterable[Advice]:
    for peer in config.peer:
        if not peer.secret:
            lost = (
                "and no recovery (RFC 4951)"
                if config.failover.require_secret
                else "and anyone may take it over"
            )
            yield Advice(f"peer[{peer.name}].secret", f"none: tunnels have no authentication {lost}")
        elif len(peer.secret) < SHORT_SECRET:
            yield Advice(f"peer[{peer.name}].secret", f"shorter than {SHORT_SECRET} characters")
        if peer.network.prefixlen < 16:
            yield Advice(
                f"peer[{peer.name}].address", f"{peer.network.num_addresses:,} addresses may open tunnels"
            )


def _weak_settings(config: Config) -> Iterable[Advice]:
    if not config.failover.advertise:
        yield Advice(
            "failover.advertise", "false: after a restart tunnels can be resynchronised silently only"
        )
    elif config.failover.recovery_time_ms < 10_000:
        yield Advice("failover.recovery_time_ms", "below 10 s: peers may give up before this node is back")
    if not config.failover.require_secret:
        yield Advice(
            "failover.require_secret", "false: one forged message can end a tunnel that has no secret"
        )
    if config.failover.strict_discard:
        yield Advice("failover.strict_discard", "true: unauthenticated messages can silence a tunnel")
    if config.role_is_lns and "pap" in config.ppp.auth:
        yield Advice("ppp.auth", "pap sends passwords in the clear")
    if config.role_is_lns and not config.ppp.auth:
        yield Advice("ppp.auth", "empty: anyone is let in without a name")
    if config.ppp.mru > config.dataplane.path_mtu - TUNNEL_OVERHEAD:
        yield Advice(
            "ppp.mru", f"above dataplane.path_mtu less {TUNNEL_OVERHEAD}: full packets will be fragmented"
        )
    if config.journal.synchronous == "normal":
        yield Advice("journal.synchronous", "normal: a power cut may lose the last sessions")
    if config.dataplane.kind == "null":
        yield Advice("dataplane.kind", "null: no packet is forwarded")


def _incomplete(config: Config) -> Iterable[Advice]:
    if not config.peer:
        yield Advice("peer", "none declared: nobody can open a tunnel")
    if config.role_is_lns and not config.user:
        yield Advice("user", "none declared: no subscriber can log in")
    if config.node.role == "lac" and config.peer and not any(peer.connect for peer in config.peer):
        yield Advice("peer", "none has connect = true: this LAC opens no tunnel")
    if config.node.role == "lac" and not config.subscriber:
        yield Advice("subscriber", "none declared: this LAC places no calls")
    if not Path(config.paths.state_dir).is_absolute():
        yield Advice("paths.state_dir", "not absolute: started elsewhere, this node finds no sessions")


TUNNEL_OVERHEAD = 40
"""Octets around an inner packet: IPv4 20, UDP 8, L2TP 6 to 8, PPP 4 (address, control, protocol)."""


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
