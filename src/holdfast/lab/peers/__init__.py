"""Other people's L2TP daemons, as peers for tests and drills: configured, started, told what to do, stopped."""

from holdfast.core.errors import LocalError


class PeerFailed(LocalError):
    """A peer's daemon ended, refused a command, or does not answer."""
