"""How a command fails: one line on standard error that says what to do next, and an exit status."""

import sys
from typing import NoReturn

FAILED = 1
"""The node refused, or what was asked for is not there."""
USAGE = 2
"""The command line or the configuration is wrong."""
NOT_RUNNING = 3
"""No node answers."""


def fail(error: Exception | str, status: int = FAILED) -> NoReturn:
    """End the command."""
    print(f"holdfast: {error}", file=sys.stderr)
    sys.exit(status)
