"""What a process that starts has from the one before it: the UDP socket, and everything that is recorded.

The data plane, which it may have from there too, is a matter of `planes`. What is opened is closed by the stack that
is given.
"""

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from msgspec.structs import replace

from holdfast import __version__
from holdfast.core.errors import LocalError
from holdfast.daemon import systemd
from holdfast.daemon.config_keys import Config
from holdfast.daemon.effects import ERROR, WARNING, Address, Log
from holdfast.daemon.runner import Note, NoteCall, note_no_call, note_nothing
from holdfast.daemon.udp import UdpSocket, adopt_udp, open_udp
from holdfast.state.calls import CallTable, calls_path
from holdfast.state.errors import JournalError
from holdfast.state.journal import Done, Journal, Saved
from holdfast.state.told import Table, told_path

NO_NUMBERS: Final = "restarts go by the journal's sequence numbers"
NO_CALLS: Final = "a restart amid a call's set-up leaves the call to its peer's time-outs"

Beside = TypeVar("Beside", Table, CallTable)
"""A table in a file of its own beside the journal."""


class Recorded(NamedTuple):
    """The journal, what it holds with what the tables beside it add, what notes in these (`alive` a sign of life, in
    microseconds of UTC), and these.
    """

    journal: Journal
    saved: Saved
    note: Note
    note_call: NoteCall
    alive: Callable[[int], object]
    tables: tuple[Table | CallTable, ...]


def make_directories(config: Config) -> None:
    """Where things are kept. Raises LocalError."""
    for key, path in (("run_dir", config.paths.run_dir), ("state_dir", config.paths.state_dir)):
        try:
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            raise LocalError(f"{path} cannot be made ({e.strerror}): set paths.{key}") from None


def take_socket(
    config: Config, notifier: systemd.Notifier, log: Callable[[Log], None], at_end: ExitStack
) -> UdpSocket:
    """The socket that systemd has kept for us, or one of the same address. Raises LocalError."""
    listen = config.listen
    address, wanted = (listen.address, listen.port), listen.receive_buffer_mib << 20
    passed = list(chain.from_iterable(systemd.passed_fds(os.environ, os.getpid()).values()))
    udp = adopt_udp(passed, address, wanted)
    if len(passed) > (udp is not None):  # one of another address would keep that port taken
        notifier.unstore()
    udp = udp or open_udp(address, wanted)
    at_end.callback(udp.close)
    if udp.receive_buffer < wanted:
        fields = {
            "granted": udp.receive_buffer,
            "wanted": wanted,
            "remedy": f"sysctl -w net.core.rmem_max={wanted}, or grant CAP_NET_ADMIN",
        }
        log(Log("udp.small_buffer", fields, WARNING))
    return udp


def take_records(
    config: Config,
    loop: AbstractEventLoop,
    on_health: Callable[[JournalError | None], None],
    log: Callable[[Log], None],
    at_end: ExitStack,
) -> Recorded:
    """The journal and the tables beside it; `on_health` hears in the loop when it fails or recovers.

    Raises LocalError.
    """

    def deliver(waiting: list[Done], error: JournalError | None) -> None:
        loop.call_soon_threadsafe(_answer, waiting, error)

    def tell(error: JournalError | None) -> None:
        loop.call_soon_threadsafe(on_health, error)

    path = Path(config.paths.journal)
    journal = Journal.open(
        path,
        synchronous=config.journal.synchronous,
        deliver=deliver,
        on_health=tell,
    )
    at_end.callback(journal.close)
    saved = journal.load()

    numbers = _beside(Table, told_path(path), "told.unavailable", NO_NUMBERS, log, at_end)
    calls = _beside(CallTable, calls_path(path), "calls.unavailable", NO_CALLS, log, at_end)
    if numbers is not None:  # what the last process told its peers is more exact than its records
        saved = numbers.catch_up(saved)
    if calls is not None:
        saved = replace(saved, calls=calls.left().peer_session)
    return Recorded(
        journal,
        saved,
        numbers.note if numbers is not None else note_nothing,
        calls.note if calls is not None else note_no_call,
        numbers.alive if numbers is not None else lambda utc_us: None,
        tuple(table for table in (numbers, calls) if table is not None),
    )


def news(config: Config, address: Address, saved: Saved) -> Iterator[Log]:
    """What operators hear of a start at `address` with what was recorded."""
    started = {
        "name": config.node.name,
        "role": config.node.role,
        "version": __version__,
        "pid": os.getpid(),
        "address": address[0],
        "port": address[1],
        "tunnels": len(saved.tunnels),
        "sessions": len(saved.sessions),
    }
    yield Log("node.started", started)
    for record in saved.quarantined:
        ids = {"kind": record.kind.value, "tunnel": record.tunnel_id, "session": record.session_id}
        yield Log("record.quarantined", {**ids, "reason": record.reason}, ERROR)
    moved = sum((t.local_address, t.local_port) != address for t in saved.tunnels)
    if moved:
        text = "peers know these tunnels by another address of ours and may refuse their recovery"
        yield Log("node.address_changed", {"tunnels": moved, "text": text}, WARNING)


def _beside(
    table: type[Beside],
    path: Path,
    unavailable: str,
    text: str,
    log: Callable[[Log], None],
    at_end: ExitStack,
) -> Beside | None:
    """A table beside the journal; a node does without where there can be none."""
    opened = table.open(path)
    if opened is None:
        log(Log(unavailable, {"path": str(path), "text": text}, WARNING))
    else:
        at_end.callback(opened.close)
    return opened


def _answer(waiting: list[Done], error: JournalError | None) -> None:
    for done in waiting:
        done(error)
