"""The sessions of a node: they come, get a link, are restored from their records, and go.

Invariant: the address of one that ends goes back to its pool only after its record is gone (`Persist` before
`Release`).
"""

from collections.abc import Iterable

from holdfast.aaa.local import LocalAuthenticator
from holdfast.core.clock import Instant
from holdfast.core.errors import LocalError
from holdfast.core.ids import RandomBytes
from holdfast.daemon import saving
from holdfast.daemon.config_keys import Config
from holdfast.daemon.effects import Effect, Log, Release, Unwant
from holdfast.daemon.lac import Lac
from holdfast.daemon.line import Line
from holdfast.daemon.links import NOTHING, Answers, Links
from holdfast.daemon.proofs import Proofs
from holdfast.daemon.settings import server_config
from holdfast.ppp.link import Link
from holdfast.protocol import effects as l2tp
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import SessionRecord, Side, session_key
from holdfast.wire.codes import Cdn


class Sessions:
    """Makes and ends the `lines`."""

    def __init__(
        self,
        config: Config,
        lines: dict[int, Line],
        links: Links,
        endpoint: Endpoint,
        aaa: LocalAuthenticator,
        lac: Lac,
        proofs: Proofs,
        random: RandomBytes,
    ) -> None:
        self._server = server_config(config)
        self._lines = lines
        self._links = links
        self._endpoint = endpoint
        self._aaa = aaa
        self._lac = lac
        self._dialler = lac.dialler
        self._proofs = proofs
        self._random = random
        self._unsaved: set[int] = set()

    def up(self, up: l2tp.SessionUp, now: Instant, out: list[Effect]) -> Answers:
        """One is established at the L2TP level: PPP begins."""
        tunnel = self._endpoint.tunnels.get(up.tunnel_id)
        session = tunnel.sessions.get(up.session_id) if tunnel is not None else None
        if tunnel is None or session is None:
            return NOTHING  # it has ended in the same input: its SessionDown follows
        key = session_key(up.tunnel_id, up.session_id)
        if session.side is Side.LNS:
            line = Line(key, tunnel, session, Link(self._server, self._random))
        else:
            name = self._dialler.name_of(key)
            client = self._lac.client(name) if name is not None else None
            if name is None or client is None:
                return self._endpoint.close_session(up.tunnel_id, up.session_id, now)
            line = Line(key, tunnel, session, Link(client, self._random), name)
            self._dialler.connected(name, now)
        self._lines[key] = line
        return self._links.start(line, now, out)

    def down(self, down: l2tp.SessionDown, now: Instant, out: list[Effect]) -> None:
        """One is over."""
        key = session_key(down.tunnel_id, down.session_id)
        line = self._lines.pop(key, None)
        fields: dict[str, object] = {
            "tunnel": down.tunnel_id,
            "session": down.session_id,
            "cause": down.cause.value,
            "result": int(down.result),
            "error": int(down.error),
            "text": down.text,
        }
        if line is not None:
            fields["user"] = line.user
            fields["address"] = line.address
            lost = down.cause is l2tp.Cause.LOCAL and down.result == Cdn.LOSS_OF_CARRIER
            self._proofs.over(key, silent=lost and not line.link.heard, now=now, out=out)
            self._links.over(line)
            if line.wanted:
                out.append(Unwant(key, key))
            if line.saved:
                saving.forget(self._endpoint.ctx, line, out)
            if line.address and not line.subscriber:
                out.append(Release(key, line.pool, line.address))
        out.append(Log("session.down", fields))
        self._dialler.lost(key, down.cause, down.text, now)

    def peer_moved(self, tunnel: Tunnel, out: list[Effect]) -> None:
        """The peer of a tunnel has another address: so have the entries of its sessions."""
        for session in tunnel.sessions.values():
            line = self._lines.get(session_key(tunnel.local_id, session.local_id))
            if line is not None and line.wanted:
                out.append(self._links.want(line))

    # Records.

    def restore(self, records: Iterable[SessionRecord], now: Instant, out: list[Effect]) -> list[int]:
        """Take over what is recorded. Returns the keys that nobody here has a use for: their peers are to hear so."""
        orphans: list[int] = []
        for record in records:
            try:
                of_use = self._restore(record, now, out)
            except Exception as e:  # noqa: BLE001 - one record that cannot be used must not keep the others away
                saving.set_aside(record, f"{type(e).__name__}: {e}", out)
                of_use = False
            if not of_use:
                orphans.append(session_key(record.tunnel_id, record.local_id))
        return orphans

    def _restore(self, record: SessionRecord, now: Instant, out: list[Effect]) -> bool:
        """One recorded session: its link is open, its entry is wanted, and nothing is said to anybody.

        False: its subscriber is one of ours and has no use for it. Whatever this raises, the session is not among the
        lines.
        """
        tunnel = self._endpoint.tunnels.get(record.tunnel_id)
        if tunnel is None or record.ppp is None:
            raise LocalError("it has no tunnel" if tunnel is None else "it has no PPP")
        key = session_key(record.tunnel_id, record.local_id)
        client = self._lac.client(record.subscriber) if record.subscriber else None
        link = Link.restore(client or self._server, record.ppp, self._random, now)
        line = Line(key, tunnel, tunnel.sessions[record.local_id], link, record.subscriber)
        line.take_over(record)
        want = self._links.want(line)
        if record.subscriber:
            of_use = client is not None and self._dialler.restored_session(
                record.subscriber, key, record.tunnel_id, line.address
            )
        else:
            line.pool = self._aaa.reserve(record)
            of_use = True
        self._lines[key] = line
        self._proofs.expect(line)
        self._links.restored(line)
        out.append(want)
        return of_use

    def commit_failed(self, line: Line, now: Instant) -> Answers:
        """Its record cannot be written: a new session ends, one that runs keeps its older record for now."""
        if line.recorded:
            self._unsaved.add(line.key)
            return NOTHING
        return self._endpoint.close_session(
            line.tunnel_id,
            line.session_id,
            now,
            Cdn.NO_FACILITIES_TEMPORARY,
            text="state cannot be recorded",
        )

    def save_again(self, out: list[Effect]) -> None:
        """Write the newer records that could not be written."""
        keys, self._unsaved = self._unsaved, set()
        for line in (self._lines[key] for key in keys if key in self._lines):
            if line.link.record is not None:
                saving.save(self._endpoint.ctx, line, line.link.record, out)
                if line.wanted:
                    out.append(self._links.want(line))
