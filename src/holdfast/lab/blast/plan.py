"""What a run of the load generator is asked to do. Rates are per second over all sessions."""

import msgspec

MIN_INNER = 64
"""Smallest inner IP packet: 20 octets IP, 8 UDP, and room for the numbering."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Numbered UDP packets through the sessions once they are up. `core` is the address that they go to.

    `core_command` goes before the command that starts the core side's helper (`ip netns exec core`, `ssh …`).
    """

    core: str = ""
    port: int = 40001
    up: int = 0
    down: int = 0
    up_size: int = MIN_INNER
    down_size: int = MIN_INNER
    core_command: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `rate` 0: as fast as `in_flight` allows. `total` above `sessions`: the oldest make room.

    `tunnel_in_flight` 0: as many as the window takes. `keep`: no StopCCN at the end. `server_pid`: the
    server's process, if it runs on this machine; its CPU time and memory are then measured too.
    """

    lns: str
    port: int = 1701
    local_address: str = "0.0.0.0"
    local_port: int = 0
    host_name: str = "blast"
    tunnel_secret: bytes = b""
    tunnels: int = 10
    sessions: int = 100
    total: int = 0
    user: str = "user{n}"
    secret: str = "secret"
    first: int = 1
    rate: float = 0.0
    in_flight: int = 64
    tunnel_in_flight: int = 0
    mru: int = 1460
    setup_timeout_s: float = 30.0
    duration_s: float = 0.0
    keep: bool = False
    server_pid: int = 0
    traffic: Traffic = Traffic()
