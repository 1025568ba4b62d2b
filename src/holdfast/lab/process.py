"""Processes of the lab: started inside a namespace, in a session of their own, ended by their own process id only."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from holdfast.lab.netns import entered


def spawn(
    argv: Sequence[str], namespace: str, stderr: Path, *, piped: bool = False
) -> "subprocess.Popen[bytes]":
    """Start a process in a namespace. Its stderr is appended to a file; `piped` gives it standard input and output.

    Nothing runs between fork and exec: the parent enters the namespace, starts the child, and comes back.
    """
    pipe = subprocess.PIPE if piped else subprocess.DEVNULL
    with open(stderr, "ab") as errors, entered(namespace):
        return subprocess.Popen(
            argv,
            stdin=pipe,
            stdout=pipe if piped else errors,
            stderr=errors,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process if it still runs, and collect it."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
