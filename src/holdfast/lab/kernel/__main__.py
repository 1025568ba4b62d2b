"""`python -m holdfast.lab.kernel [OPTION]... COMMAND...`: run a command in a throw-away kernel that has L2TP and PPP.

Exit status: the command's own; 125 if there was no kernel for it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from holdfast.lab.kernel.uml import Kernel, KernelFailed, run


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.lab.kernel")
    parser.add_argument("--limit", type=float, default=300.0, metavar="S", help="longest time in seconds")
    parser.add_argument("--memory", type=int, default=512, metavar="MIB", help="memory of the kernel")
    parser.add_argument("--output", type=Path, metavar="DIR", help="kept; /run/output inside")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    command = options.command[options.command[:1] == ["--"] :]
    if not command:
        parser.error("no command given")
    with tempfile.TemporaryDirectory(prefix="holdfast-kernel-") as scratch:
        try:
            return run(
                command,
                options.output or Path(scratch),
                Kernel(memory_mib=options.memory, limit_s=options.limit),
                _echo,
            )
        except KernelFailed as e:
            print(f"holdfast: {e}", file=sys.stderr)
            return 125


def _echo(said: bytes) -> None:
    sys.stdout.buffer.write(said)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
