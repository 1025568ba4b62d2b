"""`holdfast why`: the reasons of a node, in plain words."""

from typing import Annotated

import typer

from holdfast.cli.options import AsJson, ConfigFile, Socket, node_at
from holdfast.cli.output import print_json, print_lines
from holdfast.cli.show import call

TunnelId = Annotated[int, typer.Argument(metavar="ID", help="Local tunnel id.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    group = typer.Typer(help="Say why a node does what it does.", no_args_is_help=True)
    group.command("tunnel")(tunnel)
    app.add_typer(group, name="why")


def tunnel(
    tunnel_id: TunnelId, config: ConfigFile = None, socket: Socket = None, json: AsJson = False
) -> None:
    """How a tunnel would be recovered and why, and what its last recovery did, step by step."""
    answer = call(node_at(config, socket), "GET", "tunnels", str(tunnel_id), "why")
    if json:
        print_json(answer)
    else:
        print_lines(answer["text"])
