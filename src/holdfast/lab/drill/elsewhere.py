"""Finds a kernel with PPP over L2TP for a drill that needs one, and runs it there.

That is this machine's own, where root may have a mount namespace in it (pppd reads /etc/ppp only, which stays as it
is for everybody else), or else a throw-away User-Mode Linux kernel. From there the drill says what happens in lines
of JSON, on the only way out that it has.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from holdfast.lab.display import Display
from holdfast.lab.drill.laboratory import empty_directory
from holdfast.lab.drill.relayed import Listener
from holdfast.lab.kernel import pppol2tp, uml
from holdfast.lab.netns import LabUnavailable
from holdfast.lab.options import Options
from holdfast.lab.peers import xl2tpd
from holdfast.lab.report import Report

_SETUP_S, _ROUND_S = 90.0, 90.0
"""The most that a throw-away kernel may take, and for each kill of each round."""

_HOW = "scripts/setup-interop installs what is missing (Debian packages user-mode-linux, kmod, xl2tpd, ppp)"
_WORK, _PCAP = "work", "l2tp.pcap"


def needed(options: Options) -> bool:
    """Whether the drill cannot be here: the peer needs a kernel, and files, that are not there or not ours."""
    return options.peer == "xl2tpd" and not xl2tpd.private()


def run(options: Options, argv: list[str], display: Display, rounds: list[Report]) -> None:
    """The drill of `argv` in another place; reports are appended to `rounds` as they come.

    Does not return from this machine's own kernel, whose mount namespace this process then leaves behind as another
    one. Raises LabUnavailable, KernelFailed.
    """
    if reason := xl2tpd.unavailable():
        raise LabUnavailable(f"{reason}; {_HOW}")
    no_kernel = pppol2tp.unavailable()
    if no_kernel is None and (no_kernel := pppol2tp.not_private()) is None:
        _refuse_files_in_run(options)
        display.close()
        pppol2tp.become_private([sys.executable, "-m", "holdfast", "drill", "restart", *argv])
    if reason := uml.unavailable():
        raise LabUnavailable(f"{no_kernel}, and for a kernel that has it {reason}; {_HOW}")
    _in_throw_away_kernel(options, display, rounds)


def _refuse_files_in_run(options: Options) -> None:
    for file in filter(None, (options.json, options.pcap, options.keep)):
        if Path(file).resolve().is_relative_to("/run"):
            raise LabUnavailable(f"{file}: the drill has a /run of its own here; name a place elsewhere")


def _in_throw_away_kernel(options: Options, display: Display, rounds: list[Report]) -> None:
    keep = empty_directory(options.keep) if options.keep else None
    display.phase("starting a User-Mode Linux kernel with PPP over L2TP")
    with tempfile.TemporaryDirectory(prefix="holdfast-drill-") as scratch:
        output = Path(scratch)
        listener = Listener(display, rounds)
        limit_s = _SETUP_S + options.repeat * options.kills * _ROUND_S
        status = uml.run(_command(options), output, uml.Kernel(limit_s=limit_s), listener.hear)
        listener.close()
        if options.pcap:
            shutil.copyfile(output / _PCAP, options.pcap)
        if status and keep is None:
            keep = Path(tempfile.mkdtemp(prefix="holdfast-lab-"))
            print(f"holdfast drill: logs are in {keep}", file=sys.stderr)
        if keep is not None and (output / _WORK).is_dir():
            shutil.copytree(output / _WORK, keep, dirs_exist_ok=True)
    if status == LabUnavailable.STATUS:
        raise LabUnavailable("the throw-away kernel is no place for it either")


def _command(options: Options) -> list[str]:
    """The same drill, with its files where they are found again."""
    out = Path(uml.OUTPUT)
    return [
        *(sys.executable, "-m", "holdfast", "drill", "restart", "--relayed"),
        *("--peer", options.peer, "--kill", options.kill, "--sessions", str(options.sessions)),
        *("--kills", str(options.kills), "--repeat", str(options.repeat), "--keep", str(out / _WORK)),
        *(("--traffic-pps", str(options.traffic_pps)) if options.traffic_pps else ()),
        *(("--pcap", str(out / _PCAP)) if options.pcap else ()),
    ]
