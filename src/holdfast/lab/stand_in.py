"""Speaks for a node that is stopped: exchanges thousands of HELLOs in one of its tunnels, and records the new numbers.

So a tunnel can be given any age, past the wrap of Ns if need be, which its node would take days to reach. Everything
it goes by is in the journal, and nothing but Hints is written.
"""

import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from holdfast.core.clock import SECOND
from holdfast.core.errors import LocalError
from holdfast.lab.netns import entered
from holdfast.protocol.channel import ControlChannel
from holdfast.protocol.settings import ChannelSettings
from holdfast.records import TunnelRecord
from holdfast.records.writes import Hint
from holdfast.state.journal import Journal
from holdfast.wire.codes import Msg
from holdfast.wire.header import is_control, parse_control
from holdfast.wire.messages import encode

WINDOW = 64
"""More at once than peers ask for: what arrives in order is taken in order, and switching processes costs the time."""

_SETTINGS = ChannelSettings()


class PeerDeaf(LocalError):
    """The peer no longer acknowledges."""


def exchange_hellos(journal: Path, namespace: str, peer_name: str, hellos: int) -> TunnelRecord:
    """Send so many HELLOs to a peer in its tunnel, and have all acknowledged; returns the record that was found.

    What the node's other peers say meanwhile is acknowledged too. Raises JournalLocked while the node runs, PeerDeaf,
    and LocalError if there is no such tunnel.
    """
    owned = Journal.open(journal)
    try:
        tunnels = owned.load().tunnels
        tunnel = next((t for t in tunnels if t.peer_name == peer_name), None)
        if tunnel is None:
            raise LocalError(f"{journal} has no tunnel with {peer_name}")
        channels = {t.local_id: _channel(t) for t in tunnels}
        with entered(namespace):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.bind((tunnel.local_address, tunnel.local_port))
            _Conversation(sock, tunnels, channels).send_hellos(tunnel, hellos)
        owned.submit([Hint(number, channel.acked, channel.nr) for number, channel in channels.items()])
    finally:
        owned.close()
    return tunnel


def _channel(tunnel: TunnelRecord) -> ControlChannel:
    channel = ControlChannel(_SETTINGS, tunnel.peer_id)
    channel.set_peer_window(WINDOW)
    channel.reset(tunnel.acked, tunnel.nr, _now())
    return channel


class _Conversation:
    """What one socket says and hears on all tunnels of a node."""

    def __init__(
        self,
        sock: socket.socket,
        tunnels: Iterable[TunnelRecord],
        channels: Mapping[int, ControlChannel],
    ) -> None:
        self._sock = sock
        self._peers = {t.local_id: (t.peer_address, t.peer_port) for t in tunnels}
        self._channels = channels

    def send_hellos(self, tunnel: TunnelRecord, count: int) -> None:
        """Until all are acknowledged. Raises PeerDeaf."""
        channel, hello = self._channels[tunnel.local_id], encode(Msg.HELLO)
        self._sock.settimeout(_SETTINGS.initial / SECOND)
        for _ in range(count):
            channel.send(0, hello, _now())
        self._flush(tunnel.local_id)
        while not channel.idle:
            try:
                self._hear(self._sock.recv(0xFFFF))
            except TimeoutError:
                channel.timed_out(_now())
                self._flush(tunnel.local_id)
            if channel.exhausted:
                raise PeerDeaf(f"{tunnel.peer_name} acknowledged {channel.acked} and no more")

    def _hear(self, datagram: bytes) -> None:
        if not is_control(datagram):
            return
        header = parse_control(datagram)
        channel = self._channels.get(header.tunnel_id)
        if channel is not None:
            channel.receive(header.session_id, header.ns, header.nr, datagram[12 : header.end], _now())
            channel.finish(_now())
            self._flush(header.tunnel_id)

    def _flush(self, tunnel_id: int) -> None:
        out = self._channels[tunnel_id].out
        for datagram in out:
            self._sock.sendto(datagram, self._peers[tunnel_id])
        out.clear()


def _now() -> int:
    return time.monotonic_ns() // 1000
