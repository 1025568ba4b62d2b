"""Options that several commands share."""

from typing import Annotated, TypeAlias

import typer

from holdfast.cli.client import Client
from holdfast.cli.errors import USAGE, fail
from holdfast.cli.target import socket_path
from holdfast.daemon.config import ConfigError

ConfigFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="Configuration of the node: holdfast.toml here, else in /etc/holdfast.",
        show_default=False,
    ),
]
Socket: TypeAlias = Annotated[
    str | None,
    typer.Option("--socket", metavar="PATH", help="Control socket of the node.", show_default=False),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def node_at(config: str | None, socket: str | None) -> Client:
    """The node that the options name; ends the command if the configuration cannot be read."""
    try:
        return Client(socket_path(config, socket))
    except ConfigError as e:
        fail(e, USAGE)
