"""`holdfast blast`: arguments in, table or JSON out. Status 0 only if every session came up and none was
lost.
"""

import argparse
import socket
import sys
from collections.abc import Callable

import msgspec

from holdfast.lab.blast.core_client import CoreSideFailed
from holdfast.lab.blast.plan import MIN_INNER, Plan, Traffic
from holdfast.lab.blast.result import table
from holdfast.lab.blast.run import Run

FAILED = 1
MISUSED = 2
_LARGEST_INNER = 1500


def main(argv: list[str]) -> int:
    """Run `holdfast blast` with these arguments; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        plan = _plan(args)
        say = _silent if args.json is not None else _say
        result = Run(plan, say).measure()
    except CoreSideFailed as e:
        return _complain(str(e))
    except OSError as e:
        return _complain(f"--bind {args.bind[0]}: {e.strerror or e}")
    if args.json is None:
        print(table(result))
    elif args.json == "-":
        print(msgspec.json.format(msgspec.json.encode(result)).decode())
    else:
        with open(args.json, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
        print(table(result))
    return 0 if result.clean else FAILED


def _complain(text: str) -> int:
    print(f"holdfast blast: {text}", file=sys.stderr)
    return MISUSED


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _silent(text: str) -> None:
    pass


def _plan(args: argparse.Namespace) -> Plan:
    lns, port = args.lns
    bind, bind_port = args.bind
    core, core_port = args.core_address or ("", 40001)
    command = tuple(args.core_command.split()) if args.core_command else ()
    if args.core_netns:
        command = ("ip", "netns", "exec", args.core_netns)
    return Plan(
        lns=socket.gethostbyname(lns),
        port=port,
        local_address=bind,
        local_port=bind_port,
        host_name=args.host_name,
        tunnel_secret=args.tunnel_secret.encode(),
        tunnels=args.tunnels,
        sessions=args.sessions,
        total=args.total,
        user=args.user,
        secret=args.secret,
        first=args.first,
        rate=args.rate,
        in_flight=args.in_flight,
        tunnel_in_flight=args.tunnel_in_flight,
        mru=args.mru,
        setup_timeout_s=args.setup_timeout,
        duration_s=args.duration,
        keep=args.keep,
        server_pid=args.server_pid,
        traffic=Traffic(
            core=core,
            port=core_port,
            up=args.up,
            down=args.down,
            up_size=args.up_size,
            down_size=args.down_size,
            core_command=command,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdfast blast",
        description="A LAC with many subscribers, as a load generator against any L2TPv2 LNS.",
    )
    add = parser.add_argument
    add("lns", type=_endpoint(1701), metavar="LNS[:PORT]", help="the server")
    add("--bind", type=_endpoint(0), default=("0.0.0.0", 0), metavar="ADDRESS[:PORT]", help="our own end")
    add("--host-name", default="blast", help="Host Name in the SCCRQ")
    add("--tunnel-secret", default="", help="secret of tunnel authentication; both sides are checked")
    add("--tunnels", type=_at_least(1), default=10)
    add("--sessions", type=_at_least(1), default=100, help="sessions that are up at once")
    add("--total", type=_at_least(0), default=0, help="set-ups in all: older sessions are cleared for newer")
    add("--user", default="user{n}", help="PPP user name; {n} is the subscriber's number")
    add("--secret", default="secret", help="PPP password; {n} is the subscriber's number")
    add("--first", type=_at_least(0), default=1, help="number of the first subscriber")
    add("--rate", type=float, default=0.0, help="set-ups per second, on schedule; 0 is as fast as it goes")
    add("--in-flight", type=_at_least(1), default=64, help="set-ups in progress at once")
    add("--tunnel-in-flight", type=_at_least(0), default=0, help="the same per tunnel; 0 is the window")
    add("--mru", type=_at_least(128), default=1460, help="MRU that subscribers ask for")
    add("--setup-timeout", type=float, default=30.0, metavar="SECONDS", help="a set-up fails after this")
    add(
        "--duration",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long sessions are held or packets run",
    )
    add("--keep", action="store_true", help="leave without StopCCN, as a LAC that dies")
    add(
        "--core-address",
        type=_endpoint(40001),
        metavar="ADDRESS[:PORT]",
        help="the other end of the packets",
    )
    add("--core-netns", default="", metavar="NAME", help="network namespace of the core side")
    add("--core-command", default="", help="words put before the command of the core side's helper")
    add("--up", type=_at_least(0), default=0, metavar="PPS", help="packets per second from all subscribers")
    add("--down", type=_at_least(0), default=0, metavar="PPS", help="packets per second to all subscribers")
    add("--up-size", type=_size, default=MIN_INNER, help="inner packet size in octets")
    add("--down-size", type=_size, default=MIN_INNER, help="inner packet size in octets")
    add("--server-pid", type=_at_least(1), default=0, metavar="PID", help="measure this process as well")
    add("--json", nargs="?", const="-", metavar="FILE", help="the result as JSON, to FILE or standard output")
    return parser


def _endpoint(default: int) -> Callable[[str], tuple[str, int]]:
    """`ADDRESS[:PORT]` with a default port."""

    def endpoint(text: str) -> tuple[str, int]:
        host, _, port = text.partition(":")
        if port and not (port.isdigit() and int(port) <= 65535):
            raise argparse.ArgumentTypeError(f"{port} is not a port: 0 to 65535")
        return host, int(port) if port else default

    return endpoint


def _size(text: str) -> int:
    value = int(text)
    if not MIN_INNER <= value <= _LARGEST_INNER:
        raise argparse.ArgumentTypeError(f"{value} is not from {MIN_INNER} to {_LARGEST_INNER}")
    return value


def _at_least(least: int) -> Callable[[str], int]:
    """An integer that is not below a bound."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    return number
