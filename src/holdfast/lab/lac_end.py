"""The LAC of a drill whose LNS forwards in the kernel: our own LAC, with the subscribers' packets made in its data plane.

A TUN device would lose packets whenever this process is busy; here nothing waits but in the UDP socket, whose buffer
holds a second of them. Each packet is a datagram of its own from the LAC's socket, on the schedule of `lab.traffic`; a
packet counts as received only if it came in the session that it was sent to. Meanwhile the LAC asks for LCP echoes
(RFC 1661 5.8) in one session after the other, for the kernel answers these at the LNS while its daemon is dead.

Run as `python -m holdfast.lab.lac_end -c CONFIG`. It takes plans on `traffic.sock` in its run directory, one
connection each: the line `plan FILE`, then the commands of `lab.traffic`; the end of the connection ends the traffic.
"""

import fcntl
import socket
import struct
import sys
import termios
import time
from array import array
from asyncio import AbstractEventLoop
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from holdfast.core.errors import LocalError
from holdfast.daemon import planes
from holdfast.daemon.config import load
from holdfast.daemon.run import Daemon, run
from holdfast.daemon.udp import dropped
from holdfast.dataplane.contract import Punt
from holdfast.dataplane.flows import Flow
from holdfast.dataplane.inbox import Inbox
from holdfast.dataplane.null import NullPlane
from holdfast.lab.blast.packets import head
from holdfast.lab.stream import PACKET, PATIENCE_NS, TICK_S, Commands, Schedule, Shortfall, Stream
from holdfast.lab.traffic import ARRIVAL, PORT, Board, Plan, settle, widen
from holdfast.wire.header import data_header
from holdfast.wire.ppp import Protocol, frame

SOCKET = "traffic.sock"

ECHOES_PER_S = 500

_PLAIN = struct.Struct("!HIIB")
"""Flags and version, both ids, the PPP frame up to the protocol, and the inner packet's first octet."""
_DATA = 0x0002
_IPV4_FRAME = 0xFF030021
_LCP_FRAME = 0xFF03C021
_NO_OPTIONS = 0x45
_NUMBER_AT = 10 + 28
_SIZE = _NUMBER_AT + PACKET.size

_ECHO_REQUEST, _ECHO_REPLY = 9, 10
_LCP = struct.Struct("!BBHI")
"""Code, identifier, length, magic number (RFC 1661 5.8)."""
_ECHO = struct.Struct("!IQ")
"""Data of an Echo-Request of ours: the run's token, its number."""
_ECHO_AT = 10
_ECHO_SIZE = _ECHO_AT + _LCP.size + _ECHO.size


class NoPlan(LocalError):
    """What was asked of this LAC cannot be done; the text says why."""


class Subscribers:
    """One run's packets: what they look like, and what has come back."""

    def __init__(self, plan: Plan, flows: Sequence[Flow], sock: socket.socket) -> None:
        self._plan, self._sock = plan, sock
        self._count = len(flows)
        self._to = flows[0].entry.peer
        core = socket.inet_aton(plan.core)
        size = 28 + PACKET.size
        self._heads = [
            flow.head + head(socket.inet_aton(flow.entry.address), core, PORT, size) for flow in flows
        ]
        self._lcp_heads = [
            data_header(flow.entry.peer_tunnel, flow.entry.peer_session) + frame(Protocol.LCP, b"")
            for flow in flows
        ]
        self._ids = [flow.ids for flow in flows]
        self._log = open(plan.log, "wb", buffering=1 << 20)  # noqa: SIM115 - closed by `close`
        self._board = Board(plan.board, self._count)
        self._dropped_before = dropped(sock)
        self._stream = Stream(plan.token, plan.pps, self._count, self._send)
        self._next_echo = 0
        self._asked: list[int] = []
        self._answered: dict[int, int] = {}

    def send(self, commands: Commands) -> bool:
        """Send a burst of what is due; whether more is."""
        until_ns = min(time.monotonic_ns(), commands.stop_ns)
        self._ask(Schedule(commands.start_ns, ECHOES_PER_S, self._count).due_by(until_ns))
        return self._stream.turn(commands)

    def done(self, commands: Commands) -> bool:
        """Whether everything is sent that will be."""
        return self._stream.done(commands)

    def over(self, commands: Commands) -> bool:
        """Whether receiving has ended: what has arrived until then is taken, unless that takes too long."""
        now = time.monotonic_ns()
        if now < commands.end_ns:
            return False
        waiting = array("i", (0,))
        fcntl.ioctl(self._sock, termios.FIONREAD, waiting)
        return not waiting[0] or now >= commands.end_ns + PATIENCE_NS

    def shortfall(self, commands: Commands) -> Shortfall:
        """What this end fell short of."""
        no_room = dropped(self._sock) - self._dropped_before
        return Shortfall(no_room, self._stream.unsent(commands), self._stream.late_ns)

    def _send(self, session: int, payload: bytes) -> None:
        self._sock.sendto(self._heads[session] + payload, self._to)

    def _ask(self, due: int) -> None:
        """Send the Echo-Requests that are due; one that cannot leave was never asked."""
        for number in range(self._next_echo, due):
            request = _LCP.pack(_ECHO_REQUEST, number & 0xFF, _LCP.size + _ECHO.size, 0)
            data = self._lcp_heads[number % self._count] + request + _ECHO.pack(self._plan.token, number)
            self._asked.append(time.monotonic_ns())
            try:
                self._sock.sendto(data, self._to)
            except OSError:
                self._asked[number] = 0
        self._next_echo = max(self._next_echo, due)

    def take(self, data: memoryview, length: int) -> bool:
        """Note one datagram if it is one of the run's, in the session that it belongs to; False if it is not."""
        if length < _ECHO_SIZE:
            return False
        flags, ids, framing, first = _PLAIN.unpack_from(data)
        if flags != _DATA:
            return False
        if framing == _IPV4_FRAME:
            return first == _NO_OPTIONS and length == _SIZE and self._take_packet(data, ids)
        return framing == _LCP_FRAME and first == _ECHO_REPLY and self._take_echo(data, ids)

    def _take_packet(self, data: memoryview, ids: int) -> bool:
        token, _, k, _ = PACKET.unpack_from(data, _NUMBER_AT)
        session = k % self._count
        if token != self._plan.token or ids != self._ids[session]:
            return False
        now = time.monotonic_ns()
        self._log.write(ARRIVAL.pack(now, k))
        self._board.note(session, now)
        return True

    def _take_echo(self, data: memoryview, ids: int) -> bool:
        token, number = _ECHO.unpack_from(data, _ECHO_AT + _LCP.size)
        if token != self._plan.token or ids != self._ids[number % self._count]:
            return False
        self._answered.setdefault(number, time.monotonic_ns())
        return True

    def close(self) -> None:
        """Leave the logs complete. Of each echo: when it was asked for, and when answered (0: not) in ns."""
        self._log.close()
        self._board.close()
        pairs = ((at, self._answered.get(number, 0)) for number, at in enumerate(self._asked) if at)
        Path(self._plan.echoes).write_bytes(b"".join(ARRIVAL.pack(*pair) for pair in pairs))


class SubscribersPlane(NullPlane):
    """A plane behind which the subscribers of a run are; without a run it forwards to nowhere.

    `behind`: the last batch was a full one, so more waits, and control messages behind it.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.socket = sock
        self.subscribers: Subscribers | None = None
        self.behind = False

    def describe(self) -> str:
        """For people (DataPlane.describe)."""
        return "lab"

    def begin_run(self, plan: Plan) -> Subscribers:
        """From now on packets are of this run. Raises NoPlan."""
        by_address = {flow.entry.address: flow for flow in self._flows.by_key.values()}
        missing = [address for address in plan.addresses if address not in by_address]
        if missing:
            raise NoPlan(f"{len(missing)} addresses have no session, {missing[0]} for one")
        flows = [by_address[address] for address in plan.addresses]
        if any(not flow.head or flow.entry.peer != flows[0].entry.peer for flow in flows):
            raise NoPlan("sequenced sessions, or more than one LNS")
        self.subscribers = Subscribers(plan, flows, self.socket)
        return self.subscribers

    def receive(self, inbox: Inbox) -> Sequence[Punt]:
        """Note the run's packets, judge the rest (DataPlane.receive)."""
        if self.subscribers is None:
            return super().receive(inbox)
        self.behind = inbox.count == inbox.slots
        take, view, starts = self.subscribers.take, inbox.view, inbox.starts
        punts: list[Punt] = []
        for i, length in enumerate(inbox.lengths):
            if take(view[starts[i] : starts[i] + _SIZE], length):
                continue
            if (punt := self.arrive(inbox.datagram(i), inbox.source(i)).punt) is not None:
                punts.append(punt)
        return punts


class Conversation:
    """One connection of a drill: a plan, its traffic, its end."""

    def __init__(self, connection: socket.socket, plane: SubscribersPlane, loop: AbstractEventLoop) -> None:
        self._connection, self._plane, self._loop = connection, plane, loop
        self._commands = Commands()
        self._told = False
        self._pending = b""
        self._plan: Plan | None = None
        self._run: Subscribers | None = None
        loop.add_reader(connection.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = self._connection.recv(4096)
        except ConnectionError:
            data = b""
        if not data:
            self._end()
            return
        if self._plan is not None:
            self._commands.feed(data)
            return
        self._pending += data
        line, ended, rest = self._pending.partition(b"\n")
        if ended:
            self._begin(line.decode().removeprefix("plan "))
            self._commands.feed(rest)

    def _begin(self, file: str) -> None:
        try:
            self._plan = msgspec.json.decode(Path(file).read_bytes(), type=Plan)
            self._run = self._plane.begin_run(self._plan)
            settle(self._plan.processor)
        except (OSError, LocalError, msgspec.DecodeError) as e:
            self._say(str(e))
            self._end()
            return
        self._say("ready")
        self._tick()

    def _tick(self) -> None:
        run = self._run
        if run is None:
            return
        if self._plane.behind:  # what is sent later is late, what is heard later may be too late
            self._plane.behind = False
            self._loop.call_soon(self._tick)
            return
        more = run.send(self._commands)
        if not self._told and run.done(self._commands):
            self._told = True
            self._say("sent")
        if run.over(self._commands):
            shortfall = run.shortfall(self._commands)
            self._let_go()
            self._say(f"done {msgspec.json.encode(shortfall).decode()}")
        elif more:
            self._loop.call_soon(self._tick)
        else:
            self._loop.call_later(TICK_S, self._tick)

    def _let_go(self) -> None:
        if self._run is not None:
            self._plane.subscribers = None
            self._run.close()
            self._run = None

    def _say(self, line: str) -> None:
        self._connection.sendall(line.encode() + b"\n")

    def _end(self) -> None:
        self._let_go()
        self._loop.remove_reader(self._connection.fileno())
        self._connection.close()


class LacEnd(Daemon):
    """The product's daemon with that plane."""

    def _take_plane(self, at_end: ExitStack) -> planes.Taken:
        widen(self._udp.socket)
        plane = SubscribersPlane(self._udp.socket)
        at_end.callback(self._let_go, plane)
        path = Path(self._config.paths.run_dir, SOCKET)
        listener = at_end.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            connection, _ = listener.accept()
            Conversation(connection, plane, self._loop)

        self._loop.add_reader(listener.fileno(), accept)
        return planes.Taken(plane, None)


def main(argv: list[str]) -> int:
    """The process."""
    match argv:
        case ["-c", file]:
            return run(load(file), make=LacEnd)
    print("usage: python -m holdfast.lab.lac_end -c CONFIG", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
