"""Looking at a journal: what `holdfast state show`, `verify` and `export` say.

Invariants: nothing is written, so this works beside a running node and on a damaged file; secrets are
blanked unless asked for. An older file is shown as it will be after its migration, which happens on a copy
in memory.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from holdfast.records import SCHEMA, TunnelRecord, session_key
from holdfast.state.database import connect_to_read, with_companions
from holdfast.state.errors import Fault, JournalDamaged, JournalError, journal_error
from holdfast.state.lock import owner
from holdfast.state.reader import read
from holdfast.state.saved import Kind, Quarantined, Saved
from holdfast.state.schema import migrate, version

HIDDEN: Final = "(hidden)"
"""What stands for a secret that is there."""

_to_json: Final = msgspec.json.Encoder().encode


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A journal at one moment. `owner_pid` is 0 if no node runs on it; `log_octets` are not yet in the file itself."""

    path: str
    schema: int
    owner_pid: int
    file_octets: int
    log_octets: int
    saved: Saved


class Finding(msgspec.Struct, frozen=True, gc=False):
    """Something that is not as it should be; `what` it concerns, such as `session 17/3`, and `text` for people."""

    what: str
    text: str


def show(path: Path, *, secrets: bool = False) -> View:
    """All that is in the journal at `path`.

    Raises JournalError (its kinds tell a missing, newer or damaged file apart).
    """
    file, log, _ = with_companions(path)
    if not file.exists():
        raise JournalError(path, Fault.MISSING)
    try:
        with closing(connect_to_read(path)) as connection:
            schema = version(connection, path)
            saved = _read(connection, path, schema)
    except sqlite3.Error as error:
        raise journal_error(path, error) from error
    return View(
        path=str(path),
        schema=SCHEMA if schema is None else schema,
        owner_pid=owner(path),
        file_octets=file.stat().st_size,
        log_octets=log.stat().st_size if log.exists() else 0,
        saved=saved if secrets else without_secrets(saved),
    )


def verify(path: Path) -> list[Finding]:
    """Everything wrong with the journal at `path`, in the file and in the records; empty if all is well.

    Raises JournalError only if there is no file, or one of a later version.
    """
    if not path.exists():
        raise JournalError(path, Fault.MISSING)
    findings = list(_loose_modes(path))
    try:
        with closing(connect_to_read(path)) as connection:
            schema = version(connection, path)
            for (verdict,) in connection.execute("PRAGMA integrity_check"):
                if verdict != "ok":
                    findings.append(Finding("file", verdict))
            findings += _record_findings(_read(connection, path, schema))
    except sqlite3.Error as error:
        findings.append(Finding("file", str(journal_error(path, error))))
    except JournalDamaged as error:
        findings.append(Finding("file", str(error)))
    return findings


def export(path: Path, *, secrets: bool = False) -> Iterator[bytes]:
    """The journal as lines of JSON: first the file's facts, then one record a line, with its kind.

    Raises what `show` raises, before the first line.
    """
    view = show(path, secrets=secrets)
    saved = view.saved
    yield _to_json(
        {"kind": "journal", "path": view.path, "schema": view.schema, "alive_utc_us": saved.alive_utc_us}
    )
    if saved.endpoint is not None:
        yield _line(Kind.ENDPOINT, saved.endpoint)
    for tunnel in saved.tunnels:
        yield _line(Kind.TUNNEL, tunnel)
    for session in saved.sessions:
        yield _line(Kind.SESSION, session)
    for peer in saved.peers:
        yield _line(Kind.PEER, peer)
    for record in saved.quarantined:
        yield _to_json({"kind": "quarantined", "record": record})


def as_data(view: View) -> dict[str, object]:
    """The same without what is not of the journal, and is no data."""
    saved = {name: getattr(view.saved, name) for name in view.saved.__struct_fields__ if name != "calls"}
    return {**{name: getattr(view, name) for name in view.__struct_fields__}, "saved": saved}


def without_secrets(saved: Saved) -> Saved:
    """The same records with secrets blanked, and without the octets of records that nobody could read."""
    return Saved(
        tunnels=[_without_secret(tunnel) for tunnel in saved.tunnels],
        sessions=saved.sessions,
        endpoint=saved.endpoint,
        quarantined=[_without_body(record) for record in saved.quarantined],
        peers=saved.peers,
        alive_utc_us=saved.alive_utc_us,
    )


def _without_secret(tunnel: TunnelRecord) -> TunnelRecord:
    return msgspec.structs.replace(tunnel, secret=HIDDEN) if tunnel.secret else tunnel


def _without_body(record: Quarantined) -> Quarantined:
    return msgspec.structs.replace(record, body=b"")


def _line(kind: Kind, record: msgspec.Struct) -> bytes:
    return _to_json({"kind": kind.value, "record": record})


def _read(connection: sqlite3.Connection, path: Path, schema: int | None) -> Saved:
    if schema is None:
        return Saved()
    if schema == SCHEMA:
        return read(connection).saved
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        connection.backup(copy)
        migrate(copy, path, schema)
        return read(copy).saved


def _loose_modes(path: Path) -> Iterator[Finding]:
    for file in with_companions(path):
        if file.exists() and (mode := file.stat().st_mode & 0o077):
            yield Finding(file.name, f"others have access (mode has {mode:03o}); should be 600")


def _record_findings(saved: Saved) -> Iterator[Finding]:
    for record in saved.quarantined:
        yield Finding(_name(record), f"in quarantine: {record.reason}")
    holders: dict[str, str] = {}
    pairs: dict[int, str] = {}
    for session in saved.sessions:
        name = f"session {session.tunnel_id}/{session.local_id}"
        address = session.ppp.peer_ip if session.ppp else ""
        if address and (holder := holders.setdefault(f"{session.side} {address}", name)) != name:
            yield Finding(name, f"has the address {address}, as has {holder}")
        peer_key = session_key(session.tunnel_id, session.peer_id)
        if (other := pairs.setdefault(peer_key, name)) != name:
            yield Finding(name, f"has the peer's session id {session.peer_id}, as has {other}")


def _name(record: Quarantined) -> str:
    if record.kind is Kind.SESSION:
        return f"session {record.tunnel_id}/{record.session_id}"
    return f"tunnel {record.tunnel_id}" if record.kind is Kind.TUNNEL else record.kind.value
