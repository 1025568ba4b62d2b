"""`holdfast trace`: the packets of one session, as they pass."""

import os
import signal
import stat
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Annotated, BinaryIO

import msgspec
import typer

from holdfast.cli.capture import json_line, pcap_header, pcap_record
from holdfast.cli.client import CommandRefused, NodeUnreachable
from holdfast.cli.errors import FAILED, NOT_RUNNING, USAGE, fail
from holdfast.cli.options import ConfigFile, Socket, node_at
from holdfast.cli.show import SessionId, parse_session
from holdfast.daemon.views import TracedPacket, TraceNews

MOST = 65535
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
_decode = msgspec.json.Decoder(TracedPacket | TraceNews).decode


class Enough(Exception):
    """The user, or the time that was given, ends the trace."""


class Patience:
    """Signals end the waiting for packets, and never the writing of one."""

    def __init__(self, seconds: float) -> None:
        self._over = self._waiting = False
        for number in _ENDING:
            signal.signal(number, self._on_signal)
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._over = True
        if self._waiting:
            raise Enough

    def lines(self, pieces: Iterator[bytes]) -> Iterator[list[bytes]]:
        """The whole lines of each piece. Raises Enough, and what `pieces` raises."""
        rest = b""
        while True:
            self._waiting = True
            if self._over:
                raise Enough
            piece = next(pieces, None)
            self._waiting = False
            if piece is None:
                return
            *whole, rest = (rest + piece).split(b"\n")
            yield whole


class Written:
    """What has been written, and what is known of the rest."""

    def __init__(self, out: BinaryIO, *, count: int, json: bool, raw: bool) -> None:
        self.packets = self.missed = 0
        self.ended = ""
        self._out, self._count, self._json, self._raw = out, count, json, raw

    def take(self, lines: Iterable[bytes]) -> None:
        """Write packets. Raises Enough after the last one that was asked for."""
        records: list[bytes] = []
        for line in lines:
            said = _decode(line)
            if isinstance(said, TraceNews):
                self.missed, self.ended = said.missed, said.ended
            elif not self._count or self.packets < self._count:
                self.packets += 1
                records.append(json_line(said, raw=self._raw) if self._json else pcap_record(said))
        if records:
            self._out.write(b"".join(records))
            self._out.flush()
        if self._count and self.packets >= self._count:
            raise Enough

    def summary(self) -> str:
        """For people."""
        why = f" ({self.ended})" if self.ended else ""
        return f"{self.packets} packets written, {self.missed} missed{why}"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    trace = typer.Typer(help="See the packets of a session.", no_args_is_help=True)
    trace.callback()(lambda: None)
    trace.command("session")(session)
    app.add_typer(trace, name="trace")


def session(
    session_id: SessionId,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Instead of standard output.", show_default=False
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="With the tunnel's headers, and with the frames of PPP itself.")
    ] = False,
    count: Annotated[
        int, typer.Option("--count", metavar="N", min=0, help="End after N packets; 0: do not.")
    ] = 0,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=0, help="End after S seconds; 0: do not.")
    ] = 0,
    snaplen: Annotated[
        int, typer.Option("--snaplen", metavar="N", min=1, max=MOST, help="Octets of each packet at most.")
    ] = MOST,
    config: ConfigFile = None,
    socket: Socket = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each packet.")] = False,
) -> None:
    """Write the packets of one session as pcap, until Ctrl-C, --count or --seconds; then say how many were missed."""
    if output is None and not json and sys.stdout.isatty():
        fail("pcap is not for a terminal: give -o FILE or --json, or pipe it (`| tcpdump -nr -`)", USAGE)
    key = parse_session(session_id)
    client = node_at(config, socket)
    patience = Patience(seconds)
    pieces = client.stream("sessions", str(key), "trace", raw=str(raw).lower(), snaplen=snaplen)
    written: Written | None = None
    status = 0
    try:
        first = next(pieces, b"")  # the node has agreed: now there may be a file
        out = _open(output)
        written = Written(out, count=count, json=json, raw=raw)
        if not json:
            out.write(pcap_header(snaplen))
            out.flush()
        for lines in patience.lines(_with(first, pieces)):
            written.take(lines)
    except Enough:
        pass
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except NodeUnreachable as e:
        if written is None:
            fail(e, NOT_RUNNING)
        print(f"holdfast: {e}", file=sys.stderr)
        status = NOT_RUNNING
    except (CommandRefused, OSError) as e:
        fail(e, FAILED)
    finally:
        client.close()
    if written is not None:
        print(written.summary(), file=sys.stderr)
    sys.exit(status)


def _with(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _open(output: str | None) -> BinaryIO:
    """Where to write: a file for its owner only. Raises OSError."""
    if output is None:
        return sys.stdout.buffer
    fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        os.fchmod(fd, 0o600)
    return os.fdopen(fd, "wb")
