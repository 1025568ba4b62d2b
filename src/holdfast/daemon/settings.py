"""From the configuration, in the units of operators, to the settings of the machines, in theirs."""

from msgspec.structs import replace

from holdfast.aaa.local import LocalAuthenticator, User
from holdfast.core.auth import CHAP, PAP
from holdfast.core.clock import MILLISECOND, SECOND
from holdfast.daemon.config_keys import Config, Peer, SubscriberSettings
from holdfast.ppp.config import LinkConfig, Role
from holdfast.protocol.settings import (
    ChannelSettings,
    EndpointSettings,
    FailoverSettings,
    FindPeer,
    Method,
    PeerSettings,
)

METHODS = {"chap": CHAP, "pap": PAP}


def endpoint_settings(config: Config) -> EndpointSettings:
    """The control protocol's settings."""
    tunnel, failover = config.tunnel, config.failover
    return EndpointSettings(
        host_name=config.node.name,
        local_address=config.listen.address,
        local_port=config.listen.port,
        channel=ChannelSettings(
            receive_window=tunnel.receive_window,
            initial=tunnel.retransmit_initial_ms * MILLISECOND,
            cap=tunnel.retransmit_cap_ms * MILLISECOND,
            attempts=tunnel.retransmit_count,
        ),
        failover=FailoverSettings(
            method=Method(failover.method),
            advertise=failover.advertise,
            recovery_time_ms=failover.recovery_time_ms,
            peer_recovery_cap=failover.peer_recovery_time_cap_s * SECOND,
            require_secret=failover.require_secret,
            strict_discard=failover.strict_discard,
            additive=failover.additive,
            suggest_sequence=failover.suggest_sequence,
        ),
        hello_interval=tunnel.hello_interval_s * SECOND,
        setup_timeout=tunnel.setup_timeout_s * SECOND,
        accept_tunnels=config.role_is_lns,
        max_tunnels=tunnel.max_tunnels,
        max_half_open=tunnel.max_half_open,
        max_sessions_per_tunnel=tunnel.max_sessions,
        sccrq_per_second=tunnel.sccrq_per_second,
    )


def peer_settings(peer: Peer) -> PeerSettings:
    """One peer, as the control protocol knows it."""
    return PeerSettings(
        name=peer.name,
        secret=peer.secret.encode(),
        host_name=peer.host_name,
        recovery_addresses=tuple(peer.recovery_addresses),
        method=Method(peer.method) if peer.method else None,
    )


def local_aaa(config: Config) -> LocalAuthenticator:
    """Users and pools from the configuration."""
    users = (User(name=u.name, secret=u.secret.encode(), address=u.address, pool=u.pool) for u in config.user)
    pools = ((p.name, int(p.bounds[0]), int(p.bounds[1])) for p in config.pool)
    return LocalAuthenticator(users, pools, config.ppp.local_address)


def peer_finder(config: Config) -> FindPeer:
    """Finds the configured peer of an SCCRQ by source address, and Host Name where one is configured."""
    known = {peer.name: peer_settings(peer) for peer in config.peer}

    def find(address: str, host_name: str) -> PeerSettings | None:
        peer = config.peer_for(address)
        if peer is None or (peer.host_name and peer.host_name != host_name):
            return None
        return known[peer.name]

    return find


def server_config(config: Config) -> LinkConfig:
    """What every link of an LNS shares."""
    ppp = config.ppp
    return LinkConfig(
        role=Role.SERVER,
        auth=tuple(METHODS[name] for name in ppp.auth),
        name=config.node.name,
        mru=ppp.mru,
        local_address=ppp.local_address,
        dns=tuple(ppp.dns),
        restart=ppp.restart_ms * MILLISECOND,
        max_configure=ppp.max_configure,
        max_terminate=ppp.max_terminate,
        max_failure=ppp.max_failure,
        echo_interval=ppp.echo_interval_s * SECOND,
        echo_failures=ppp.echo_failures,
    )


def client_config(config: Config, subscriber: SubscriberSettings) -> LinkConfig:
    """The link of one of our own subscribers: as a server's, with its name and secret, and asking where that gives."""
    return replace(
        server_config(config),
        role=Role.CLIENT,
        name=subscriber.name,
        secret=subscriber.secret.encode(),
        local_address="",
        dns=(),
    )
