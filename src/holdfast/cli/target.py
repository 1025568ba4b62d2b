"""Which node a command is about: its configuration file, and the control socket that it names."""

from pathlib import Path

from holdfast.daemon.config import load
from holdfast.daemon.config_keys import Config

DEFAULT_CONFIGS = ("holdfast.toml", "/etc/holdfast/holdfast.toml")
"""Where a configuration is looked for when none is named."""


def config_path(given: str | None) -> str:
    """The configuration file: the one that was named, else the first default that exists, else the first."""
    if given is not None:
        return given
    return next((path for path in DEFAULT_CONFIGS if Path(path).exists()), DEFAULT_CONFIGS[0])


def missing_configs(given: str | None) -> tuple[str, ...]:
    """Where a configuration was looked for, if there is none; () if there is one."""
    looked_for = DEFAULT_CONFIGS if given is None else (given,)
    return () if any(Path(path).exists() for path in looked_for) else looked_for


def read_config(given: str | None) -> Config:
    """The configuration. Raises ConfigError."""
    return load(config_path(given))


def socket_path(config: str | None, socket: str | None) -> str:
    """The control socket: the one that was named, else that of the configuration. Raises ConfigError."""
    return socket if socket is not None else read_config(config).paths.control_socket
