"""`holdfast doctor`: whether this machine has what the node needs, without a node."""

import typer

from holdfast.cli.errors import FAILED, USAGE, fail
from holdfast.cli.options import AsJson, ConfigFile
from holdfast.cli.output import print_json, print_table
from holdfast.cli.target import missing_configs, read_config
from holdfast.daemon.config import ConfigError


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command("doctor")(doctor)


def doctor(config: ConfigFile = None, json: AsJson = False) -> None:
    """Look at kernel, rights, programs, interfaces and sysctls; say which data plane there will be, and why.

    Without a configuration file it looks at the machine alone. Exit status 1 if something is missing that is insisted on.
    """
    from holdfast.daemon.doctor import examine, examine_machine

    missing = missing_configs(config)
    try:
        checks = examine_machine(missing) if missing else examine(read_config(config))
    except ConfigError as e:
        fail(e, USAGE)
    if json:
        print_json(checks)
    else:
        print_table(
            (
                ("CHECK", lambda row: row["name"]),
                ("STATE", lambda row: row["state"]),
                ("FOUND", lambda row: row["text"]),
                ("REMEDY", lambda row: row["remedy"]),
            ),
            [{f: getattr(check, f) for f in check.__struct_fields__} for check in checks],
        )
    if any(check.state == "error" for check in checks):
        raise typer.Exit(FAILED)
