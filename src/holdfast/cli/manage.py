"""`holdfast clear`, `subscriber` and `stop`: what changes a running node."""

import time
from enum import Enum
from select import select
from typing import Annotated

import typer

from holdfast.cli.client import Client, CommandRefused, NodeUnreachable
from holdfast.cli.errors import NOT_RUNNING, fail
from holdfast.cli.options import ConfigFile, Socket, node_at
from holdfast.cli.show import SessionId, call, parse_session

STOP_PATIENCE_S = 60.0
"""A teardown waits for its peers to acknowledge; after that long something is wrong."""


class Direction(Enum):
    """What becomes of a subscriber."""

    UP = "up"
    DOWN = "down"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    clear = typer.Typer(help="End a session or a tunnel.", no_args_is_help=True)
    clear.command("session")(clear_session)
    clear.command("tunnel")(clear_tunnel)
    app.add_typer(clear, name="clear")
    app.command("subscriber")(subscriber)
    app.command("stop")(stop)


def clear_session(session_id: SessionId, config: ConfigFile = None, socket: Socket = None) -> None:
    """End one session (CDN to the peer)."""
    call(node_at(config, socket), "DELETE", "sessions", str(parse_session(session_id)))


def clear_tunnel(
    tunnel_id: Annotated[int, typer.Argument(metavar="ID", help="Local tunnel id.", show_default=False)],
    config: ConfigFile = None,
    socket: Socket = None,
) -> None:
    """End a tunnel and its sessions (StopCCN to the peer)."""
    call(node_at(config, socket), "DELETE", "tunnels", str(tunnel_id))


def subscriber(
    direction: Annotated[Direction, typer.Argument(help="Connect or disconnect.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in the configuration.", show_default=False)],
    config: ConfigFile = None,
    socket: Socket = None,
) -> None:
    """Connect or disconnect a subscriber that the node runs."""
    call(node_at(config, socket), "POST", "subscribers", name, direction.value)


def stop(
    teardown: Annotated[
        bool,
        typer.Option("--teardown", help="End every session and tunnel first, and remove the TUN device."),
    ] = False,
    config: ConfigFile = None,
    socket: Socket = None,
) -> None:
    """Stop the node. Without --teardown its sessions stay recorded and come back at the next start."""
    client = node_at(config, socket)
    try:
        process = client.process()
    except NodeUnreachable as e:
        fail(e, NOT_RUNNING)
    call(client, "POST", "stop", teardown=str(teardown).lower())
    if not (_silent(client) if process is None else _ended(process)):
        fail(f"the node still runs after {STOP_PATIENCE_S:.0f} s: see its log")


def _ended(process: int) -> bool:
    """Wait until the process has ended: only then the TUN device is gone, and the journal is closed."""
    return bool(select([process], [], [], STOP_PATIENCE_S)[0])


def _silent(client: Client) -> bool:
    """Wait until nobody answers any more."""
    give_up = time.monotonic() + STOP_PATIENCE_S
    while time.monotonic() < give_up:
        try:
            client.call("GET", "node")
        except NodeUnreachable:
            return True
        except CommandRefused:
            return False
        time.sleep(0.02)
    return False
