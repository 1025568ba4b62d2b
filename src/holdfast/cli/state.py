"""`holdfast state`: a look into the journal, beside a running node or without one."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from holdfast.cli.errors import FAILED, USAGE, fail
from holdfast.cli.options import AsJson, ConfigFile
from holdfast.cli.output import print_fields, print_json, print_table, utc
from holdfast.cli.target import read_config
from holdfast.daemon.config import ConfigError
from holdfast.state import inspect
from holdfast.state.errors import JournalError

Journal = Annotated[
    Path | None,
    typer.Option("--journal", metavar="FILE", help="The journal, instead of that of -c.", show_default=False),
]
Secrets = Annotated[bool, typer.Option("--secrets", help="Show secrets too.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Look into the journal: what a restart would bring back.", no_args_is_help=True)
    for command in (show, verify, export):
        group.command(command.__name__)(command)
    app.add_typer(group, name="state")


def show(
    config: ConfigFile = None, journal: Journal = None, secrets: Secrets = False, json: AsJson = False
) -> None:
    """What is recorded."""
    try:
        view = inspect.show(_journal(config, journal), secrets=secrets)
    except JournalError as e:
        fail(e)
    if json:
        print_json(inspect.as_data(view))
        return
    saved = view.saved
    print_fields(
        {
            "journal": view.path,
            "schema": view.schema,
            "owner": f"process {view.owner_pid}" if view.owner_pid else "no running node",
            "octets": view.file_octets + view.log_octets,
            "tunnels": len(saved.tunnels),
            "sessions": len(saved.sessions),
            "peers": len(saved.peers),
            "last alive": utc(saved.alive_utc_us),
            "quarantined": len(saved.quarantined),
        }
    )
    if saved.tunnels:
        print()
        print_table(
            (
                ("TUNNEL", lambda t: t["local_id"]),
                ("PEER TUNNEL", lambda t: t["peer_id"]),
                ("PEER", lambda t: t["peer_name"]),
                ("ADDRESS", lambda t: f"{t['peer_address']}:{t['peer_port']}"),
                ("ESTABLISHED", lambda t: utc(t["established_utc_us"])),
            ),
            msgspec.to_builtins(saved.tunnels),
        )
    if saved.sessions:
        print()
        print_table(
            (
                ("SESSION", lambda s: f"{s['tunnel_id']}/{s['local_id']}"),
                ("PEER SESSION", lambda s: s["peer_id"]),
                ("USER", lambda s: (s["aaa"] or {}).get("user", "") or s["subscriber"]),
                ("LOCAL IP", lambda s: (s["ppp"] or {}).get("local_ip", "")),
                ("PEER IP", lambda s: (s["ppp"] or {}).get("peer_ip", "")),
                ("ESTABLISHED", lambda s: utc(s["established_utc_us"])),
            ),
            msgspec.to_builtins(saved.sessions),
        )
    if saved.peers:
        print()
        print_table(
            (
                ("PEER", lambda p: p["name"]),
                ("HOST NAME", lambda p: p["host_name"]),
                ("RFC 4951", lambda p: "{successes} of {attempts}".format(**p["rfc4951"])),
                ("SILENT", lambda p: "{successes} of {attempts}".format(**p["silent"])),
                ("SEEN", lambda p: utc(p["seen_utc_us"])),
            ),
            msgspec.to_builtins(saved.peers),
        )


def verify(config: ConfigFile = None, journal: Journal = None, json: AsJson = False) -> None:
    """Check the file and every record; exit status 1 if anything is wrong."""
    path = _journal(config, journal)
    try:
        findings = inspect.verify(path)
    except JournalError as e:
        fail(e)
    if json:
        print_json({"journal": str(path), "findings": findings})
    else:
        for finding in findings:
            print(f"{finding.what}: {finding.text}")
        print(f"{path}: {f'{len(findings)} findings' if findings else 'all is well'}")
    if findings:
        raise typer.Exit(FAILED)


def export(config: ConfigFile = None, journal: Journal = None, secrets: Secrets = False) -> None:
    """Every record as a line of JSON."""
    try:
        for line in inspect.export(_journal(config, journal), secrets=secrets):
            sys.stdout.buffer.write(line + b"\n")
    except JournalError as e:
        fail(e)


def _journal(config: str | None, journal: Path | None) -> Path:
    if journal is not None:
        return journal
    try:
        return Path(read_config(config).paths.journal)
    except ConfigError as e:
        fail(e, USAGE)
