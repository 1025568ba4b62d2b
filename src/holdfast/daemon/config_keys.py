"""The keys of a node's configuration, each declared once: with its meaning, its default and what is valid.

Everything else that speaks of configuration (errors, template, docs) is generated from these structs.
"""

from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from holdfast.daemon.declared import parse_range

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
    """A whole configuration. Built by `config.load` or, in tests and tools, directly: then call `config.verify`."""

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
