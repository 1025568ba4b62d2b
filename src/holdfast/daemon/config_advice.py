"""The weak choices of a configuration that is valid: what `holdfast check` warns of."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from holdfast.daemon.config_keys import Config

SHORT_SECRET = 12
"""Secrets below this many characters are called weak: MD5 challenges can be tried offline."""

TUNNEL_OVERHEAD = 40
"""Octets around an inner packet: IPv4 20, UDP 8, L2TP 6 to 8, PPP 4 (address, control, protocol)."""


class Advice(msgspec.Struct, frozen=True, gc=False):
    """A choice that is allowed and weak: the key, and what it means."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


def check(config: Config, path: str | Path | None = None) -> list[Advice]:
    """The weak choices of a valid configuration; with `path`, also who may read the file."""
    return [
        *_weak_file(path),
        *_weak_peers(config),
        *_weak_recovery(config),
        *_weak_settings(config),
        *_incomplete(config),
    ]


def _weak_file(path: str | Path | None) -> Iterable[Advice]:
    if path is not None and Path(path).stat().st_mode & 0o027:
        yield Advice(str(path), "holds secrets and others may read or change it: chmod 600, or 640")


def _weak_peers(config: Config) -> Iterable[Advice]:
    for peer in config.peer:
        if not peer.secret:
            lost = (
                "and no recovery by RFC 4951"
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


def _weak_recovery(config: Config) -> Iterable[Advice]:
    """Peers whose tunnels no restart can keep, whatever they offer."""
    failover = config.failover
    if failover.method == "off":
        yield Advice(
            "failover.method", "off: a restart ends the tunnels of every peer without a method of its own"
        )
    for peer in config.peer:
        missing = "it has no secret" if failover.require_secret and not peer.secret else ""
        missing = missing if failover.advertise else "failover.advertise is false"
        if peer.method == "off":
            yield Advice(f"peer[{peer.name}].method", "off: a restart ends its tunnels")
        elif (peer.method or failover.method) == "rfc4951" and missing:
            key = f"peer[{peer.name}].method" if peer.method else "failover.method"
            yield Advice(
                key, f"rfc4951, which {peer.name} is not offered ({missing}): a restart ends its tunnels"
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
    if not config.ppp.echo_interval_s:
        yield Advice("ppp.echo_interval_s", "0: dead sessions stay, and none is proved after a restart")
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
