"""What an operator can do about packets of each reason; docs/generated/counters.md has it for people."""

from collections.abc import Mapping
from typing import Final

from holdfast.dataplane.ebpf.abi import Reason

_NOTHING = "Nothing: as it should be."
_DAEMON = "They pass while the daemon lives, at its pace."
_KERNEL_REFUSES = (
    'The kernel was short of memory, or a driver refuses: see `dmesg`; `mode = "tc"` works everywhere.'
)
_TO_DAEMON = f"{_DAEMON} Turn data sequencing off at the LAC, or raise `dataplane.max_sessions`."
_LOOP = (
    "The kernel answers (traceroute does so). Very many: two routers send packets to each other in a loop."
)
_OPTIONS = "Nothing: rare, and the kernel handles them."

ADVICE: Final[Mapping[Reason, str]] = {
    Reason.RX_FORWARDED: _NOTHING,
    Reason.RX_KERNEL_LOCAL: "Nothing for packets to this machine. Others: a route is missing (`ip route get ADDRESS`).",
    Reason.RX_KERNEL_TTL: _LOOP,
    Reason.RX_KERNEL_OPTIONS: _OPTIONS,
    Reason.RX_KERNEL_NEIGHBOUR: "A few are usual. Many: the next hop does not answer (`ip neigh`).",
    Reason.RX_KERNEL_TOO_BIG: "The kernel answers or fragments. Raise the MTU towards the core, or lower `ppp.mru`.",
    Reason.RX_KERNEL_PORT: 'Name that interface in `dataplane.interfaces`, too, or set `mode = "tc"`.',
    Reason.RX_ECHO: _NOTHING,
    Reason.RX_CONTROL: _NOTHING,
    Reason.RX_PPP: "Nothing. Very many of one subscriber: look (`holdfast trace session ID --raw --json`).",
    Reason.RX_NO_SESSION: "A few at a session's end. More: a peer keeps what is gone here, or somebody tries ids.",
    Reason.RX_TO_DAEMON: _TO_DAEMON,
    Reason.RX_FRAGMENT: f"{_DAEMON} Raise the MTU of the path to the LAC, or lower `ppp.mru` to 40 below it.",
    Reason.RX_UNUSUAL: (
        f"{_DAEMON} Bursts: the sender is on this machine and leaves cutting to the interface"
        " (`ethtool -K IF tx-udp-segmentation off` at its end), or GRO joins datagrams"
        " (`rx-udp-gro-forwarding off`). Else a peer with options in IP, a pad beyond 1024 octets, or another version."
    ),
    Reason.RX_MALFORMED: "A peer, or somebody, sends garbage: capture it at the interface (`tcpdump udp port 1701`).",
    Reason.RX_WRONG_PEER: (
        "The LAC's address or port has changed (NAT, a second uplink: compare `holdfast show tunnels`), or somebody"
        " forges packets."
    ),
    Reason.RX_SPOOFED: (
        "A subscriber sends from addresses that are not its own: a router without NAT or with another address. Which:"
        " `holdfast trace session ID`."
    ),
    Reason.RX_UNHEARD: "The daemon was away: start it. Under systemd its socket stays open, and these do not occur.",
    Reason.RX_REFUSED: _KERNEL_REFUSES,
    Reason.TX_FORWARDED: _NOTHING,
    Reason.TX_TTL: _LOOP,
    Reason.TX_OPTIONS: _OPTIONS,
    Reason.TX_TOO_BIG: "The kernel answers or fragments. `dataplane.mss_clamp` spares TCP the detour.",
    Reason.TX_NEIGHBOUR: "A few are usual. Many: the LAC, or the router to it, does not answer (`ip neigh`).",
    Reason.TX_NO_ROUTE: "Give the LAC a route (`ip route get ADDRESS`).",
    Reason.TX_PORT: 'Name that interface in `dataplane.interfaces`, too, or set `mode = "tc"`.',
    Reason.TX_TO_DAEMON: _TO_DAEMON,
    Reason.TX_UNUSUAL: f"{_DAEMON} Bursts of what is neither TCP nor UDP: turn GRO off at the interface.",
    Reason.TX_REFUSED: _KERNEL_REFUSES,
    Reason.SLOW_FORWARDED: "Nothing: traffic of this machine, and what the fast path left (`tx_*`).",
    Reason.SLOW_NO_SESSION: "Nothing: the address is of the pool, and nobody has it now.",
    Reason.SLOW_TOO_BIG: f"{_DAEMON} It answers or fragments. Set `ppp.mru` 40 below the MTU of the path.",
    Reason.SLOW_NO_ROUTE: "Give the LAC a route that does not lead through the TUN device.",
    Reason.SLOW_TO_DAEMON: _TO_DAEMON,
    Reason.SLOW_UNUSUAL: f"{_DAEMON} Bursts of what is neither TCP nor UDP: turn GRO off at the interface.",
    Reason.SLOW_REFUSED: _KERNEL_REFUSES,
    Reason.NOT_OURS: "Nothing: this machine's other traffic.",
    Reason.NOT_TO_US: "Nothing: other hosts' frames. Ours among them: name the interface in `dataplane.interfaces`.",
}
