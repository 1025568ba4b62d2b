"""Reading a whole journal. Each record stands on its own: an invalid one never stops the others."""

import sqlite3

import msgspec

from holdfast.records import EndpointRecord, SessionRecord, TunnelRecord
from holdfast.records.ledger import PeerRecord
from holdfast.state.codec import Invalid, decode_endpoint, decode_peer, decode_session, decode_tunnel
from holdfast.state.saved import Kind, Quarantined, Saved
from holdfast.state.slots import Slots


class Image(msgspec.Struct, frozen=True):
    """A journal's content: what can be used, what was set aside, and which rows the sessions are in.

    `rejected`: the records found invalid by this reading, still in their tables; `saved` lists them too.
    """

    saved: Saved
    rejected: list[Quarantined]
    slots: Slots


def read(connection: sqlite3.Connection) -> Image:
    """Everything in an open journal of the present schema, as one snapshot. Raises sqlite3.Error."""
    connection.execute("BEGIN")
    try:
        return _read(connection)
    finally:
        connection.execute("ROLLBACK")


def _read(connection: sqlite3.Connection) -> Image:
    rejected: list[Quarantined] = []
    slots = Slots()
    tunnels = _tunnels(connection, rejected)
    saved = Saved(
        tunnels=list(tunnels.values()),
        sessions=_sessions(connection, tunnels, slots, rejected),
        endpoint=_endpoint(connection, rejected),
        peers=_peers(connection, rejected),
        alive_utc_us=_alive_utc_us(connection),
        quarantined=[*_quarantined(connection), *rejected],
    )
    return Image(saved, rejected, slots)


def _tunnels(connection: sqlite3.Connection, rejected: list[Quarantined]) -> dict[int, TunnelRecord]:
    tunnels: dict[int, TunnelRecord] = {}
    for tunnel_id, acked, nr, body in connection.execute(
        "SELECT tunnel_id, acked, nr, body FROM tunnel ORDER BY tunnel_id"
    ):
        try:
            tunnels[tunnel_id] = decode_tunnel(tunnel_id, acked, nr, body)
        except Invalid as error:
            rejected.append(
                Quarantined(kind=Kind.TUNNEL, reason=str(error), body=_raw(body), tunnel_id=tunnel_id)
            )
    return tunnels


def _sessions(
    connection: sqlite3.Connection,
    tunnels: dict[int, TunnelRecord],
    slots: Slots,
    rejected: list[Quarantined],
) -> list[SessionRecord]:
    sessions: list[SessionRecord] = []
    for slot, tunnel_id, session_id, body in connection.execute(
        "SELECT slot, tunnel_id, session_id, body FROM session ORDER BY slot"
    ):
        try:
            if slots.find(tunnel_id, session_id):
                raise Invalid(f"session {tunnel_id}/{session_id} has another record")
            sessions.append(decode_session(tunnels.get(tunnel_id), tunnel_id, session_id, body))
            slots.put(tunnel_id, session_id, slot)
        except Invalid as error:
            slots.reserve(slot)
            rejected.append(
                Quarantined(
                    kind=Kind.SESSION,
                    reason=str(error),
                    body=_raw(body),
                    tunnel_id=_id(tunnel_id),
                    session_id=_id(session_id),
                    slot=slot,
                )
            )
    return sessions


def _endpoint(connection: sqlite3.Connection, rejected: list[Quarantined]) -> EndpointRecord | None:
    for (body,) in connection.execute("SELECT body FROM endpoint"):
        try:
            return decode_endpoint(body)
        except Invalid as error:
            rejected.append(Quarantined(kind=Kind.ENDPOINT, reason=str(error), body=_raw(body)))
    return None


def _peers(connection: sqlite3.Connection, rejected: list[Quarantined]) -> list[PeerRecord]:
    peers: list[PeerRecord] = []
    for row, name, host_name, body in connection.execute("SELECT rowid, name, host_name, body FROM peer"):
        try:
            peers.append(decode_peer(name, host_name, body))
        except Invalid as error:
            rejected.append(Quarantined(kind=Kind.PEER, reason=str(error), body=_raw(body), slot=row))
    return peers


def _alive_utc_us(connection: sqlite3.Connection) -> int:
    for (utc_us,) in connection.execute("SELECT utc_us FROM alive"):
        return _id(utc_us)
    return 0


def _quarantined(connection: sqlite3.Connection) -> list[Quarantined]:
    return [
        Quarantined(
            kind=Kind(kind), reason=reason, body=_raw(body), tunnel_id=tunnel_id, session_id=session_id
        )
        for kind, tunnel_id, session_id, reason, body in connection.execute(
            "SELECT kind, tunnel_id, session_id, reason, body FROM quarantine ORDER BY rowid"
        )
    ]


def _raw(body: object) -> bytes:
    """A column is a blob only if nobody tampered with it."""
    return body if isinstance(body, bytes) else repr(body).encode()


def _id(value: object) -> int:
    return value if isinstance(value, int) else 0
