"""Records as bytes (MessagePack) and back. Bytes from disk are input: they are checked, never trusted."""

import socket
from typing import Final

import msgspec

from holdfast.records import Counters, EndpointRecord, SessionRecord, TunnelRecord
from holdfast.records.ledger import PeerRecord

encode: Final = msgspec.msgpack.Encoder().encode
_decode_tunnel: Final = msgspec.msgpack.Decoder(TunnelRecord).decode
_decode_session: Final = msgspec.msgpack.Decoder(SessionRecord).decode
_decode_endpoint: Final = msgspec.msgpack.Decoder(EndpointRecord).decode
_decode_peer: Final = msgspec.msgpack.Decoder(PeerRecord).decode

_HIGHEST_ID: Final = {2: 0xFFFF, 3: 0xFFFFFFFF}
"""By protocol version (RFC 2661 3.1, RFC 3931 3.1)."""
_LONGEST_ID: Final = 10
_TOO_MANY: Final = 2**63


class Invalid(Exception):
    """A record that must not be used; the text says why."""


def decode_tunnel(tunnel_id: int, acked: int, nr: int, body: bytes) -> TunnelRecord:
    """The tunnel stored under `tunnel_id`, with the sequence numbers kept beside it. Raises Invalid."""
    try:
        record = _decode_tunnel(body)
    except (msgspec.DecodeError, TypeError) as error:
        raise Invalid(str(error)) from error
    if record.local_id != tunnel_id:
        raise Invalid(f"stored as tunnel {tunnel_id}, but says {record.local_id}")
    highest = _HIGHEST_ID.get(record.protocol_version)
    if highest is None:
        raise Invalid(f"protocol version {record.protocol_version}")
    if not (0 < record.local_id <= highest and 0 < record.peer_id <= highest):
        raise Invalid(f"tunnel ids {record.local_id} and {record.peer_id}")
    if not (0 < record.local_port <= 0xFFFF and 0 < record.peer_port <= 0xFFFF):
        raise Invalid(f"ports {record.local_port} and {record.peer_port}")
    if not 0 < record.peer_window <= 0xFFFF:
        raise Invalid(f"window {record.peer_window}")
    if not (_is_address(record.local_address) and _is_address(record.peer_address)):
        raise Invalid(f"addresses {record.local_address!r} and {record.peer_address!r}")
    if not (isinstance(acked, int) and isinstance(nr, int) and 0 <= acked <= 0xFFFF and 0 <= nr <= 0xFFFF):
        raise Invalid(f"sequence numbers {acked!r} and {nr!r}")
    if record.acked != acked or record.nr != nr:
        return msgspec.structs.replace(record, acked=acked, nr=nr)
    return record


def decode_session(
    tunnel: TunnelRecord | None, tunnel_id: int, session_id: int, body: bytes
) -> SessionRecord:
    """The session stored under both ids; `tunnel` is the record that it belongs to. Raises Invalid."""
    try:
        record = _decode_session(body)
    except (msgspec.DecodeError, TypeError) as error:
        raise Invalid(str(error)) from error
    if record.local_id != session_id or record.tunnel_id != tunnel_id:
        raise Invalid(
            f"stored as session {tunnel_id}/{session_id}, but says {record.tunnel_id}/{record.local_id}"
        )
    if tunnel is None:
        raise Invalid(f"tunnel {tunnel_id} has no valid record")
    highest = _HIGHEST_ID[tunnel.protocol_version]
    if not (0 < session_id <= highest and 0 < record.peer_id <= highest):
        raise Invalid(f"session ids {session_id} and {record.peer_id}")
    ppp = record.ppp
    if ppp is not None and not (
        (not ppp.peer_ip or _is_address(ppp.peer_ip)) and (not ppp.local_ip or _is_address(ppp.local_ip))
    ):
        raise Invalid(f"addresses {ppp.local_ip!r} and {ppp.peer_ip!r}")
    base = record.counter_base
    if not 0 <= base.up_packets | base.up_bytes | base.down_packets | base.down_bytes < _TOO_MANY:
        return msgspec.structs.replace(
            record, counter_base=Counters()
        )  # a session is worth more than its totals
    return record


def decode_endpoint(body: bytes) -> EndpointRecord:
    """The endpoint's record. Raises Invalid."""
    try:
        record = _decode_endpoint(body)
    except (msgspec.DecodeError, TypeError) as error:
        raise Invalid(str(error)) from error
    for text in record.recent_session_ids:
        if not (text.isdecimal() and len(text) <= _LONGEST_ID):
            raise Invalid(f"recent sessions of tunnel {text[:100]!r}")
    return record


def decode_peer(name: str, host_name: str, body: bytes) -> PeerRecord:
    """The ledger's entry stored under that key. Raises Invalid."""
    try:
        record = _decode_peer(body)
    except (msgspec.DecodeError, TypeError) as error:
        raise Invalid(str(error)) from error
    if record.key != (name, host_name):
        raise Invalid(f"stored as peer {name!r} {host_name!r}, but says {record.key}")
    return record


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True
