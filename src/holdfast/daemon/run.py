"""A node as a process: `run` starts it, serves until it is told to stop, and leaves everything recorded.

The order of a start is the order of what subscribers need: the socket, the records, the data plane (data flows),
recovery, and only then the control API, imported in a thread. Before data flows nothing is imported that is not
needed for it. Invariant: whatever ends the process, every established session stays recorded; only a stop with
teardown ends sessions.
"""

import os
import signal
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial

import uvloop

from holdfast.core.clock import SECOND, Duration, Instant
from holdfast.core.errors import LocalError
from holdfast.daemon import memory, planes, systemd, takeover
from holdfast.daemon.accounting import Accounting
from holdfast.daemon.api_host import ApiHost
from holdfast.daemon.clock import Chance, monotonic_us, utc_us
from holdfast.daemon.config_keys import Config
from holdfast.daemon.control import NodeControl
from holdfast.daemon.device import DeviceWatch, Watched
from holdfast.daemon.effects import ERROR, INFO, Effect, Log, Want
from holdfast.daemon.line import NO_TRAFFIC
from holdfast.daemon.logs import Lines, log_to
from holdfast.daemon.node import Node
from holdfast.daemon.routes import device_spec
from holdfast.daemon.runner import Runner
from holdfast.dataplane import tundev
from holdfast.dataplane.contract import DataPlane
from holdfast.dataplane.reconcile import reconcile
from holdfast.protocol.tunnel import TunnelState
from holdfast.records import Counters, SessionRecord, session_key
from holdfast.state.errors import JournalError
from holdfast.state.journal import Saved

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Held back during the start, and for ever in other threads."""

SWITCH_INTERVAL_S = 0.0005
"""How long the journal's thread waits for the interpreter beside a busy loop: commits take 2 to 5 ms, not 90."""

API_AT_LATEST_S = 3.0
"""The API comes after synchronisation, or after this time if a peer lets us wait for it."""

TEARDOWN_PATIENCE: Duration = 30 * SECOND
"""How long a teardown waits for peers to acknowledge."""

STOPPING_TIME: Duration = 5 * SECOND
"""How long the rest of a stop may take, as systemd is told."""

STEP_S = 0.05
STDERR = 2


def run(
    config: Config,
    *,
    data_flows: Callable[[], None] = lambda: None,
    make: "Callable[[Config, ExitStack], Daemon] | None" = None,
) -> int:
    """Run a node until SIGTERM, SIGINT or a command stops it; returns the exit status.

    `data_flows` is called at that moment of the start; `make` makes another kind of daemon.
    Raises LocalError when the node cannot start.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    memory.hold()
    with ExitStack() as at_end:
        daemon = (make or Daemon)(config, at_end)
        daemon.start(data_flows)
        daemon.serve()
    return 0


class Daemon:
    """Everything of a running node. What is opened is closed in reverse order by the stack that it is given."""

    def __init__(self, config: Config, at_end: ExitStack) -> None:
        """Take the socket, the records and the data plane. Raises LocalError."""
        self._config = config
        self._loop: AbstractEventLoop = uvloop.new_event_loop()
        at_end.callback(self._loop.close)
        lines = Lines(STDERR, self._loop.call_soon)
        at_end.callback(lines.flush)
        self._log_line = log_to(lines, os.environ, form=config.log.format, level=config.log.level)
        self._stamp_all = config.log.format == "json"
        self._started_utc_us = utc_us()
        self._notifier = systemd.notifier(os.environ)
        at_end.callback(self._notifier.close)
        takeover.make_directories(config)
        self._loop.set_exception_handler(self._on_loop_error)
        self._udp = takeover.take_socket(config, self._notifier, self.log, at_end)
        recorded = takeover.take_records(config, self._loop, self._on_health, self.log, at_end)
        journal, self._saved, self._alive = recorded.journal, recorded.saved, recorded.alive
        self._device = device_spec(config, self._saved.sessions)
        self._plane, watched, self._counted = self._take_plane(at_end)
        self._node = Node(config, Chance().take, utc_us, self._traffic)
        self._runner = Runner(
            self._node,
            self._udp,
            self._plane,
            journal.submit,
            self._loop,
            monotonic_us,
            self.log,
            recorded.note,
            recorded.note_call,
        )
        self._device_watch = self._watch_device(watched)
        self._control = NodeControl(
            self._node,
            self._runner,
            self._udp,
            self._plane,
            journal,
            monotonic_us,
            self.stop,
            self._loop,
            self.log,
            started_utc_us=self._started_utc_us,
            quarantined=len(self._saved.quarantined),
            tables=recorded.tables,
        )
        self._accounting = Accounting(
            self._node.lines,
            self._plane,
            self._loop,
            lambda effect: self._carry_out((effect,)),
            self._runner.report,
        )
        self._api = ApiHost(self._control, config.paths.control_socket, self._loop, self.log)
        self._teardown_until: Instant | None = None
        self._leaving = False
        self._datagrams = 0

    def _take_plane(self, at_end: ExitStack) -> planes.Taken:
        taken = planes.take(self._config, self._device, self._udp.socket, self.log)
        at_end.callback(self._let_go, taken.plane)
        return taken

    def _watch_device(self, watched: Watched | None) -> DeviceWatch | None:
        if self._device is None or watched is None:
            return None
        attach = partial(tundev.attach, self._device)
        return DeviceWatch(watched, attach, self._loop, self.log, self._runner.report)

    # Starting.

    def start(self, data_flows: Callable[[], None]) -> None:
        """Bring back what is recorded: first its data, then its control connections."""
        saved, self._saved = self._saved, Saved()
        for event in takeover.news(self._config, self._udp.address, saved):
            self.log(event)
        now = monotonic_us()
        effects = self._node.start(saved, now)
        self._resume(saved.sessions)
        wanted = 1 + max((i for i, effect in enumerate(effects) if isinstance(effect, Want)), default=-1)
        self._bring_back(effects[:wanted])
        self._loop.add_reader(self._udp.fileno(), self._runner.on_udp_readable)
        if self._device_watch is not None:
            self._device_watch.begin()
        self._say("node.data_flows", sessions=len(saved.sessions))
        data_flows()
        self._carry_out(effects[wanted:])
        memory.keep_all()

    def _resume(self, sessions: Iterable[SessionRecord]) -> None:
        """Tell the plane where its counting begins, for sessions that it did not count before."""
        counted, self._counted = self._counted, {}
        bases = ((session_key(s.tunnel_id, s.local_id), s.counter_base) for s in sessions)
        self._plane.resume(
            {
                key: base.at_least(counted.get(key, base))
                for key, base in bases
                if base != NO_TRAFFIC or key in counted
            }
        )

    def _bring_back(self, effects: Sequence[Effect]) -> None:
        """Make the data plane agree with what is recorded, and read back that it does."""
        want = {effect.entry.key: effect.entry for effect in effects if isinstance(effect, Want)}
        try:
            _, wrong = reconcile(self._plane, want)
        except LocalError:  # one that cannot forward: the others do, and the runner tells which
            self._carry_out([effect for effect in effects if isinstance(effect, Want)])
            wrong = self._plane.differences(want)
        if wrong:
            self._say("dataplane.mismatch", ERROR, missing=len(wrong.put), foreign=len(wrong.delete))
        self._plane.begin()
        self._carry_out([effect for effect in effects if not isinstance(effect, Want)])

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        self._runner.perform(lambda now: effects)

    def serve(self) -> None:
        """Serve until `stop`."""
        loop = self._loop
        for stop_signal in STOP_SIGNALS:
            loop.add_signal_handler(stop_signal, self.stop, False)
        loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOP_SIGNALS)
        loop.call_later(API_AT_LATEST_S, self._api.want)
        loop.call_later(1.0, self._every_second)
        self._accounting.begin()
        self._notifier.store(self._udp.fileno())
        self._notifier.ready(f"{len(self._node.lines)} sessions recorded")
        if (interval := systemd.watchdog_interval(os.environ, os.getpid())) is not None:
            self._sign_of_life(interval / SECOND)
        loop.run_forever()
        self._api.end()

    # Events.

    def _traffic(self, key: int) -> Counters | None:
        """See `Links`. A plane that fails is reported by `Accounting`; here it costs an echo that need not be."""
        try:
            return self._plane.counters(key)
        except LocalError:
            return None

    def log(self, log: Log) -> None:
        """Write an event; the API is imported once the node is synchronised."""
        if self._stamp_all or log.event.startswith("node."):
            log = Log(log.event, {**log.fields, "monotonic_us": monotonic_us()}, log.level)
        self._log_line(log)
        if log.event == "node.synchronised":
            self._loop.call_soon(self._api.want)

    def _say(self, event: str, level: int = INFO, /, **fields: object) -> None:
        self.log(Log(event, fields, level))

    def _on_health(self, error: JournalError | None) -> None:
        if error is not None:
            self._say("journal.failed", ERROR, text=str(error))
        self._runner.perform(lambda now: self._node.journal_health(error is None))

    def _on_loop_error(self, loop: AbstractEventLoop, context: dict[str, object]) -> None:
        fault = context.get("exception")
        self._runner.report(
            fault if isinstance(fault, BaseException) else None, str(context.get("message", ""))
        )

    # Housekeeping.

    def _every_second(self) -> None:
        seen, self._datagrams = self._datagrams, self._runner.datagrams
        memory.tidy(idle=self._datagrams - seen < 10)
        self._alive(utc_us())
        try:
            self._plane.tend()
        except LocalError as error:
            self._say("dataplane.failed", ERROR, text=str(error))
        self._loop.call_later(1.0, self._every_second)

    def _sign_of_life(self, interval_s: float) -> None:
        self._notifier.watchdog()
        self._loop.call_later(interval_s, self._sign_of_life, interval_s)

    # Stopping.

    def stop(self, teardown: bool) -> None:
        """Leave the loop; with `teardown` only after the peers have acknowledged the end of every tunnel."""
        if not teardown or self._teardown_until is not None:
            self._leave()
            return
        self._say("node.teardown", tunnels=len(self._node.endpoint.tunnels), sessions=len(self._node.lines))
        self._notifier.stopping("ending every session")
        self._notifier.extend_timeout(TEARDOWN_PATIENCE + STOPPING_TIME)
        self._teardown_until = monotonic_us() + TEARDOWN_PATIENCE
        self._runner.perform(self._node.teardown)
        self._leave_when_torn_down()

    def _leave_when_torn_down(self) -> None:
        unheard = any(
            tunnel.established or (tunnel.state is TunnelState.CLOSING and not tunnel.channel.idle)
            for tunnel in self._node.endpoint.tunnels.values()
        )
        if (self._runner.settled and not unheard) or monotonic_us() >= (self._teardown_until or 0):
            self._leave()
        else:
            self._loop.call_later(STEP_S, self._leave_when_torn_down)

    def _leave(self) -> None:
        if self._leaving:
            return
        self._leaving = True
        self._notifier.stopping()
        self._say("node.stopped", sessions=len(self._node.lines))
        self._control.traces.end_all("the node stops")
        self._accounting.flush()
        self._loop.remove_reader(self._udp.fileno())
        if self._device_watch is not None:
            self._device_watch.end()
        self._loop.stop()

    def _let_go(self, plane: DataPlane) -> None:
        plane.close()
        if self._teardown_until is not None and self._device is not None:
            planes.remove_pins(self._config, self.log)
            tundev.teardown(self._device)
            self._say("device.removed", device=self._device.name)
