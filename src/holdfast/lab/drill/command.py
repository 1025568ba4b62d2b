"""The command: rounds one after the other, what they say, the exit status."""

import signal
import sys
from pathlib import Path
from typing import NoReturn

from holdfast.core.errors import LocalError
from holdfast.lab import netns
from holdfast.lab.display import Display, open_display
from holdfast.lab.drill import elsewhere, wires
from holdfast.lab.drill.laboratory import laboratory
from holdfast.lab.drill.relayed import RelayedDisplay
from holdfast.lab.drill.round import kill_and_report
from holdfast.lab.drill.scene import scene
from holdfast.lab.options import Drill, Options, parse
from holdfast.lab.report import Report, encode, series


def main(argv: list[str], drill: Drill = "restart") -> int:
    """The command: `argv` is what follows `drill restart`, or `drill upgrade`."""
    options = parse(argv, drill)
    signal.signal(signal.SIGTERM, _interrupted)
    display = RelayedDisplay() if options.relayed else open_display(options.sessions)
    rounds: list[Report] = []
    try:
        if elsewhere.needed(options):
            elsewhere.run(options, argv, display, rounds)
        else:
            _run(options, display, rounds)
    except netns.LabUnavailable as e:
        print(f"holdfast drill: {e}", file=sys.stderr)
        return netns.LabUnavailable.STATUS
    except LocalError as e:
        print(f"holdfast drill: {e}", file=sys.stderr)
    finally:
        display.close()
    if not rounds:
        return 1
    outcome = series(rounds, options.repeat) if options.repeat > 1 else rounds[0]
    if options.json:
        Path(options.json).write_bytes(encode(outcome))
    if options.repeat > 1 and not options.relayed:
        print(f"{sum(r.result == 'ok' for r in rounds)} of {options.repeat} rounds ok")
    return 0 if outcome.result == "ok" else 1


def _run(options: Options, display: Display, rounds: list[Report]) -> None:
    """All rounds; each report is appended to `rounds` as it comes."""
    wires.needed(options)
    with laboratory(options, rounds) as lab, scene(options, display, lab) as made:
        for number in range(1, options.repeat + 1):
            rounds.append(kill_and_report(made, number))
            display.report(rounds[-1])


def _interrupted(*_: object) -> NoReturn:
    raise SystemExit(143)
