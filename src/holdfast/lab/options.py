"""The command line of `holdfast drill restart`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

Role = Literal["lns", "lac"]
Kill = Literal["lns", "lac", "both"]
Peer = Literal["holdfast", "xl2tpd", "l2tpns"]

_PPS_PER_SESSION = 20
_PPS_MOST = 20_000
_SESSIONS = {"xl2tpd": 1, "l2tpns": 20}
_SESSIONS_MOST = {"xl2tpd": 1, "l2tpns": 200}
_KILL: dict[str, Kill] = {"l2tpns": "lac"}
_KILLS: dict[str, tuple[Kill, ...]] = {
    "holdfast": ("lns", "lac"),
    "xl2tpd": ("lns", "lac"),
    "l2tpns": ("lac",),
}
"""Who can be killed in front of whom: holdfast always, so never both."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line. `peer` is "" for a second holdfast that has RFC 4951.

    `in_flight` sessions are being set up, and as many torn down, at the moment of the kill.
    `relayed`: this process runs in a throw-away kernel, for one outside that tells the user.
    """

    sessions: int = 100
    tunnels: int = 4
    traffic_pps: int = 0
    peer: Literal["", "holdfast", "xl2tpd", "l2tpns"] = ""
    kill: Kill = "lns"
    in_flight: int = 5
    stagger_ms: float = 0.0
    repeat: int = 1
    json: str = ""
    pcap: str = ""
    keep: str = ""
    relayed: bool = False

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
    def others_daemon(self) -> bool:
        """Whether the other side is not holdfast at all."""
        return self.peer in ("xl2tpd", "l2tpns")

    @property
    def cast(self) -> str:
        """Who takes part, for people."""
        match self.peer:
            case "":
                return "LNS and LAC"
            case "holdfast":
                return f"LNS and LAC, {'LAC' if self.kill == 'lns' else 'LNS'} without RFC 4951"
            case "xl2tpd":
                other = "xl2tpd and pppd"
            case "l2tpns":
                other = "l2tpns"
        return f"our {self.kill.upper()} in front of {other}"

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
    add(
        "--peer",
        choices=tuple(_KILLS),
        default=known.peer,
        help="a peer without RFC 4951 on the other side: xl2tpd with pppd, l2tpns, or a holdfast that does not"
        " offer it (without --peer: a holdfast that does)",
    )
    add(
        "--sessions",
        type=_positive,
        help=f"subscribers with traffic ({known.sessions}; xl2tpd: 1; l2tpns: {_SESSIONS['l2tpns']})",
    )
    add(
        "--tunnels",
        type=_positive,
        help=f"tunnels that carry them ({known.tunnels}; xl2tpd, l2tpns: 1)",
    )
    add("--traffic-pps", type=_positive, default=0, help="packets/s each way, all sessions (20 per session)")
    add("--kill", choices=("lns", "lac", "both"), help="who is killed (lns; in front of l2tpns: lac)")
    add(
        "--in-flight",
        type=_natural,
        metavar="N",
        help=f"sessions being set up, and as many torn down, at the kill ({known.in_flight}; xl2tpd, l2tpns: 0)",
    )
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
    add("--relayed", action="store_true", help=argparse.SUPPRESS)
    values = vars(parser.parse_args(argv))
    values["stagger_ms"] = values.pop("stagger")
    peer = values["peer"]
    values["kill"] = values["kill"] or _KILL.get(peer, known.kill)
    values["sessions"] = values["sessions"] or _SESSIONS.get(peer, known.sessions)
    values["tunnels"] = values["tunnels"] or (1 if peer in _SESSIONS else known.tunnels)
    if values["in_flight"] is None:
        values["in_flight"] = 0 if peer in _SESSIONS else known.in_flight
    options = Options(**values)
    if reason := _unsuitable(options):
        parser.error(reason)
    return options


def _unsuitable(o: Options) -> str:
    """Why there is no such drill, "" if there is."""
    if o.peer and o.kill not in _KILLS[o.peer]:
        return f"--kill {o.kill}: with --peer {o.peer} the killed one can be {' or '.join(_KILLS[o.peer])}"
    if o.others_daemon and o.tunnels > 1:
        return f"--tunnels {o.tunnels}: one with --peer {o.peer}"
    if o.others_daemon and o.in_flight:
        return f"--in-flight {o.in_flight}: none with --peer {o.peer}, or its log would say nothing about the kill"
    if o.sessions > (most := _SESSIONS_MOST.get(o.peer, 60_000)):
        return f"--sessions: at most {most}" + (f" with --peer {o.peer}" if o.peer in _SESSIONS_MOST else "")
    if o.tunnels > o.sessions:
        return f"--tunnels {o.tunnels}: more than --sessions {o.sessions}"
    if o.traffic_pps and o.traffic_pps < 2 * o.sessions:
        return f"--traffic-pps: at least {2 * o.sessions}, two per second on each session"
    if o.stagger_ms and o.kill != "both":
        return "--stagger needs --kill both"
    for file in filter(None, (o.json, o.pcap)):
        if not Path(file).absolute().parent.is_dir():
            return f"{file}: there is no such directory"
    return ""


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _natural(text: str) -> int:
    if (value := int(text)) < 0:
        raise ValueError(text)
    return value
