"""`holdfast init`, `check` and `run`, and the commands of the lab."""

import os
import secrets
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.errors import FAILED, USAGE, fail
from holdfast.cli.options import AsJson, ConfigFile
from holdfast.cli.output import print_json
from holdfast.cli.target import DEFAULT_CONFIGS, config_path
from holdfast.daemon.config import ConfigError, load, template
from holdfast.daemon.config_advice import check

PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


class Role(Enum):
    """What `init` writes a configuration for."""

    LNS = "lns"
    LAC = "lac"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("init")(init)
    app.command("check")(check_file)
    app.command("run")(run)
    app.command("drill", context_settings=PASS_ON)(drill)
    app.command("blast", context_settings=PASS_ON)(blast)


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path(
        DEFAULT_CONFIGS[0]
    ),
    role: Annotated[Role, typer.Option(help="What the node shall be.")] = Role.LNS,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a commented configuration with fresh secrets."""
    text = template(
        "lns" if role is Role.LNS else "lac",
        tunnel_secret=secrets.token_urlsafe(24),
        user_secret=secrets.token_urlsafe(12),
    )
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(file, flags, 0o600), "w") as out:
            out.write(text)
    except FileExistsError:
        fail(f"{file} exists: name another file, or add --force", FAILED)
    except OSError as e:
        fail(f"{file} cannot be written: {e.strerror}", FAILED)
    print(f"{file} written: set the addresses in it, then `holdfast check -c {file}`")


def check_file(config: ConfigFile = None, json: AsJson = False) -> None:
    """Validate a configuration; warn of weak choices."""
    path = config_path(config)
    try:
        advice = check(load(path), path)
    except ConfigError as e:
        fail(e, USAGE)
    if json:
        print_json({"file": path, "warnings": advice})
        return
    for weak in advice:
        print(f"warning: {weak}")
    print(f"{path} is valid" + (f", with {len(advice)} warning{'s' * (len(advice) > 1)}" if advice else ""))


def run(config: ConfigFile = None) -> None:
    """Run a node in the foreground; stop it with `holdfast stop` or SIGTERM."""
    from holdfast.cli.run import run as run_node

    raise typer.Exit(run_node(config))


def drill(context: typer.Context) -> None:
    """Kill and restart, or upgrade, a node under load; measure what its subscribers notice."""
    known = "`holdfast drill restart --help` and `holdfast drill upgrade --help`"
    fail(f"there is no drill {' '.join(context.args)}: see {known}", USAGE)


def blast(context: typer.Context) -> None:
    """Load any LNS with sessions and traffic: `holdfast blast --help`."""
    from holdfast.cli.main import main

    main(["blast", *context.args])
