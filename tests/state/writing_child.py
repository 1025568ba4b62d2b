"""A process that writes to a journal as fast as it can and says what was answered, until somebody kills it.

Lines: `+N` when session N is durable, `-N` when its removal is. Every third session is removed again.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Semaphore

from holdfast.records import session_key
from holdfast.records.writes import ForgetSession, Save
from holdfast.state.journal import Journal, JournalError, Pace
from state.samples import session, tunnel

TUNNEL = 7
LAG = 40
IN_FLIGHT = 100


def main() -> None:
    journal = Journal.open(Path(sys.argv[1]), pace=Pace(gather_s=0.0005))
    room = Semaphore(IN_FLIGHT)

    def says(line: str) -> Callable[[JournalError | None], None]:
        def done(error: JournalError | None) -> None:
            room.release()
            if error is None:
                os.write(1, line.encode())

        return done

    journal.submit([Save(tunnel(TUNNEL))], says("+0\n"))
    for n in range(1, 60_000):
        room.acquire()
        journal.submit([Save(session(TUNNEL, n))], says(f"+{n}\n"))
        if n > LAG and (n - LAG) % 3 == 0:
            room.acquire()
            journal.submit([ForgetSession(session_key(TUNNEL, n - LAG))], says(f"-{n - LAG}\n"))


if __name__ == "__main__":
    main()
