"""The PPP links of a node: frames and timers go in, and what a link wants is carried out.

What is for the outside goes to `out`. A link may end its session, or have the peer of its tunnel asked for a sign of
life: then what the endpoint answers is returned, for the node to take in at once. Invariants: a session's entry is
wanted only after its record (`Persist` before `Want`); an error in one link ends its session (CDN 2/6) and nothing else.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from holdfast.aaa.local import LocalAuthenticator
from holdfast.core.auth import Accept
from holdfast.core.clock import Instant
from holdfast.core.counters import Counter
from holdfast.core.deadlines import Deadlines
from holdfast.daemon import saving
from holdfast.daemon.config_keys import Config
from holdfast.daemon.dialler import Dialler
from holdfast.daemon.effects import ERROR, WARNING, Effect, Log, Send, Want
from holdfast.daemon.line import Line
from holdfast.daemon.proofs import NO_ANSWER, Proofs, Turn
from holdfast.ppp import effects as ppp
from holdfast.ppp.state import Phase
from holdfast.protocol import effects as l2tp
from holdfast.protocol.endpoint import Endpoint
from holdfast.records import Counters, split_key
from holdfast.wire.codes import Cdn, General

Answers: TypeAlias = Sequence[l2tp.Effect]
"""What the endpoint answers to what was asked of it here."""

NOTHING: Final[Answers] = ()

PPP_CAUSES: Final = {
    ppp.Cause.PEER_TERMINATED: Cdn.LOSS_OF_CARRIER,
    ppp.Cause.ECHO_TIMEOUT: Cdn.LOSS_OF_CARRIER,
}
"""What a CDN says when PPP has ended; everything else is an administrative reason."""


class Links:
    """The links of `lines`. `traffic(key)` is what the data plane has counted for a session; None: it cannot tell."""

    def __init__(
        self,
        config: Config,
        lines: Mapping[int, Line],
        endpoint: Endpoint,
        aaa: LocalAuthenticator,
        dialler: Dialler,
        proofs: Proofs,
        traffic: Callable[[int], Counters | None],
    ) -> None:
        self._lines = lines
        self._endpoint = endpoint
        self._aaa = aaa
        self._dialler = dialler
        self._proofs = proofs
        self._local = (config.listen.address, config.listen.port)
        self._largest_mtu = config.ppp.mru
        self._traffic = traffic
        self._deadlines: Deadlines[int] = Deadlines()

    def start(self, line: Line, now: Instant, out: list[Effect]) -> Answers:
        """A new session's link begins."""
        return self._follow(line, line.link.start(now), now, out)

    def restored(self, line: Line) -> None:
        """A link that is open already: it says nothing, and its next echo has a time."""
        line.deadline = line.link.deadline
        self._deadlines.set(line.key, line.deadline)

    def over(self, line: Line) -> None:
        """A session has ended, and its link with it."""
        self._deadlines.set(line.key, None)
        line.link.down()

    def want(self, line: Line) -> Want:
        """That the data plane forwards for an open link."""
        return Want(line.key, line.entry(self._local, self._largest_mtu))

    def hang_up(self, key: int, now: Instant, out: list[Effect]) -> Answers:
        """End a call: PPP first if it is up, so that the peer learns the reason."""
        line = self._lines.get(key)
        if line is not None and line.link.opened:
            return self._follow(line, line.link.close(now), now, out)
        return self._endpoint.close_session(*split_key(key), now)

    def frame(self, line: Line, payload: bytes, now: Instant, out: list[Effect]) -> Answers:
        """A PPP frame from its peer."""
        try:
            return self._follow(line, line.link.receive(payload, now), now, out)
        except Exception as e:  # noqa: BLE001 - a fault of ours must cost no more than its session
            return self._fault(line, e, now, out)

    def deadline(self) -> Instant | None:
        """When the next of `due` is."""
        return self._deadlines.next()

    def due(self, now: Instant) -> list[int]:
        """The keys of those that `timer` is to be called for."""
        return self._deadlines.due(now)

    def timer(self, key: int, now: Instant, out: list[Effect]) -> Answers:
        """A link's timer. A session with a record does not end by it while the tunnel itself is in doubt (K-7)."""
        line, answers = self._lines.get(key), NOTHING
        if line is None:
            return answers
        link = line.link
        if line.data_came(self._traffic) and link.unanswered:
            link.activity(now)
        if line.saved:
            suspect = line.tunnel.suspect
            if suspect != line.held:
                line.held = suspect
                link.hold(suspect)
            elif link.unanswered or not link.opened:
                answers = self._endpoint.probe(line.tunnel_id, now)
        try:
            return (*answers, *self._follow(line, link.timer(now), now, out))
        except Exception as e:  # noqa: BLE001 - a fault of ours must cost no more than its session
            return (*answers, *self._fault(line, e, now, out))

    def prove(self, line: Line, turn: Turn, now: Instant, out: list[Effect]) -> Answers:
        """Ask a recovered session for a sign of life, and its peer too; or end it, because none has come."""
        if line.data_came(self._traffic) and line.link.unanswered:
            line.link.activity(now)
            self._proofs.heard(line.key, now, out)
            return self._follow(line, [], now, out)
        if turn is Turn.END:
            return self._finished(line, ppp.Finished(ppp.Cause.ECHO_TIMEOUT, NO_ANSWER), now)
        answers = self._endpoint.probe(line.tunnel_id, now) if line.link.unanswered else NOTHING
        return (*answers, *self._follow(line, line.link.ask(now), now, out))

    # What a link wants.

    def _follow(self, line: Line, effects: list[ppp.Effect], now: Instant, out: list[Effect]) -> Answers:
        """Carry out what a link wants, and note its next deadline."""
        for effect in effects:
            if isinstance(effect, ppp.Transmit):
                header = line.header or line.make_header()
                out.append(Send(line.key, header + effect.payload, line.tunnel.peer_address))
            elif isinstance(effect, ppp.Authenticate):
                if answers := self._authenticate(line, effect, now, out):
                    return answers
            elif isinstance(effect, ppp.Established):
                if line.subscriber:
                    line.address = effect.record.local_ip
                saving.save(self._endpoint.ctx, line, effect.record, out)
            elif isinstance(effect, ppp.NetworkUp):
                self._network_up(line, now, out)
            elif isinstance(effect, ppp.NetworkDown):
                self._network_down(line, now, out)
            elif isinstance(effect, ppp.Finished):
                return self._finished(line, effect, now)
        if self._lines.get(line.key) is line:
            deadline = line.link.deadline
            if deadline != line.deadline:
                line.deadline = deadline
                self._deadlines.set(line.key, deadline)
        return NOTHING

    def _authenticate(self, line: Line, asked: ppp.Authenticate, now: Instant, out: list[Effect]) -> Answers:
        answer = self._aaa.authenticate(asked.credentials, held=asked.held)
        if isinstance(answer, Accept):
            line.user, line.pool, line.address = answer.user, answer.pool, answer.address
        else:
            self._endpoint.ctx.count(Counter.PPP_AUTH_FAILED)
            fields = {**line.fields, "user": asked.credentials.name, "text": answer.message}
            out.append(Log("ppp.auth_failed", fields, WARNING))
        return self._follow(line, line.link.answer(answer, now), now, out)

    def _network_up(self, line: Line, now: Instant, out: list[Effect]) -> None:
        line.wanted = True
        out.append(self.want(line))
        out.append(Log("ppp.up", {**line.fields, "user": line.user, "address": line.address}))
        if line.subscriber:
            self._dialler.opened(line.subscriber, line.address, now)

    def _network_down(self, line: Line, now: Instant, out: list[Effect]) -> None:
        """The peer negotiates anew, or takes its leave; the entry stays meanwhile, since the address stays."""
        if line.link.phase < Phase.TERMINATE:
            out.append(Log("ppp.renegotiated", line.fields, WARNING))
        if line.subscriber:
            self._dialler.renegotiates(line.subscriber, now)

    def _finished(self, line: Line, finished: ppp.Finished, now: Instant) -> Answers:
        text = finished.text or finished.cause.value
        result = PPP_CAUSES.get(finished.cause, Cdn.ADMINISTRATIVE)
        return self._endpoint.close_session(line.tunnel_id, line.session_id, now, result, text=text)

    def _fault(self, line: Line, e: Exception, now: Instant, out: list[Effect]) -> Answers:
        self._endpoint.ctx.count(Counter.MACHINE_FAULT)
        details = "".join(traceback.format_exception(e))
        out.append(Log("machine.fault", {**line.fields, "traceback": details}, ERROR))
        return self._endpoint.close_session(
            line.tunnel_id,
            line.session_id,
            now,
            Cdn.GENERAL_ERROR,
            General.VENDOR_ERROR,
            "internal error",
            l2tp.Cause.FAULT,
        )
