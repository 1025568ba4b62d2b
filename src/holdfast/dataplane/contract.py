"""What every data plane does, whatever forwards underneath: entries in, verdicts and counters out.

A plane joins a *device* (where the kernel's IP packets come and go) with *peers* (where L2TP data messages
come and go). Each entry has a side (RFC 2661 section 2):

* LNS: device to session by destination address; session to device only from the subscriber's own address.
* LAC: device to session by source address; session to device only to the subscriber's own address.

Invariants: a packet gets exactly one verdict, and each verdict has its counter; a packet that is not
forwarded moves no session's counters; whatever is not plain IPv4 of an installed session goes to the control
plane or is dropped.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from holdfast.core.errors import LocalError
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.trace import Sink
from holdfast.records import Counters, Side

Address: TypeAlias = tuple[str, int]
"""IPv4 address and UDP port."""

Punt: TypeAlias = tuple[int, bytes, Address]
"""Something for the control plane: session key (or `CONTROL`), bytes, and who sent it.

The bytes are the whole datagram for `CONTROL`, else a PPP frame (address and control octets included if they
came). A key says only what the header claims: the session may not exist, and for one without an entry the
source is not yet verified.
"""

CONTROL = -1
"""The key of a punted control message."""


class Entry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How one session forwards. Replacing an entry keeps the session's counters.

    `address`: the subscriber's, a dotted quad. `mtu`: the largest IP packet for the session (the MRU the peer
    takes). `acfc`, `pfc`: the peer takes frames without address and control, with a one-octet protocol (RFC
    1661 6.5, 6.6). `with_length`, `sequenced`: data headers carry Length, or Ns and Nr (RFC 2661 3.1).

    What only a plane in the kernel needs: `local`, the address and port that the peer knows us by; `echo`: LCP is
    open, the plane may answer Echo-Requests with our `magic` (0 if none was agreed); `prefix`: the subscriber's IPv6
    network, "" for none.
    """

    key: int
    side: Side
    local_tunnel: int
    local_session: int
    peer_tunnel: int
    peer_session: int
    peer: Address
    address: str
    mtu: int = 1500
    acfc: bool = False
    pfc: bool = False
    with_length: bool = False
    sequenced: bool = False
    local: Address = ("", 0)
    echo: bool = False
    magic: int = 0
    prefix: str = ""


class Verdict(IntEnum):
    """What became of a packet. `RX_*` came from a peer, `TX_*` from the device."""

    RX_FORWARDED = 0
    """The inner packet went to the device."""
    RX_CONTROL = 1
    """A control message: to the control plane."""
    RX_PPP = 2
    """A PPP frame other than IPv4: to the control plane."""
    RX_MALFORMED = 3
    """Dropped: not a data message of RFC 2661 3.1, or no whole IPv4 packet in it."""
    RX_NO_SESSION = 4
    """Dropped: IPv4 for a session that has no entry."""
    RX_WRONG_PEER = 5
    """Dropped: not from the address and port of the session's peer."""
    RX_SPOOFED = 6
    """Dropped: the inner address is not the subscriber's."""
    RX_REFUSED = 7
    """Dropped: the device did not take it."""
    TX_FORWARDED = 8
    """The packet went to the session's peer, in one piece or in fragments."""
    TX_NOT_IPV4 = 9
    """Dropped: no whole IPv4 packet."""
    TX_NO_SESSION = 10
    """Dropped: no entry has that address."""
    TX_TOO_BIG = 11
    """Larger than the session takes, and not to be fragmented: answered with ICMP (RFC 1191), or dropped."""
    TX_REFUSED = 12
    """Dropped: the UDP socket did not take it."""
    RX_ECHO = 13
    """An LCP Echo-Request, answered by the plane itself."""
    RX_UNHEARD = 14
    """Dropped: for the control plane, whose socket is closed. The peer must not hear so by ICMP."""


class BadEntry(LocalError):
    """An entry that cannot forward: its addresses, ids or MTU make no sense."""


class UnknownSession(LocalError):
    """No entry has that key."""


class DeviceLost(LocalError):
    """The device went away under the plane: somebody deleted it. Its descriptor must no longer be watched."""


class Plan(NamedTuple):
    """What to change: entries to install, keys to remove. Empty means that want and have agree."""

    put: list[Entry]
    delete: list[int]

    def __bool__(self) -> bool:
        return bool(self.put or self.delete)


class DataPlane(Protocol):
    """One forwarding plane. Called from one thread only."""

    def install(self, entries: Iterable[Entry]) -> None:
        """Add entries, or replace those with the same key. The youngest entry owns an address that two claim.

        Raises BadEntry, with the entries before it installed.
        """

    def remove(self, keys: Iterable[int]) -> dict[int, Counters]:
        """Remove entries; returns the last counters of those that were there."""

    def resume(self, totals: Mapping[int, Counters]) -> None:
        """What recorded sessions had counted at least, before any is installed.

        Those that this plane has not counted before go on from there.
        """

    def begin(self) -> None:
        """Every recorded session has been installed: forward by that, and remove what a predecessor left besides."""

    def tend(self) -> None:
        """Now and then: look after interfaces that came or went."""

    def describe(self) -> str:
        """What forwards, and where: for people."""

    def reasons(self) -> Mapping[str, int]:
        """Packets by what became of them, in more detail than verdicts, as far as this plane knows it."""

    def forget(self, keys: Iterable[int]) -> None:
        """The records of these removed sessions are gone for good: what was kept for them may serve others."""

    def enumerate(self) -> Mapping[int, Entry]:
        """What is installed, by session key."""

    def differences(self, want: Mapping[int, Entry]) -> Plan:
        """How to get from what is installed to `want`, by reading back what is there."""

    def counters(self, key: int) -> Counters:
        """One session's traffic since its entry was first installed, and before (`resume`), in inner packets.

        Raises UnknownSession.
        """

    def all_counters(self) -> dict[int, Counters]:
        """The traffic of every installed session, by key."""

    def verdicts(self) -> Mapping[Verdict, int]:
        """How many packets had each verdict since the plane was made."""

    def receive(self, inbox: Inbox) -> Sequence[Punt]:
        """Forward what `inbox` holds; returns, in order of arrival, what the control plane has to see."""

    def fileno(self) -> int:
        """The descriptor to watch for reading, -1 if there is none."""

    def on_readable(self) -> None:
        """Forward what waits on the device: a bounded number of packets, so that the caller's loop turns.

        Raises DeviceLost.
        """

    def trace(self, key: int, sink: Sink | None) -> None:
        """Show a session's packets to `sink` from now on, forwarded or refused; None ends that, and so does `remove`.

        There need not be an entry yet. What the daemon sends by itself is not shown.
        """

    def traces_fileno(self) -> int:
        """The descriptor that is readable while packets wait for `show_traced`, -1 if none ever do."""

    def show_traced(self) -> None:
        """Give a bounded number of those to their sinks."""

    def traced_missed(self) -> int:
        """How many packets of traced sessions were not shown for want of room, since the plane was made."""

    def close(self) -> None:
        """Let go of the device, which stays and keeps its routes.

        Forwarding by this process ends, and entries are forgotten; a plane in the kernel goes on with them.
        """
