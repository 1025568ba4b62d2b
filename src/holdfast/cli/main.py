"""Entry of the `holdfast` command: what must start fast, or parses its own arguments, goes its own way."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

RUN_OPTIONS = ("-c", "--config")
INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell has it."""

LabCommand = Callable[[list[str]], int]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments:
        case ["run"]:
            from holdfast.cli.run import run

            sys.exit(run(None))
        case ["run", option, file] if option in RUN_OPTIONS:
            from holdfast.cli.run import run

            sys.exit(run(file))
        case ["drill", "restart", *rest]:
            sys.exit(_lab(_restart, rest))
        case ["drill", "upgrade", *rest]:
            sys.exit(_lab(_upgrade, rest))
        case ["blast", *rest]:
            sys.exit(_lab(_blast, rest))
        case _:
            from holdfast.cli.app import app

            app(arguments, prog_name="holdfast")
            sys.exit(0)


def _lab(command: Callable[[], LabCommand], arguments: list[str]) -> int:
    """A command of the lab; it cleans up after itself when the user has had enough of it."""
    try:
        return command()(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _restart() -> LabCommand:
    from holdfast.lab.drill import main as drill

    return drill


def _upgrade() -> LabCommand:
    from holdfast.lab.drill import main as drill

    return partial(drill, drill="upgrade")


def _blast() -> LabCommand:
    from holdfast.lab.blast.main import main as blast

    return blast
