"""Captures the L2TP traffic of one interface into a pcap file: a process of its own, killed when it is no longer wanted.

Run as `python -m holdfast.lab.capture INTERFACE FILE`; prints "ready" when it captures, ends at the end of its input
with what it has written complete.
"""

import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import addressof, create_string_buffer
from pathlib import Path
from typing import BinaryIO, TypeAlias

from holdfast.core.errors import LocalError
from holdfast.lab.process import spawn, stop
from holdfast.lab.topology import WIRE

_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_SNAP = 65_535
_PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, _SNAP, 1)
"""Nanosecond pcap, Ethernet."""
_RECORD = struct.Struct("<IIII")

Operation: TypeAlias = tuple[int, int, int, int]
"""One operation of classic BPF: code, jump if true, jump if false, operand."""

_L2TP_ONLY: Sequence[Operation] = (
    (0x28, 0, 0, 12),  # ldh [12]: Ethernet type
    (0x15, 0, 10, 0x0800),  # IPv4, else drop
    (0x30, 0, 0, 23),  # ldb [23]: protocol
    (0x15, 0, 8, 17),  # UDP, else drop
    (0x28, 0, 0, 20),  # ldh [20]: flags and fragment offset
    (0x45, 5, 0, 0x1FFF),  # a later fragment has no ports: keep it
    (0xB1, 0, 0, 14),  # ldxb 4*([14]&0xf): header length
    (0x48, 0, 0, 14),  # ldh [x+14]: source port
    (0x15, 2, 0, 1701),
    (0x48, 0, 0, 16),  # ldh [x+16]: destination port
    (0x15, 0, 1, 1701),
    (0x06, 0, 0, _SNAP),  # keep
    (0x06, 0, 0, 0),  # drop
)
"""Classic BPF: UDP with port 1701 on either side, and later fragments of any UDP datagram."""


class CaptureFailed(LocalError):
    """The capture process did not start."""


class NotACapture(LocalError):
    """A file that this module has not written."""


def frames(file: Path) -> Iterator[tuple[int, bytes]]:
    """Time in ns and octets of each frame of a capture; one that its writer could not complete is left out.

    Raises NotACapture.
    """
    data = file.read_bytes()
    if not data.startswith(_PCAP_HEADER):
        raise NotACapture(f"{file} is no capture of `holdfast drill restart --pcap`")
    at = len(_PCAP_HEADER)
    while at + _RECORD.size <= len(data):
        seconds, ns, length, _ = _RECORD.unpack_from(data, at)
        at += _RECORD.size + length
        if at <= len(data):
            yield seconds * 1_000_000_000 + ns, data[at - length : at]


@contextmanager
def capturing(namespace: str, file: str, work: Path) -> Iterator[None]:
    """Capture what passes between LAC and LNS into `file`, in either's namespace, until the end of the block."""
    argv = [sys.executable, "-m", "holdfast.lab.capture", WIRE, file]
    process = spawn(argv, namespace, work / "capture.stderr", piped=True)
    try:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise CaptureFailed(f"the capture did not start: {(work / 'capture.stderr').read_text()}")
        yield
        if process.stdin is not None:
            process.stdin.close()
        process.wait(timeout=10)
    finally:
        stop(process)


def main(argv: list[str]) -> int:
    """The capture process."""
    interface, file = argv
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock, open(file, "wb") as out:
        attach(sock, interface)
        out.write(_PCAP_HEADER)
        print("ready", flush=True)
        _copy(sock, out)
    return 0


def attach(sock: socket.socket, interface: str, keep: Sequence[Operation] = _L2TP_ONLY) -> None:
    """Let a packet socket hear, without blocking, what of an interface's packets a filter keeps."""
    program = create_string_buffer(b"".join(struct.pack("HBBI", *op) for op in keep))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(keep), addressof(program)))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
    except PermissionError:  # in a user namespace only the ordinary limit can be reached
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    sock.setblocking(False)
    sock.bind((interface, _ETH_P_ALL))


def _copy(sock: socket.socket, out: BinaryIO) -> None:
    while True:
        readable = select.select([sock, sys.stdin], [], [])[0]
        _drain(sock, out)
        if sys.stdin in readable:
            return


def _drain(sock: socket.socket, out: BinaryIO) -> None:
    while True:
        try:
            frame = sock.recv(_SNAP)
        except BlockingIOError:
            return
        seconds, ns = divmod(time.time_ns(), 1_000_000_000)
        out.write(_RECORD.pack(seconds, ns, len(frame), len(frame)))
        out.write(frame)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
