"""Numbered IP traffic of all sessions in one direction each way: one process per side, which outlives the daemons.

Packet k of a direction belongs to session k mod n and is due at start + k / pps, whatever happens to the path: what
was due counts as sent, so a loss is never hidden by a sender that waited. A packet carries the run's token, its
session and number, and the CLOCK_MONOTONIC time of sending; a receiver logs (arrival, k) of every packet and keeps a
`Board` in shared memory for those who look on. All judgement is made afterwards, from the logs (`lab.measure`).

One socket serves every session: at the LAC the pool is the machine's own (AnyIP), and the source address goes with
each packet; at the core the destination does. (`lab.lac_end` is another side, for planes that forward faster than a TUN
device takes packets: the LAC itself.)

Run as `python -m holdfast.lab.traffic PLAN`. Commands on standard input: `start NS` and `stop NS` say when sending
begins and ends, `end NS` when receiving does; end of file ends both at once. It says "ready", then "sent" when it has
sent everything, and at its end "done" with its `Shortfall`.
"""

import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from holdfast.daemon.udp import dropped
from holdfast.lab.stream import PACKET, TICK_S, Commands, Sender, Shortfall, Stream

PORT = 40951
"""UDP port of the numbered packets, on either side; no protocol analyser takes them for something else."""

_IP_PKTINFO = 8  # linux/in.h; not in the socket module
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER = 128 << 20
"""More than a second of packets, as a kernel accounts for them: the machine may be busy with a start."""

ARRIVAL = struct.Struct("=QQ")
"""One logged packet: time of arrival in ns, packet number k."""

Side = Literal["lac", "core"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one generator is to do: it sends one direction and receives the other. Addresses by session index.

    `echoes` is where a LAC that carries the packets itself leaves what it knows of its LCP Echo-Requests. `processor`:
    where to stay, -1 for anywhere.
    """

    side: Side
    token: int
    pps: int
    addresses: tuple[str, ...]
    core: str
    log: str
    board: str
    echoes: str = ""
    processor: int = -1


class Board:
    """What a receiver has seen so far, in shared memory: packets in all, and each session's last arrival in ns."""

    def __init__(self, path: str, sessions: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, 8 * (sessions + 1))
        self._map = mmap.mmap(self._fd, 8 * (sessions + 1))
        self._words = memoryview(self._map).cast("Q")
        self.last = self._words[:sessions]
        self._total = self._words[sessions:]

    @property
    def received(self) -> int:
        """Packets received in all."""
        return self._total[0]

    def note(self, session: int, at_ns: int) -> None:
        """One packet of `session` arrived."""
        self.last[session] = at_ns
        self._total[0] += 1

    def close(self) -> None:
        """Let the memory go; the file stays for others."""
        self.last.release()
        self._total.release()
        self._words.release()
        self._map.close()
        os.close(self._fd)


def main(argv: list[str]) -> int:
    """The generator process: PLAN is a JSON file. Prints "ready" once its socket is bound."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    plan = msgspec.json.decode(Path(argv[0]).read_bytes(), type=Plan)
    settle(plan.processor)
    board = Board(plan.board, len(plan.addresses))
    with open(plan.log, "wb", buffering=1 << 20) as log, _open_socket() as sock:
        send = _sender(plan, sock)
        print("ready", flush=True)
        shortfall = _run(plan, sock, send, log, board)
        log.flush()
        print("done", msgspec.json.encode(shortfall).decode(), flush=True)
    board.close()
    return 0


def _open_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    widen(sock)
    sock.setblocking(False)
    sock.bind(("0.0.0.0", PORT))
    return sock


def settle(processor: int) -> None:
    """Let this thread go before others where that is allowed, and stay on a processor: it stands for another machine."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    if processor >= 0:
        os.sched_setaffinity(0, {processor})


def widen(sock: socket.socket) -> None:
    """Give a socket room for what arrives while nobody reads, and for what leaves."""
    for force, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
        except PermissionError:  # in a user namespace only the ordinary limit can be reached
            sock.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)


def _sender(plan: Plan, sock: socket.socket) -> Sender:
    if plan.side == "core":
        targets = [(address, PORT) for address in plan.addresses]
        return lambda session, payload: sock.sendto(payload, targets[session])
    core = (plan.core, PORT)
    sources = [[(socket.IPPROTO_IP, _IP_PKTINFO, _pktinfo(address))] for address in plan.addresses]
    return lambda session, payload: sock.sendmsg((payload,), sources[session], 0, core)


def _pktinfo(source: str) -> bytes:
    return struct.pack("=I4s4s", 0, socket.inet_aton(source), bytes(4))


def _run(plan: Plan, sock: socket.socket, send: Sender, log: BinaryIO, board: Board) -> Shortfall:
    commands, sessions = Commands(), len(plan.addresses)
    stream = Stream(plan.token, plan.pps, sessions, send)
    sources = plan.addresses if plan.side == "core" else (plan.core,) * sessions
    told = False
    while time.monotonic_ns() < commands.end_ns:
        more = stream.turn(commands)
        if not told and stream.done(commands):
            told = True
            print("sent", flush=True)
        _receive(plan.token, sources, sock, log, board)
        if not _listen(commands, 0 if more else TICK_S):
            break
    return Shortfall(dropped(sock), stream.unsent(commands), stream.late_ns)


def _receive(token: int, sources: Sequence[str], sock: socket.socket, log: BinaryIO, board: Board) -> None:
    """Read the socket until it is empty. A packet counts only if it is from whoever its session belongs to."""
    receive, unpack, clock, write, note = (
        sock.recvfrom,
        PACKET.unpack,
        time.monotonic_ns,
        log.write,
        board.note,
    )
    sessions = len(sources)
    while True:
        try:
            packet, source = receive(2048)
        except BlockingIOError:
            return
        if len(packet) != PACKET.size:
            continue
        its_token, _, k, _ = unpack(packet)
        session = k % sessions
        if its_token == token and source[0] == sources[session]:
            now = clock()
            write(ARRIVAL.pack(now, k))
            note(session, now)


def _listen(commands: Commands, wait_s: float) -> bool:
    """Wait for a command, which is what paces the generator, and obey it; False if none will come any more."""
    if select.select([0], [], [], wait_s)[0]:
        data = os.read(0, 4096)
        commands.feed(data)
        return bool(data)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
