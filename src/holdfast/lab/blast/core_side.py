"""The core's end of a traffic measurement: a helper process that receives what subscribers send and sends
to them.

`python -m holdfast.lab.blast.core_side` reads one `Task` as a JSON line, answers "ready", starts at the
line "go", and prints one `Report` when it is done. It sends on schedule from its own clock, whatever the
daemons do.
"""

import socket
import sys
import time
from select import select

import msgspec

from holdfast.core.clock import SECOND, Instant
from holdfast.lab.blast.core_task import LINGER, Report, Task
from holdfast.lab.blast.link import BUFFER
from holdfast.lab.blast.packets import MARK, NUMBER, Arrivals, Pacer
from holdfast.lab.blast.upstream import BURST

_SO_RCVBUFFORCE = 33
_LARGEST = 2048
_IP_AND_UDP = 28


def serve(task: Task, sock: socket.socket) -> Report:
    """Send and receive for `task.seconds` and the linger."""
    arrivals = Arrivals(_now)
    start = _now()
    end = start + round(task.seconds * SECOND)
    pacer = Pacer(task.down, start, end)
    padding = bytes(task.size - _IP_AND_UDP - NUMBER.size)
    targets = [((address, task.port), index) for address, index in task.subscribers]
    cpu = time.process_time()
    while (now := _now()) < end + LINGER:
        _send(sock, pacer, targets, padding, now)
        _receive(sock, arrivals)
        due = pacer.next_at(now)
        wait = (due if due is not None else now + 50_000) - _now()
        if wait > 0:
            select([sock], [], [], min(wait, 50_000) / SECOND)
    return Report(
        up_received=arrivals.received,
        up_sessions=arrivals.sessions,
        up_gap=arrivals.gap,
        up_session_gap=arrivals.session_gap,
        down_due=pacer.due_by(end),
        down_sent=pacer.sent,
        cpu_share=(time.process_time() - cpu) / ((_now() - start) / SECOND),
    )


def _now() -> Instant:
    return time.monotonic_ns() // 1000


def _send(
    sock: socket.socket,
    pacer: Pacer,
    targets: list[tuple[tuple[str, int], int]],
    padding: bytes,
    now: Instant,
) -> None:
    count = len(targets)
    if not count:
        return
    for k in range(pacer.sent, pacer.sent + min(pacer.due(now), BURST)):
        address, index = targets[k % count]
        sock.sendto(NUMBER.pack(MARK, index, k // count + 1) + padding, address)
        pacer.sent += 1


def _receive(sock: socket.socket, arrivals: Arrivals) -> None:
    try:
        for _ in range(4 * BURST):
            arrivals.note(sock.recv(_LARGEST, socket.MSG_DONTWAIT), 0)
    except (BlockingIOError, ConnectionRefusedError):
        return


def main() -> int:
    """Read the task, wait for the word, report."""
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        except PermissionError:
            print("receive buffer stays at the system's limit: losses may be ours", file=sys.stderr)
        sock.bind((task.address, task.port))
        print("ready", flush=True)
        sys.stdin.buffer.readline()
        report = serve(task, sock)
    print(msgspec.json.encode(report).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
