"""The control messages of a capture as a message sequence: `python -m holdfast.lab.sequence FILE [--after SECONDS]`.

Reads what `holdfast drill restart --pcap` writes. Whoever speaks first stands on the left; times count from the first
frame.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from holdfast.lab.capture import NotACapture, frames
from holdfast.lab.tap import Said, read
from holdfast.wire.codes import Msg


def main(argv: list[str]) -> int:
    """Print the sequence."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.lab.sequence")
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--after", type=float, default=0.0, metavar="SECONDS", help="leave out what came before"
    )
    options = parser.parse_args(argv)
    try:
        for line in sequence(options.file, options.after):
            print(line)
    except (OSError, NotACapture) as e:
        print(f"holdfast: {e}", file=sys.stderr)
        return 1
    return 0


def sequence(file: Path, after_s: float = 0.0) -> Iterator[str]:
    """Its lines: a head, then one per control message. Raises NotACapture."""
    left, first_ns = "", None
    for at_ns, frame in frames(file):
        first_ns = at_ns if first_ns is None else first_ns
        for said in read(frame, at_ns):
            if not left:
                left = said.source
                yield f"        s  {left:<47}{said.target:>15}"
            if (seconds := (at_ns - first_ns) / 1e9) >= after_s:
                yield f"{seconds:9.4f}  {_arrow(said, to_the_right=said.source == left)}".rstrip()


def _arrow(said: Said, *, to_the_right: bool) -> str:
    where = f"{said.tunnel_id}/{said.session_id}" if said.session_id else f"{said.tunnel_id}"
    text = f"{_NAMES.get(said.type, said.type):<8} to {where:<12} Ns {said.ns:<5} Nr {said.nr:<5}"
    return f"{text} ------------------>" if to_the_right else f"<------------------ {text}"


_NAMES = {0: "ZLB"} | {message.value: message.name for message in Msg}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
