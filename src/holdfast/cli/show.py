"""`holdfast show`: what a node knows."""

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any

import typer

from holdfast.cli.client import Client, CommandRefused, NodeUnreachable
from holdfast.cli.errors import FAILED, NOT_RUNNING, USAGE, fail
from holdfast.cli.options import AsJson, ConfigFile, Socket, node_at
from holdfast.cli.output import (
    Column,
    Row,
    field,
    moment,
    print_fields,
    print_json,
    print_json_rows,
    print_table,
)
from holdfast.records import session_key

TUNNELS: Sequence[Column] = (
    ("TUNNEL", field("id")),
    ("PEER TUNNEL", field("peer_id")),
    ("PEER", field("peer_name")),
    ("ADDRESS", lambda row: f"{row['peer_address']}:{row['peer_port']}"),
    ("SIDE", field("side")),
    ("STATE", field("state")),
    ("SESSIONS", field("sessions")),
    ("FAILOVER", field("failover")),
    ("ESTABLISHED", moment("established_utc_us")),
)
SESSIONS: Sequence[Column] = (
    ("SESSION", lambda row: f"{row['tunnel_id']}/{row['id']}"),
    ("PEER SESSION", field("peer_id")),
    ("PEER", field("peer_name")),
    ("SIDE", field("side")),
    ("USER", lambda row: row["user"] or row["subscriber"]),
    ("ADDRESS", field("address")),
    ("STATE", field("state")),
    ("PPP", field("ppp_state")),
    ("ESTABLISHED", moment("established_utc_us")),
)
SUBSCRIBERS: Sequence[Column] = (
    ("SUBSCRIBER", field("name")),
    ("PEER", field("tunnel")),
    ("STATE", field("state")),
    ("SESSION", lambda row: "{}/{}".format(*divmod(row["session"], 1 << 32)) if row["session"] else ""),
    ("ADDRESS", field("address")),
    ("ATTEMPTS", field("attempts")),
    ("NEXT TRY", lambda row: f"{row['next_try_s']} s" if row["next_try_s"] else ""),
    ("LAST ERROR", field("last_error")),
)
PEERS: Sequence[Column] = (
    ("PEER", field("name")),
    ("HOST NAME", field("host_name")),
    ("VENDOR", field("vendor")),
    ("TUNNELS", field("tunnels")),
    ("OFFERS RFC 4951", lambda row: _offer(row["offered"])),
    ("METHOD", field("method")),
    ("RFC 4951", lambda row: _tally(row["rfc4951"])),
    ("SILENT", lambda row: _tally(row["silent"])),
    ("ITS OWN", field("answered")),
    ("LAST", lambda row: _last(row)["last"]),
    ("BACK IN ms", lambda row: _worst(_last(row), "send")),
    ("SETTLED IN ms", lambda row: _worst(_last(row), "receive")),
    ("KEPT s", lambda row: _whole_seconds(row["kept_ms"])),
    ("LOST s", lambda row: _whole_seconds(row["lost_ms"])),
    ("SEEN", moment("seen_utc_us")),
)
RECOVERIES: Sequence[Column] = (
    ("TUNNEL", field("tunnel_id")),
    ("PEER", field("peer_name")),
    ("ROLE", field("role")),
    ("METHOD", field("method")),
    ("STATE", field("state")),
    ("STARTED", moment("started_utc_us")),
    ("SEND SIDE ms", field("control_recovered_ms")),
    ("RECEIVE SIDE ms", field("receive_settled_ms")),
    ("SYNCHRONISED ms", field("synchronised_ms")),
    ("SESSIONS", field("sessions")),
    ("STALE", field("stale_cleared")),
    ("PROOF", field("proof")),
    ("PROVED", field("proved")),
    ("SILENT", field("silent_cleared")),
    ("REASON", field("reason")),
)


def _offer(offer: Row | None) -> str:
    if offer is None or not offer["control"]:
        return "no"
    return f"{offer['recovery_time_ms'] / 1000:g} s"


def _tally(method: Row) -> str:
    return f"{method['successes']} of {method['attempts']}" if method["attempts"] else ""


def _last(row: Row) -> Row:
    """What the ledger says of the method that was tried last."""
    methods: tuple[Row, Row] = row["rfc4951"], row["silent"]
    return max(methods, key=lambda method: int(method["last_utc_us"]))


def _worst(method: Row, side: str) -> str:
    """Last measured time, and the worst."""
    last, worst = method[f"{side}_last_ms"], method[f"{side}_worst_ms"]
    return "" if last is None else str(last) if last == worst else f"{last} (worst {worst})"


def _whole_seconds(ms: int | None) -> int | None:
    return None if ms is None else round(ms / 1000)


DATAPLANE = ("data_", "tun_drops")
"""How the names of counters of the data plane begin."""


class Part(Enum):
    """Counters that belong together."""

    DATAPLANE = "dataplane"


SessionId = Annotated[
    str,
    typer.Argument(metavar="ID", help="TUNNEL/SESSION (local ids), or a session key.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Show what a node knows.", no_args_is_help=True)
    for command in (node, tunnels, sessions, session, subscribers, peers, recoveries, counters):
        group.command(command.__name__)(command)
    app.add_typer(group, name="show")


def node(config: ConfigFile = None, socket: Socket = None, json: AsJson = False) -> None:
    """The node as a whole."""
    _show_fields(config, socket, json, "node")


def tunnels(config: ConfigFile = None, socket: Socket = None, json: AsJson = False) -> None:
    """Control connections."""
    _show_list(config, socket, json, "tunnels", TUNNELS)


def sessions(config: ConfigFile = None, socket: Socket = None, json: AsJson = False) -> None:
    """Sessions."""
    _show_list(config, socket, json, "sessions", SESSIONS)


def session(
    session_id: SessionId, config: ConfigFile = None, socket: Socket = None, json: AsJson = False
) -> None:
    """Everything known about one session."""
    _show_fields(config, socket, json, "sessions", str(parse_session(session_id)))


def subscribers(config: ConfigFile = None, socket: Socket = None, json: AsJson = False) -> None:
    """The PPP clients that the node runs."""
    _show_list(config, socket, json, "subscribers", SUBSCRIBERS)


def peers(config: ConfigFile = None, socket: Socket = None, json: AsJson = False) -> None:
    """Every peer that was met: what it offers, and how recoveries in front of it went."""
    _show_list(config, socket, json, "peers", PEERS)


def recoveries(config: ConfigFile = None, socket: Socket = None, json: AsJson = False) -> None:
    """Recoveries that run, and the last ones that ended."""
    _show_list(config, socket, json, "recoveries", RECOVERIES)


def counters(
    part: Annotated[
        Part | None, typer.Argument(help="Only these: what became of packets.", show_default=False)
    ] = None,
    config: ConfigFile = None,
    socket: Socket = None,
    json: AsJson = False,
) -> None:
    """Every counter of the node."""
    answer = call(node_at(config, socket), "GET", "counters")
    if part is Part.DATAPLANE:
        answer = {name: count for name, count in answer.items() if name.startswith(DATAPLANE)}
    if json:
        print_json(answer)
    else:
        print_fields(answer)


def parse_session(text: str) -> int:
    """The session key of TUNNEL/SESSION or of a key; ends the command if it is neither."""
    tunnel_id, slash, session_id = text.partition("/")
    if not (tunnel_id.isdecimal() and (session_id.isdecimal() or not slash)):
        fail(f"{text} is no session: write TUNNEL/SESSION, as `holdfast show sessions` does", USAGE)
    return session_key(int(tunnel_id), int(session_id)) if slash else int(tunnel_id)


def call(client: Client, method: str, *path: str, **query: str | int) -> Any:
    """One request; ends the command if it fails."""
    try:
        return client.call(method, *path, **query)
    except NodeUnreachable as e:
        fail(e, NOT_RUNNING)
    except CommandRefused as e:
        fail(e, FAILED)
    finally:
        client.close()


def _show_fields(config: str | None, socket: str | None, json: bool, *path: str) -> None:
    answer = call(node_at(config, socket), "GET", *path)
    if json:
        print_json(answer)
    else:
        print_fields(answer)


def _show_list(
    config: str | None, socket: str | None, json: bool, what: str, columns: Sequence[Column]
) -> None:
    client = node_at(config, socket)
    try:
        if json:
            print_json_rows(client.rows(what))
        else:
            print_table(columns, client.rows(what))
    except NodeUnreachable as e:
        fail(e, NOT_RUNNING)
    except CommandRefused as e:
        fail(e, FAILED)
    finally:
        client.close()
