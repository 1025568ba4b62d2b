"""The command lines of `holdfast drill restart` and `holdfast drill upgrade`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

Role = Literal["lns", "lac"]
Kill = Literal["lns", "lac", "both"]
Peer = Literal["holdfast", "xl2tpd", "l2tpns"]
Drill = Literal["restart", "upgrade"]
Plane = Literal["tun", "tc", "xdp"]
By = Literal["kill", "stop"]

_PPS_PER_SESSION = 20
_PPS_MOST = 20_000
_SESSIONS = {"xl2tpd": 1, "l2tpns": 20}
_SESSIONS_IN_KERNEL = 1000
_IN_KERNEL = ("tc", "xdp")
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

    `dataplane` is the LNS's, "" for TUN devices on both sides; otherwise the LAC makes the packets itself.
    `in_flight` sessions are being set up, and as many torn down, at the moment of the kill. `kills`: so often in a round.
    `by` is how the node ends.
    `relayed`: this process runs in a throw-away kernel, for one outside that tells the user.
    """

    drill: Drill = "restart"
    dataplane: Literal["", "tun", "tc", "xdp"] = ""
    by: By = "kill"
    sessions: int = 100
    tunnels: int = 4
    traffic_pps: int = 0
    peer: Literal["", "holdfast", "xl2tpd", "l2tpns"] = ""
    kill: Kill = "lns"
    kills: int = 1
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
        most = _PPS_MOST if self.in_kernel else min(_PPS_PER_SESSION * self.sessions, _PPS_MOST)
        return self.traffic_pps or most

    @property
    def in_kernel(self) -> bool:
        """Whether the LNS's data plane outlives its daemon."""
        return self.dataplane in _IN_KERNEL

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
            case "" | "holdfast":
                lacking = f", {'LAC' if self.kill == 'lns' else 'LNS'} without RFC 4951" if self.peer else ""
                plane = f", the LNS's data plane {self.plane_in_words}" if self.dataplane else ""
                return f"LNS and LAC{lacking}{plane}"
            case "xl2tpd":
                other = "xl2tpd and pppd"
            case "l2tpns":
                other = "l2tpns"
        return f"our {self.kill.upper()} in front of {other}"

    @property
    def plane_in_words(self) -> str:
        """The LNS's data plane, for people."""
        return f"in the kernel ({self.dataplane})" if self.in_kernel else "in user space (tun)"

    @property
    def patience_s(self) -> float:
        """How long set-up or recovery may take before the drill gives up."""
        return 30 + self.sessions / 50


def parse(argv: Sequence[str], drill: Drill = "restart") -> Options:
    """Options from the command line; exits with status 2 and a message if they are wrong."""
    parser = _parser(drill)
    values = vars(parser.parse_args(argv))
    known = Options()
    values["stagger_ms"] = values.pop("stagger", 0.0)
    peer = values.get("peer", "")
    in_kernel = values["dataplane"] in _IN_KERNEL
    values["kill"] = values.get("kill") or _KILL.get(peer, known.kill)
    values["sessions"] = values["sessions"] or (
        _SESSIONS_IN_KERNEL if in_kernel else _SESSIONS.get(peer, known.sessions)
    )
    values["tunnels"] = values["tunnels"] or (1 if peer in _SESSIONS else known.tunnels)
    if values["in_flight"] is None:
        values["in_flight"] = 0 if peer in _SESSIONS else known.in_flight
    options = Options(drill=drill, **values)
    if reason := _unsuitable(options):
        parser.error(reason)
    return options


def _parser(drill: Drill) -> argparse.ArgumentParser:
    upgrade = drill == "upgrade"
    description = (
        "Start an LNS again from an installation with other eBPF programs, under traffic; measure."
        if upgrade
        else "Kill a node, restart it, measure."
    )
    parser = argparse.ArgumentParser(prog=f"holdfast drill {drill}", description=description)
    known = Options()
    add = parser.add_argument
    if upgrade:
        add("--dataplane", choices=_IN_KERNEL, default="tc", help="the LNS's data plane (tc)")
        add(
            "--by",
            choices=("stop", "kill"),
            default="stop",
            help="how the old version ends: SIGTERM, or SIGKILL (stop)",
        )
    else:
        add(
            "--dataplane",
            choices=("tun", *_IN_KERNEL),
            default="",
            help="the LNS's data plane: tun, or eBPF at tc or XDP, of which no packet may be lost; the LAC then makes"
            " the packets itself (without --dataplane: TUN devices on both sides)",
        )
        add(
            "--peer",
            choices=tuple(_KILLS),
            default=known.peer,
            help="a peer without RFC 4951 on the other side: xl2tpd with pppd, l2tpns, or a holdfast that does not"
            " offer it (without --peer: a holdfast that does)",
        )
        add("--kill", choices=("lns", "lac", "both"), help="who is killed (lns; in front of l2tpns: lac)")
        add(
            "--kills",
            type=_positive,
            default=known.kills,
            metavar="N",
            help="kill the node so often in a round, each time as soon as its data flow or up to 1.5 s later (1)",
        )
        add(
            "--stagger",
            type=float,
            default=0.0,
            metavar="MS",
            help="with both: kill the second MS after the restart",
        )
        add("--relayed", action="store_true", help=argparse.SUPPRESS)
    add(
        "--sessions",
        type=_positive,
        help=f"subscribers with traffic ({_SESSIONS_IN_KERNEL:,})"
        if upgrade
        else f"subscribers with traffic ({known.sessions}; tc, xdp: {_SESSIONS_IN_KERNEL:,}; xl2tpd: 1;"
        f" l2tpns: {_SESSIONS['l2tpns']})",
    )
    add(
        "--tunnels",
        type=_positive,
        help=f"tunnels that carry them ({known.tunnels}" + (")" if upgrade else "; xl2tpd, l2tpns: 1)"),
    )
    add(
        "--traffic-pps",
        type=_positive,
        default=0,
        help=f"packets/s each way, all sessions ({_PPS_MOST:,})"
        if upgrade
        else f"packets/s each way, all sessions ({_PPS_PER_SESSION} per session; tc, xdp: {_PPS_MOST:,})",
    )
    add(
        "--in-flight",
        type=_natural,
        metavar="N",
        help=f"sessions being set up, and as many torn down, when the node ends ({known.in_flight}"
        + (")" if upgrade else "; xl2tpd, l2tpns: 0)"),
    )
    add("--repeat", type=_positive, default=known.repeat, metavar="N", help="rounds, one after the other")
    add("--json", default="", metavar="FILE", help="write the report as JSON")
    add("--pcap", default="", metavar="FILE", help="capture L2TP between LAC and LNS")
    add("--keep", default="", metavar="DIR", help="keep configurations, logs and journals in DIR")
    return parser


def _unsuitable(o: Options) -> str:
    """Why there is no such drill, "" if there is."""
    if o.dataplane and o.others_daemon:
        return f"--dataplane {o.dataplane}: not with --peer {o.peer}, whose packets the lab cannot make"
    if o.dataplane and o.kill != "lns":
        return f"--dataplane {o.dataplane}: it is the LNS's, so --kill lns"
    if o.kills > 1 and o.kill == "both":
        return f"--kills {o.kills}: of one node, not with --kill both"
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
