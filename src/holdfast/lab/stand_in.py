"""Speaks for a node that is stopped: exchanges thousands of HELLOs in one of its tunnels, and records the new numbers.

So a tunnel can be given any age, past the wrap of Ns if need be, which its node would take days to reach. Everything
it goes by is in the journal, and nothing but the tunnel's Hint is written.
"""

import socket
import time
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


class PeerDeaf(LocalError):
    """The peer no longer acknowledges."""


def exchange_hellos(journal: Path, namespace: str, peer_name: str, hellos: int) -> TunnelRecord:
    """Send so many HELLOs to a peer in its tunnel, and have all of them acknowledged; returns the record found.

    Raises JournalLocked while the node runs, PeerDeaf, and LocalError if there is no such tunnel.
    """
    owned = Journal.open(journal)
    try:
        tunnel = next((t for t in owned.load().tunnels if t.peer_name == peer_name), None)
        if tunnel is None:
            raise LocalError(f"{journal} has no tunnel with {peer_name}")
        channel = _exchange(tunnel, namespace, hellos)
        owned.submit([Hint(tunnel.local_id, channel.acked, channel.nr)])
    finally:
        owned.close()
    return tunnel


def _exchange(tunnel: TunnelRecord, namespace: str, hellos: int) -> ControlChannel:
    settings = ChannelSettings()
    channel = ControlChannel(settings, tunnel.peer_id)
    channel.set_peer_window(tunnel.peer_window)
    channel.reset(tunnel.acked, tunnel.nr, _now())
    hello = encode(Msg.HELLO)
    with entered(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((tunnel.local_address, tunnel.local_port))
        sock.connect((tunnel.peer_address, tunnel.peer_port))
        sock.settimeout(settings.initial / SECOND)
        for _ in range(hellos):
            channel.send(0, hello, _now())
        while not channel.idle:
            for datagram in channel.out:
                sock.send(datagram)
            channel.out.clear()
            _listen(channel, sock)
            if channel.exhausted:
                raise PeerDeaf(f"{tunnel.peer_name} acknowledged {channel.acked} and no more")
        for datagram in channel.out:
            sock.send(datagram)
    return channel


def _listen(channel: ControlChannel, sock: socket.socket) -> None:
    """Take in the next datagram, or repeat what was not acknowledged in time."""
    try:
        datagram = sock.recv(0xFFFF)
    except TimeoutError:
        channel.timed_out(_now())
        return
    if is_control(datagram):
        header = parse_control(datagram)
        channel.receive(header.session_id, header.ns, header.nr, datagram[12 : header.end], _now())
        channel.finish(_now())


def _now() -> int:
    return time.monotonic_ns() // 1000
