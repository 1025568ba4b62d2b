"""`holdfast run`: nothing is imported here that a node does not need."""

import sys

from holdfast.cli.errors import USAGE, fail
from holdfast.cli.target import config_path
from holdfast.core.errors import LocalError
from holdfast.daemon.config import ConfigError, load
from holdfast.daemon.run import run as run_node


def run(file: str | None) -> int:
    """Run the node of a configuration file in the foreground; returns the exit status."""
    try:
        config = load(config_path(file))
    except ConfigError as e:
        fail(e, USAGE)
    try:
        return run_node(config)
    except LocalError as e:
        fail(e)
    finally:
        sys.stderr.flush()
