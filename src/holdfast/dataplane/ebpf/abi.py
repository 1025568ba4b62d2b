"""Python's view of bpf/abi.h: the layout of keys and values of the maps, and the reasons that the programs count.

Invariants: `LAYOUTS` names every field of every structure with its octets in order, and `Reason` and `Flag` every
number; tests/dataplane/test_abi.py compares them with what a C compiler makes of the header. In each structure the
fields in network order come first (struct code "!"), then those in the machine's own ("=").
"""

import socket
import struct
import time
from enum import IntEnum, IntFlag
from functools import partial
from mmap import mmap
from typing import Final, NamedTuple

from holdfast.dataplane.contract import BadEntry, Entry, Verdict
from holdfast.records import Counters

LAYOUT: Final = 2
"""Version of everything in this module; maps of another one are not read."""
COUNTED_ALIKE: Final = frozenset({1, LAYOUT})
"""Layouts with counters, and slots that say whose they are, like those of this one."""
PORTS: Final = 256
SNAP: Final = 2048
"""Octets of a packet that a trace shows at most."""
CAPTURES: Final = 1 << 20
"""Octets of the ring of captures."""


class Flag(IntFlag):
    """How a session is treated (enum hf_flag)."""

    TO_DAEMON = 1
    CLAMP_MSS = 2
    ANSWER_ECHO = 4
    ACFC = 8
    PFC = 16
    LENGTH = 32
    TRACE = 64


_TO_DAEMON, _CLAMP_MSS, _ANSWER_ECHO, _ACFC, _PFC, _LENGTH, _TRACE = map(int, Flag)


class Reason(IntEnum):
    """What became of a packet (enum hf_reason): RX from a peer, TX to one, SLOW to one by way of the TUN device."""

    RX_FORWARDED = 0
    """Decapsulated and sent to the next hop. So are the next six but for the sending, which is left to the kernel."""
    RX_KERNEL_LOCAL = 1
    """For ourselves, or without a unicast route."""
    RX_KERNEL_TTL = 2
    """Its TTL or hop limit ends here."""
    RX_KERNEL_OPTIONS = 3
    """It has IPv4 options, or an IPv6 hop-by-hop header."""
    RX_KERNEL_NEIGHBOUR = 4
    """The next hop's link address is not known."""
    RX_KERNEL_TOO_BIG = 5
    """Larger than the path."""
    RX_KERNEL_PORT = 6
    """XDP cannot send on the interface that it leaves by."""
    RX_ECHO = 7
    """An LCP Echo-Request, answered."""
    RX_CONTROL = 8
    """To the daemon: a control message."""
    RX_PPP = 9
    """To the daemon: PPP that is not IP of an open protocol, or link-local or multicast IP."""
    RX_NO_SESSION = 10
    """To the daemon: ids of no session."""
    RX_TO_DAEMON = 11
    """To the daemon: the session is sequenced, or otherwise not for the programs."""
    RX_FRAGMENT = 12
    """To the daemon: a fragment of an outer packet."""
    RX_UNUSUAL = 13
    """To the daemon: L2TP of another version, outer IP options, a pad of more than 1024 octets, or a burst: datagrams
    in one buffer, which the program cannot take apart.
    """
    RX_MALFORMED = 14
    """Dropped: no data message of RFC 2661 3.1, or no whole IP packet in it."""
    RX_WRONG_PEER = 15
    """Dropped: not from the address and port of the session's peer."""
    RX_SPOOFED = 16
    """Dropped: the inner source is not the subscriber's."""
    RX_UNHEARD = 17
    """Dropped: for the daemon, and no socket listens."""
    RX_REFUSED = 18
    """Dropped: the kernel would not change or send it."""
    TX_FORWARDED = 19
    """Encapsulated and sent to the next hop."""
    TX_TTL = 20
    """To the kernel: its TTL or hop limit ends here."""
    TX_OPTIONS = 21
    """To the kernel: it has IPv4 options, or an IPv6 hop-by-hop header."""
    TX_TOO_BIG = 22
    """To the kernel: larger than the session or the path to its peer takes."""
    TX_NEIGHBOUR = 23
    """To the kernel: the next hop's link address is not known."""
    TX_NO_ROUTE = 24
    """To the kernel: no unicast route to the peer."""
    TX_PORT = 25
    """To the kernel: XDP cannot send on the interface that it leaves by."""
    TX_TO_DAEMON = 26
    """To the kernel: the session is sequenced, or otherwise not for the programs."""
    TX_UNUSUAL = 27
    """To the kernel: a burst that no tunnel header can be put before, or a header that lies."""
    TX_REFUSED = 28
    """Dropped: the kernel would not change or send it."""
    SLOW_FORWARDED = 29
    """Routed to the TUN device by the kernel, encapsulated there and sent."""
    SLOW_NO_SESSION = 30
    """To the daemon: the address is no subscriber's."""
    SLOW_TOO_BIG = 31
    """To the daemon: larger than the session takes, or than the path to its peer."""
    SLOW_NO_ROUTE = 32
    """To the daemon: no unicast route to the peer."""
    SLOW_TO_DAEMON = 33
    """To the daemon: the session is sequenced, or otherwise not for the programs."""
    SLOW_UNUSUAL = 34
    """To the daemon: a burst that no tunnel header can be put before, or a header that lies."""
    SLOW_REFUSED = 35
    """Dropped: the kernel would not change or send it."""
    NOT_OURS = 36
    """Passed: of no subscriber and not for our L2TP, or no IP at all."""
    NOT_TO_US = 37
    """Passed: for another MAC, or on an interface that is not among the ports."""


VERDICTS: Final = {
    **dict.fromkeys(range(Reason.RX_FORWARDED, Reason.RX_KERNEL_PORT + 1), Verdict.RX_FORWARDED),
    Reason.RX_ECHO: Verdict.RX_ECHO,
    Reason.RX_MALFORMED: Verdict.RX_MALFORMED,
    Reason.RX_WRONG_PEER: Verdict.RX_WRONG_PEER,
    Reason.RX_SPOOFED: Verdict.RX_SPOOFED,
    Reason.RX_UNHEARD: Verdict.RX_UNHEARD,
    Reason.RX_REFUSED: Verdict.RX_REFUSED,
    Reason.TX_FORWARDED: Verdict.TX_FORWARDED,
    Reason.TX_REFUSED: Verdict.TX_REFUSED,
    Reason.SLOW_FORWARDED: Verdict.TX_FORWARDED,
    Reason.SLOW_REFUSED: Verdict.TX_REFUSED,
}
"""The verdicts that are final. A packet of another reason was passed on, and has its verdict there, if it is ours."""


class Layout(NamedTuple):
    """A structure of the header: its fields in network order and those in host order, as (name, struct code)."""

    name: str
    network: tuple[tuple[str, str], ...]
    host: tuple[tuple[str, str], ...]

    def codecs(self) -> tuple[struct.Struct, struct.Struct]:
        """The two halves."""
        network = "!" + "".join(code for _, code in self.network)
        return struct.Struct(network), struct.Struct("=" + "".join(code for _, code in self.host))


IDS = Layout("hf_ids", (("tunnel", "H"), ("session", "H")), ())
SESSION = Layout(
    "hf_session",
    (
        ("peer_ip", "4s"),
        ("local_ip", "4s"),
        ("peer_port", "H"),
        ("local_port", "H"),
        ("peer_tunnel", "H"),
        ("peer_session", "H"),
        ("address", "4s"),
        ("magic", "I"),
        ("prefix", "8s"),
    ),
    (("slot", "I"), ("mtu", "H"), ("prefix_length", "B"), ("flags", "B")),
)
SUBSCRIBER = Layout(
    "hf_subscriber",
    (
        ("local_ip", "4s"),
        ("peer_ip", "4s"),
        ("local_port", "H"),
        ("peer_port", "H"),
        ("peer_tunnel", "H"),
        ("peer_session", "H"),
        ("local_tunnel", "H"),
        ("local_session", "H"),
    ),
    (("slot", "I"), ("mtu", "H"), ("flags", "H")),
)
PREFIX = Layout("hf_prefix", (), (("length", "I"), ("address", "16s")))
COUNTERS = Layout(
    "hf_counters",
    (),
    (("rx_packets", "Q"), ("rx_bytes", "Q"), ("tx_packets", "Q"), ("tx_bytes", "Q")),
)
PORT = Layout("hf_port", (), (("ifindex", "I"), ("mac", "6s"), ("redirect", "H")))
CONFIG = Layout(
    "hf_config",
    (("port", "H"), ("unused", "2s")),
    (("tun_ifindex", "I"), ("generation", "I"), ("flow_mask", "I"), ("flow_life", "I")),
)
CAPTURE = Layout(
    "hf_capture",
    (("tunnel", "H"), ("session", "H")),
    (
        ("length", "I"),
        ("at_ns", "Q"),
        ("missed", "Q"),
        ("captured", "H"),
        ("to_peer", "H"),
        ("unused", "4s"),
        ("data", f"{SNAP}s"),
    ),
)
LAYOUTS: Final = (IDS, SESSION, SUBSCRIBER, PREFIX, COUNTERS, PORT, CONFIG, CAPTURE)

_inet4 = partial(socket.inet_pton, socket.AF_INET)
_ids = struct.Struct("!HH")
_session_network, _session_host = SESSION.codecs()
_subscriber_network, _subscriber_host = SUBSCRIBER.codecs()
_prefix = PREFIX.codecs()[1]
_port = PORT.codecs()[1]
_counters = COUNTERS.codecs()[1]
_config_network, _config_host = CONFIG.codecs()

SESSION_SIZE: Final = _session_network.size + _session_host.size
SUBSCRIBER_SIZE: Final = _subscriber_network.size + _subscriber_host.size
PREFIX_SIZE: Final = _prefix.size
COUNTERS_SIZE: Final = _counters.size
_generation, _GENERATION_AT = struct.Struct("I"), _config_network.size + 4  # native: written in one piece
CONFIG_SIZE: Final = _config_network.size + _config_host.size

_CLOCK_MONOTONIC_COARSE = 6
_LENGTHS = {str(length): length for length in range(1, 65)}
_HOST_BITS = [(1 << (128 - length)) - 1 for length in range(65)]
"""By length of a prefix."""


class Keyed(NamedTuple):
    """One entry as elements of the maps: key and value of `sessions`; the keys that lead to the value `subscriber`.

    `prefix` is "" if the session has no IPv6.
    """

    ids: bytes
    session: bytes
    address: bytes
    prefix: bytes
    subscriber: bytes


def ids_key(tunnel: int, session: int) -> bytes:
    """A key of `sessions`: our own ids."""
    return _ids.pack(tunnel, session)


def prefix_key(network: str) -> tuple[bytes, bytes, int]:
    """A key of `prefixes`, and the prefix and its length as a session has them. Raises ValueError."""
    text, _, digits = network.partition("/")
    length = _LENGTHS.get(digits)
    if length is None:
        raise ValueError(f"{network}: the length of a prefix is 1 to 64")
    try:
        packed = socket.inet_pton(socket.AF_INET6, text)
    except OSError as error:
        raise ValueError(f"{network}: {text} is no IPv6 address") from error
    if int.from_bytes(packed) & _HOST_BITS[length]:
        raise ValueError(f"{network}: bits are set behind the prefix")
    return _prefix.pack(length, packed), packed[:8], length


def elements(entry: Entry, slot: int, *, clamp_mss: bool = False, traced: bool = False) -> Keyed:
    """What the maps hold for `entry`, whose counters are in `slot`. Raises BadEntry.

    The entry's ids and MTU have been checked (`Flows.install` does).
    """
    try:
        address, peer, local = _inet4(entry.address), _inet4(entry.peer[0]), _inet4(entry.local[0])
        key, prefix, length = prefix_key(entry.prefix) if entry.prefix else (b"", b"", 0)
        shared = (
            entry.sequenced * _TO_DAEMON
            + clamp_mss * _CLAMP_MSS
            + entry.echo * _ANSWER_ECHO
            + entry.acfc * _ACFC
            + entry.pfc * _PFC
            + entry.with_length * _LENGTH
            + traced * _TRACE
        )
        ports = (entry.peer[1], entry.local[1])
        session = _session_network.pack(
            peer, local, *ports, entry.peer_tunnel, entry.peer_session, address, entry.magic, prefix
        ) + _session_host.pack(slot, entry.mtu, length, shared)
        subscriber = _subscriber_network.pack(
            local,
            peer,
            *ports[::-1],
            entry.peer_tunnel,
            entry.peer_session,
            entry.local_tunnel,
            entry.local_session,
        ) + _subscriber_host.pack(slot, entry.mtu, shared)
    except (OSError, ValueError, struct.error) as error:
        raise BadEntry(f"session {entry.key:#x}: {error}") from error
    return Keyed(ids_key(entry.local_tunnel, entry.local_session), session, address, key, subscriber)


def port(ifindex: int, mac: bytes, *, redirect: bool) -> tuple[int, bytes]:
    """The place of an interface in `ports`, and its value. Interfaces that share a place cannot both use XDP."""
    return ifindex % PORTS, _port.pack(ifindex, mac, redirect)


def config(
    *, udp_port: int, tun_ifindex: int = 0, generation: int = 0, flows: int = 0, flow_life_ms: int = 0
) -> bytes:
    """The value of `config`. `flows`: how many entries of rx_flows and tx_flows are used, a power of two, or 0 for none.

    Raises ValueError.
    """
    if flows & (flows - 1):
        raise ValueError(f"{flows} flows: that is no power of two")
    life = max(1, round(flow_life_ms / 1000 / jiffy())) if flows and flow_life_ms else 0
    return _config_network.pack(udp_port, b"") + _config_host.pack(
        tun_ifindex, generation, max(flows - 1, 0), life
    )


def begin_generation(config_: bytearray | mmap) -> None:
    """Have the programs forget the flows that they know, by a change in the octets of `config`; nothing else changes."""
    (generation,) = _generation.unpack_from(config_, _GENERATION_AT)
    _generation.pack_into(config_, _GENERATION_AT, generation + 1 & 0xFFFFFFFF)


def jiffy() -> float:
    """Seconds from one tick of the kernel's clock to the next: the unit of `flow_life`."""
    return time.clock_getres(_CLOCK_MONOTONIC_COARSE)


def counted(value: bytes | bytearray | memoryview, at: int, cpus: int) -> Counters:
    """The counters of an LNS session from the per-CPU values that begin at `at`: what came from the peer went up."""
    rows = [_counters.unpack_from(value, at + cpu * COUNTERS_SIZE) for cpu in range(cpus)]
    return Counters(*(sum(column) for column in zip(*rows, strict=True)))
