"""The runner: feeds the node with datagrams, deadlines and commits, and carries out its effects in order.

One turn of the event loop reads a whole batch, runs its effects, submits all their writes to the journal as
one group and arms one timer. Everything here runs in the event loop's thread.

Invariants: effects of one lane happen in the order in which the node gave them, but for deletions, which go into
the commit that their lane waits for if that has not been submitted and no record waits behind it. A `Persist` holds
back the rest of its lane, and nothing else, until it is committed. After `COMMIT_LIMIT`, or an error, the node hears
`commit_failed`; of what waited, all that admits something is dropped and all that takes something away is
done. What waits for deletions alone is said all the same: the journal owes them. No exception of the node's code
ends the process.
"""

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.core.errors import LocalError
from holdfast.daemon.bursts import Bursts
from holdfast.daemon.effects import (
    ERROR,
    Address,
    Called,
    Effect,
    Lane,
    Log,
    Persist,
    Release,
    Send,
    Unwant,
    Want,
)
from holdfast.dataplane.contract import CONTROL, DataPlane, Entry
from holdfast.dataplane.inbox import Inbox
from holdfast.records.writes import Save, Write, never_waited_for
from holdfast.state.errors import JournalError

COMMIT_LIMIT: Duration = 500 * MILLISECOND
"""How long a lane waits for its commit: a new session is refused rather than kept hanging."""

ASK_AGAIN: Duration = 1 * SECOND
"""How often a journal that fails is asked whether it has deleted what stands for a free address."""


class Node(Protocol):
    """What the runner needs of a node: inputs in, effects out. `daemon.node.Node` is the real one."""

    def control(self, data: bytes, source: Address, now: Instant) -> Iterable[Effect]: ...
    def ppp(self, key: int, payload: bytes, source: Address, now: Instant) -> Iterable[Effect]: ...
    def timer(self, now: Instant) -> Iterable[Effect]: ...
    def deadline(self) -> Instant | None: ...
    def committed(self, lane: Lane) -> None: ...
    def commit_failed(self, lane: Lane, now: Instant) -> Iterable[Effect]: ...
    def release(self, pool: str, address: str) -> None: ...


class Socket(Protocol):
    """What the runner needs of the node's UDP socket (`daemon.udp.UdpSocket`)."""

    def read(self, inbox: Inbox) -> int: ...
    def send(self, data: bytes, to: Address) -> None: ...
    def send_burst(self, datagrams: Sequence[bytes], to: Address) -> bool: ...


Note: TypeAlias = Callable[[Mapping[Lane, bytes]], object]
"""Hears of the control messages that are about to leave, the last of each tunnel."""


def note_nothing(said: Mapping[Lane, bytes]) -> None:
    """For a runner whose node never comes back."""


NoteCall: TypeAlias = Callable[[int, int, int, int], object]
"""Hears of a call's ids: our tunnel and session, the peer's tunnel and session."""


def note_no_call(tunnel_id: int, session_id: int, peer_tunnel: int, peer_session: int) -> None:
    """As `note_nothing`."""


def deletes(effect: Persist) -> bool:
    """Whether nothing of it is a record."""
    return not any(isinstance(write, Save) for write in effect.writes)


class Handle(Protocol):
    """A timer that can be taken back."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """The part of an event loop that keeps time."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Handle: ...


Barrier: TypeAlias = tuple[Lane, list[Effect], bool]
"""A lane that waits, what waits in it, and whether it waits for deletions alone."""


class WriteGroup:
    """The writes of one turn, on their way to the disk, with the lanes that wait for them.

    `releases` wait for them too, and for every deletion that was submitted earlier; so do `removed`, the sessions that
    left the data plane before.
    """

    __slots__ = ("barriers", "finished", "releases", "removed", "submitted_at")

    def __init__(
        self,
        barriers: list[Barrier],
        releases: list[Release],
        removed: list[int],
        submitted_at: Instant,
    ) -> None:
        self.barriers = barriers
        self.releases = releases
        self.removed = removed
        self.submitted_at = submitted_at
        self.finished = False


Done: TypeAlias = Callable[[JournalError | None], None]

Submit: TypeAlias = Callable[[Sequence[Write], Done | None], None]
"""Hands writes to the journal; it answers in the event loop's thread, with None for success."""


class Runner:
    """Joins a node, a UDP socket, a data plane and a journal on one event loop."""

    def __init__(
        self,
        node: Node,
        udp: Socket,
        plane: DataPlane,
        submit: Submit,
        loop: Loop,
        clock: Callable[[], Instant],
        log: Callable[[Log], None],
        note: Note = note_nothing,
        note_call: NoteCall = note_no_call,
    ) -> None:
        self._node = node
        self._udp = udp
        self._bursts = Bursts(udp.send, udp.send_burst, note)
        self._note_call = note_call
        self._send = self._bursts.add
        self._plane = plane
        self._submit = submit
        self._loop = loop
        self._clock = clock
        self._log = log
        self._inbox = Inbox()
        self._held: dict[Lane, list[Effect]] = {}
        self._writes: list[Write] = []
        self._barriers: list[Barrier] = []
        self._waiting: set[Lane] = set()
        self._groups: deque[WriteGroup] = deque()
        self._owed: list[Release] = []
        self._removed: list[int] = []
        self._watchdog: Handle | None = None
        self._timer: Handle | None = None
        self._timer_at: Instant | None = None
        self.datagrams = 0
        self.faults = 0
        self.commits = 0
        self.commit_failures = 0

    # Inputs: each is one turn.

    def on_udp_readable(self) -> None:
        """Feed the node with one batch of what has arrived; what is left brings the next turn."""
        inbox = self._inbox
        count = self._udp.read(inbox)
        if not count:
            return
        self.datagrams += count
        now = self._clock()
        node = self._node
        control, ppp = node.control, node.ppp
        for key, data, source in self._plane.receive(inbox):
            try:
                self.run(control(data, source, now) if key == CONTROL else ppp(key, data, source, now))
            except Exception as fault:  # noqa: BLE001 - the last line of defence: one datagram never ends the node
                self.report(fault)
        self._end_turn(now)

    def perform(self, step: Callable[[Instant], Iterable[Effect] | None]) -> bool:
        """Run one input of the node that is none of the above, such as a command; False if it gives None.

        Raises what the node raises, after reporting it.
        """
        now = self._clock()
        try:
            effects = step(now)
        except Exception as fault:
            self.report(fault)
            raise
        if effects is not None:
            self._guarded(lambda _: effects, now)
            self._end_turn(now)
        return effects is not None

    def _on_deadline(self) -> None:
        self._timer = self._timer_at = None
        now = self._clock()
        self._guarded(self._node.timer, now)
        self._end_turn(now)

    def _guarded(self, step: Callable[[Instant], Iterable[Effect]], now: Instant) -> None:
        try:
            self.run(step(now))
        except Exception as fault:  # noqa: BLE001 - the last line of defence: nothing ends the node
            self.report(fault)

    def show_sends(self, show: Callable[[Lane, bytes, Address], None] | None) -> None:
        """Show whatever the node sends, with its lane, or no longer."""
        add = self._bursts.add
        if show is None:
            self._send = add
            return

        def add_and_show(lane: Lane, data: bytes, to: Address) -> None:
            add(lane, data, to)
            show(lane, data, to)

        self._send = add_and_show

    # Effects.

    def run(self, effects: Iterable[Effect]) -> None:
        """Carry out effects in order, as far as their lanes are not held back by a commit."""
        held = self._held
        entries: list[Entry] = []
        for effect in effects:
            if isinstance(effect, Send) and not held and not entries:  # the receive path: nearly every effect
                self._send(effect.lane, effect.data, effect.to)
                continue
            if isinstance(effect, Log):
                self._log(effect)
                continue
            if isinstance(effect, Called):
                self._note_call(effect.tunnel_id, effect.session_id, effect.peer_tunnel, effect.peer_session)
                continue
            if held and (queue := held.get(effect.lane)) is not None:
                if isinstance(effect, Persist) and effect.lane in self._waiting:
                    if deletes(effect):  # many sessions of a tunnel end with one commit
                        self._writes.extend(effect.writes)
                        continue
                    self._waiting.discard(effect.lane)  # no deletion overtakes the record that it deletes
                queue.append(effect)
                continue
            if isinstance(effect, Want):
                entries.append(effect.entry)
                continue
            if entries:
                self._install(entries)
                entries = []
            if isinstance(effect, Send):
                self._send(effect.lane, effect.data, effect.to)
            elif isinstance(effect, Persist):
                self._writes.extend(effect.writes)
                if not all(map(never_waited_for, effect.writes)):
                    held[effect.lane] = queue = []
                    self._barriers.append((effect.lane, queue, deletes(effect)))
                    self._waiting.add(effect.lane)
            elif isinstance(effect, Unwant):
                self._remove(effect.key)
            elif isinstance(effect, Release):
                self._node.release(effect.pool, effect.address)
        if entries:
            self._install(entries)

    def _install(self, entries: list[Entry]) -> None:
        try:
            self._plane.install(entries)
        except LocalError:
            for entry in entries:
                try:
                    self._plane.install((entry,))
                except LocalError as fault:
                    self.report(fault)

    def _remove(self, key: int) -> None:
        self._removed.append(key)
        try:
            self._plane.remove((key,))
        except LocalError as fault:
            self.report(fault)

    # Commits.

    def _end_turn(self, now: Instant) -> None:
        """Send what the turn said, submit what it wants written, move the timer if the next deadline came nearer."""
        self._bursts.flush()
        if self._writes or self._owed:
            self._commit(now)
        at = self._node.deadline()
        if at is not None and (self._timer_at is None or at < self._timer_at):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_later(_seconds(at - now), self._on_deadline)

    def _commit(self, now: Instant) -> None:
        writes, self._writes = self._writes, []
        releases, self._owed = self._owed, []
        if not self._barriers and not releases:  # nobody waits: they ride along with another commit
            self._submit(writes, None)
            return
        group = WriteGroup(self._barriers, releases, self._removed, now)
        self._removed = []
        self._barriers = []
        self._waiting.clear()
        self._groups.append(group)
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(_seconds(COMMIT_LIMIT), self._on_overdue)
        self._submit(writes, partial(self._on_committed, group))

    def _on_committed(self, group: WriteGroup, error: JournalError | None) -> None:
        now = self._clock()
        group.finished = True
        while self._groups and self._groups[0].finished:
            self._groups.popleft()
        if error is None:
            self.commits += 1
            self._plane.forget(group.removed)
            self._let_go(group)
            self.run(group.releases)
        else:
            self._fail(group, now)
            self._removed += group.removed
            if group.releases:
                self._loop.call_later(_seconds(ASK_AGAIN), partial(self._owe, group.releases))
        self._end_turn(now)

    def _let_go(self, group: WriteGroup) -> None:
        held = self._held
        for lane, queue, _ in group.barriers:
            if held.get(lane) is queue:  # otherwise its time was up, and the lane has gone on without it
                del held[lane]
                self._node.committed(lane)
                try:
                    self.run(queue)
                except Exception as fault:  # noqa: BLE001 - the last line of defence: one lane never ends another
                    self.report(fault)

    def _on_overdue(self) -> None:
        self._watchdog = None
        now = self._clock()
        for group in self._groups:
            left = group.submitted_at + COMMIT_LIMIT - now
            if left > 0:
                self._watchdog = self._loop.call_later(_seconds(left), self._on_overdue)
                break
            self._fail(group, now)
            group.barriers = []
        self._end_turn(now)

    def _fail(self, group: WriteGroup, now: Instant) -> None:
        held = self._held
        for lane, queue, speaks in group.barriers:
            if held.get(lane) is queue:
                del held[lane]
                self.commit_failures += 1
                self._take_away(queue, speaks)
                self._guarded(partial(self._node.commit_failed, lane), now)

    def _owe(self, releases: list[Release]) -> None:
        """See with another commit, empty if need be, whether the journal has got over its deletions."""
        self._owed += releases
        self._end_turn(self._clock())

    def _take_away(self, queue: list[Effect], speaks: bool) -> None:
        """Of effects whose lane failed, do those that are right whatever else failed.

        `speaks`: what is said in this lane depends on no record, up to the next one.
        """
        for effect in queue:
            if isinstance(effect, Send):
                if speaks:
                    self._send(effect.lane, effect.data, effect.to)
            elif isinstance(effect, Unwant):
                self._remove(effect.key)
            elif isinstance(effect, Persist):
                speaks = speaks and deletes(effect)
                self._writes.extend(write for write in effect.writes if not isinstance(write, Save))
            elif isinstance(effect, Release):
                self._owed.append(effect)

    def report(self, fault: BaseException | None, text: str = "") -> None:
        """Count and log what should not have happened."""
        self.faults += 1
        details = "".join(traceback.format_exception(fault)) if fault is not None else ""
        fields: dict[str, object] = {
            "error": type(fault).__name__,
            "text": text or str(fault),
            "traceback": details,
        }
        self._log(Log("node.fault", fields, ERROR))

    @property
    def settled(self) -> bool:
        """Whether every write that was asked for has been answered."""
        return not self._groups and not self._writes

    def counters(self) -> dict[str, int]:
        """What the runner has seen, by name."""
        return {
            "datagrams": self.datagrams,
            "internal_errors": self.faults,
            "commits": self.commits,
            "commit_failures": self.commit_failures,
            "lanes_waiting": len(self._held),
        }


def _seconds(wait: Duration) -> float:
    """As the event loop counts: whole milliseconds, rounded up, so that a timer never comes too early."""
    return max(0, -(-wait // MILLISECOND)) * MILLISECOND / SECOND
