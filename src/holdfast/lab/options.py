"""The command line of `holdfast drill restart`."""

import argparse
from collections.abc import Sequence
from typing import Literal

import msgspec

Role = Literal["lns", "lac"]

_PPS_PER_SESSION = 20
_PPS_MOST = 20_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line."""

    sessions: int = 100
    tunnels: int = 4
    traffic_pps: int = 0
    kill: Literal["lns", "lac", "both"] = "lns"
    stagger_ms: float = 0.0
    repeat: int = 1
    json: str = ""
    pcap: str = ""
    keep: str = ""

    @property
    def pps(self) -> int:
        """Packets per second in each direction."""
        return self.traffic_pps or min(_PPS_PER_SESSION * self.sessions, _PPS_MOST)

    @property
    def waves(self) -> tuple[tuple[Role, ...], ...]:
        """Who is killed, first to last; those of one wave at once."""
        if self.kill != "both":
            return ((self.kill,),)
        return (("lns",), ("lac",)) if self.stagger_ms else (("lns", "lac"),)

    @property
    def patience_s(self) -> float:
        """How long set-up or recovery may take before the drill gives up."""
        return 30 + self.sessions / 50


def parse(argv: Sequence[str]) -> Options:
    """Options from the command line; exits with status 2 and a message if they are wrong."""
    known = Options()
    parser = argparse.ArgumentParser(
        prog="holdfast drill restart", description="Kill a node, restart it, measure."
    )
    add = parser.add_argument
    add("--sessions", type=_positive, default=known.sessions, help="subscribers with traffic (%(default)s)")
    add("--tunnels", type=_positive, default=known.tunnels, help="tunnels that carry them (%(default)s)")
    add("--traffic-pps", type=_positive, default=0, help="packets/s each way, all sessions (20 per session)")
    add("--kill", choices=("lns", "lac", "both"), default=known.kill, help="who is killed (%(default)s)")
    add(
        "--stagger",
        type=float,
        default=0.0,
        metavar="MS",
        help="with both: kill the second MS after the restart",
    )
    add("--repeat", type=_positive, default=known.repeat, metavar="N", help="kill N times in a row")
    add("--json", default="", metavar="FILE", help="write the report as JSON")
    add("--pcap", default="", metavar="FILE", help="capture L2TP between LAC and LNS")
    add("--keep", default="", metavar="DIR", help="keep configurations, logs and journals in DIR")
    values = vars(parser.parse_args(argv))
    values["stagger_ms"] = values.pop("stagger")
    options = Options(**values)
    if options.tunnels > options.sessions:
        parser.error(f"--tunnels {options.tunnels}: more than --sessions {options.sessions}")
    if options.sessions > 60_000:
        parser.error("--sessions: at most 60000, the size of the address pool")
    if options.traffic_pps and options.traffic_pps < 2 * options.sessions:
        parser.error(f"--traffic-pps: at least {2 * options.sessions}, two per second on each session")
    if options.stagger_ms and options.kill != "both":
        parser.error("--stagger needs --kill both")
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
