"""What a node routes to its TUN device: where an LNS's subscribers have their addresses."""

from collections.abc import Iterable
from ipaddress import summarize_address_range

from holdfast.aaa.local import number
from holdfast.daemon.config_keys import Config
from holdfast.dataplane import tundev
from holdfast.records import SessionRecord, Side


def device_spec(config: Config, sessions: Iterable[SessionRecord] = ()) -> tundev.TunSpec | None:
    """The TUN device of this node, None if it forwards nothing.

    What an LNS routes to it: its pools, fixed addresses, and those of recorded `sessions` that are in neither any more.
    """
    if config.dataplane.kind == "null":
        return None
    return tundev.TunSpec(
        name=config.dataplane.device,
        mtu=config.ppp.mru,
        routes=tundev.pool_routes(subscriber_networks(config, sessions)),
    )


def subscriber_networks(config: Config, sessions: Iterable[SessionRecord] = ()) -> list[str]:
    """Where an LNS's subscribers have their addresses, as networks; each address is in one of them."""
    networks: list[str] = []
    for pool in config.pool:
        if "/" in pool.range:
            networks.append(pool.range)
        else:
            networks += [str(network) for network in summarize_address_range(*pool.bounds)]
    pools = [(int(low), int(high)) for low, high in (pool.bounds for pool in config.pool)]
    single = {user.address for user in config.user if user.address}
    single.update(s.ppp.peer_ip for s in sessions if s.side is Side.LNS and s.ppp is not None)
    networks += [
        f"{address}/32"
        for address in sorted(single)
        if address and not any(low <= number(address) <= high for low, high in pools)
    ]
    return networks
