"""One endpoint under test, and a peer whose every message the test writes by hand. Time is virtual."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from msgspec.structs import replace

from holdfast.core.clock import SECOND, Instant
from holdfast.core.counters import Counter
from holdfast.protocol.effects import Address, Called, Effect, Persist, Send, SessionDown, SessionUp
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.session import Call, Session
from holdfast.protocol.settings import ChannelSettings, EndpointSettings, FailoverSettings, PeerSettings
from holdfast.protocol.tunnel import Tunnel
from holdfast.records import SessionRecord, TunnelRecord, session_key
from holdfast.records.writes import ForgetSession, ForgetTunnel, Save
from holdfast.wire.auth import challenge_response
from holdfast.wire.avp import EncodedAvp
from holdfast.wire.dictionary import (
    ASSIGNED_SESSION_ID,
    ASSIGNED_TUNNEL_ID,
    CALL_SERIAL_NUMBER,
    CHALLENGE,
    CHALLENGE_RESPONSE,
    FAILOVER_CAPABILITY,
    FAILOVER_SESSION_STATE,
    FRAMING_CAPABILITIES,
    FRAMING_TYPE,
    HOST_NAME,
    PROTOCOL_VERSION,
    RECEIVE_WINDOW_SIZE,
    RESULT_CODE,
    SUGGESTED_CONTROL_SEQUENCE,
    TIE_BREAKER,
    TUNNEL_RECOVERY,
    TX_CONNECT_SPEED,
    FailoverCap,
    ResultCode,
    SessionState,
    SuggestedSequence,
    TunnelRecovery,
)
from holdfast.wire.header import control_header, parse_control
from holdfast.wire.messages import Message, Msg, decode, encode

HERE: Address = ("192.0.2.1", 1701)
PEER: Address = ("192.0.2.9", 1701)
STRANGER: Address = ("203.0.113.66", 1701)
SECRET = b"failover-secret"
CHALLENGE_OF_PEER = bytes(range(0x20, 0x30))
TIE = bytes(range(1, 9))
C1 = FailoverCap(True, False, 60_000)
LOSES = b"\xff" * 8
WINS = b"\x00" * 8


class Heard(NamedTuple):
    """A datagram that the endpoint sent; `msg` is None for a ZLB."""

    at: Instant
    to: Address
    tunnel_id: int
    session_id: int
    ns: int
    nr: int
    msg: Message | None
    data: bytes

    @property
    def type(self) -> int:
        """The message type; 0 for a ZLB."""
        return self.msg.type if self.msg is not None else 0

    @property
    def body(self) -> Message:
        """The message, which must not be a ZLB."""
        assert self.msg is not None
        return self.msg


def types(heard: Sequence[Heard]) -> list[int]:
    """What was said, in order; 0 is a ZLB."""
    return [h.type for h in heard]


def only(heard: Sequence[Heard], kind: int) -> Heard:
    """The one message of a kind."""
    found = [h for h in heard if h.type == kind]
    assert len(found) == 1, types(heard)
    return found[0]


class Rig:
    """The endpoint under test with its journal. `heard` is what it sent, `news` everything else that it did.

    The records of sessions are written here, as their owner would.
    """

    def __init__(
        self,
        *,
        secret: bytes = SECRET,
        failover: FailoverSettings | None = None,
        channel: ChannelSettings | None = None,
        seed: int = 7,
        host_name: str = "lns1",
        **settings: int | bool,
    ) -> None:
        usual = EndpointSettings(
            host_name=host_name,
            local_address=HERE[0],
            failover=failover or FailoverSettings(),
            channel=channel or ChannelSettings(),
        )
        self.settings = replace(usual, **settings)
        self.random = Random(seed)
        self.peer: PeerSettings | None = PeerSettings(name="lac1", secret=secret)
        self.now: Instant = 1_000 * SECOND
        self.heard: list[Heard] = []
        self.news: list[Effect] = []
        self.effects: list[Effect] = []
        self.tunnels: dict[int, TunnelRecord] = {}
        self.sessions: dict[int, SessionRecord] = {}
        self.boot()

    def boot(self) -> None:
        """A process without memory."""
        self.endpoint = Endpoint(self.settings, lambda a, name: self.peer, self.random.randbytes, lambda: 5)

    def count(self, counter: Counter) -> int:
        """A counter of the endpoint."""
        return self.endpoint.ctx.counters[counter]

    def take(self, effects: list[Effect]) -> list[Heard]:
        """Carry out effects; returns the datagrams."""
        heard: list[Heard] = []
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Send):
                head = parse_control(effect.data)
                body = effect.data[12 : head.end]
                msg = decode(body, SECRET) if body else None
                heard.append(
                    Heard(
                        self.now,
                        effect.to,
                        head.tunnel_id,
                        head.session_id,
                        head.ns,
                        head.nr,
                        msg,
                        effect.data,
                    )
                )
            elif isinstance(effect, Persist):
                self._write(effect)
            elif not isinstance(effect, Called):
                self.news.append(effect)
                if isinstance(effect, SessionUp):
                    self._record(effect)
                elif isinstance(effect, SessionDown):
                    self.sessions.pop(session_key(effect.tunnel_id, effect.session_id), None)
        self.heard += heard
        return heard

    def _write(self, effect: Persist) -> None:
        for write in effect.writes:
            if isinstance(write, Save) and isinstance(write.record, TunnelRecord):
                self.tunnels[write.record.local_id] = write.record
            elif isinstance(write, ForgetTunnel):
                self.tunnels.pop(write.tunnel_id, None)
                self.sessions = {k: s for k, s in self.sessions.items() if s.tunnel_id != write.tunnel_id}
            elif isinstance(write, ForgetSession):
                self.sessions.pop(write.key, None)

    def _record(self, up: SessionUp) -> None:
        s = self.endpoint.tunnels[up.tunnel_id].sessions[up.session_id]
        self.sessions[session_key(up.tunnel_id, up.session_id)] = SessionRecord(
            tunnel_id=up.tunnel_id,
            local_id=s.local_id,
            peer_id=s.peer_id,
            side=s.side,
            call_serial=s.call_serial,
            established_utc_us=0,
        )

    def feed(self, data: bytes, source: Address = PEER) -> list[Heard]:
        """One datagram arrives."""
        return self.take(self.endpoint.datagram(data, source, self.now))

    def later(self, seconds: float) -> list[Heard]:
        """Let time pass; every timer runs at its own instant."""
        end = self.now + int(seconds * SECOND)
        heard: list[Heard] = []
        while (at := self.endpoint.deadline()) is not None and at <= end:
            self.now = max(self.now, at)
            heard += self.take(self.endpoint.timer(self.now))
        self.now = end
        return heard

    def crash(self) -> None:
        """SIGKILL: only the journal is left."""
        self.boot()

    def restart(self) -> list[Heard]:
        """A new process restores the journal and begins to recover."""
        tunnels, sessions = list(self.tunnels.values()), list(self.sessions.values())
        heard = self.take(self.endpoint.restore(tunnels, sessions, self.now))
        return heard + self.take(self.endpoint.recover(self.now))

    def tunnel(self) -> Tunnel:
        """The one ordinary tunnel."""
        (tunnel,) = [t for t in self.endpoint.tunnels.values() if not t.is_recovery]
        return tunnel

    def tunnel_of(self, line: "Line") -> Tunnel:
        """Our end of a tunnel."""
        return self.endpoint.tunnels[line.remote]

    def session(self) -> Session:
        """The one session of the one tunnel."""
        (session,) = self.tunnel().sessions.values()
        return session

    def of(self, kind: type[Effect]) -> list[Effect]:
        """News of one kind."""
        return [n for n in self.news if isinstance(n, kind)]


class Line:
    """The peer's end of one tunnel: ids, and sequence numbers that the test may bend.

    `local` is the id that the peer gave the tunnel, `remote` the one that the endpoint under test gave it.
    """

    def __init__(self, rig: Rig, local: int, source: Address = PEER) -> None:
        self.rig, self.local, self.source = rig, local, source
        self.remote = 0
        self.ns = self.nr = 0

    def note(self, heard: list[Heard]) -> list[Heard]:
        """Take in what the endpoint said on this tunnel, in order."""
        for h in heard:
            if h.tunnel_id == self.local and h.msg is not None and h.ns == self.nr:
                self.nr = (self.nr + 1) & 0xFFFF
        return heard

    def say(
        self,
        kind: Msg,
        *avps: EncodedAvp,
        session: int = 0,
        ns: int | None = None,
        nr: int | None = None,
        source: Address | None = None,
    ) -> list[Heard]:
        """Send a well-formed message; returns what the endpoint answers."""
        return self.raw(encode(kind, *avps), session, ns, nr, source)

    def raw(
        self,
        body: bytes,
        session: int = 0,
        ns: int | None = None,
        nr: int | None = None,
        source: Address | None = None,
    ) -> list[Heard]:
        """Send any body. A number that is given bends the header and leaves our own count alone."""
        header = control_header(
            self.remote, session, self.ns if ns is None else ns, self.nr if nr is None else nr, len(body)
        )
        if ns is None and body:
            self.ns = (self.ns + 1) & 0xFFFF
        return self.note(self.rig.feed(header + body, source or self.source))

    def zlb(self, ns: int | None = None, nr: int | None = None, source: Address | None = None) -> list[Heard]:
        """Acknowledge all that has been heard."""
        return self.raw(b"", 0, ns, nr, source)

    def later(self, seconds: float) -> list[Heard]:
        """Let time pass, and hear what is said meanwhile."""
        return self.note(self.rig.later(seconds))


def hello_avps(
    tunnel_id: int,
    *extra: EncodedAvp,
    challenge: bytes | None = CHALLENGE_OF_PEER,
    host: str = "lac1",
    window: int | None = 16,
) -> list[EncodedAvp]:
    """What an SCCRQ or SCCRP of the peer says."""
    avps = [PROTOCOL_VERSION(0x0100), FRAMING_CAPABILITIES(3), HOST_NAME(host), ASSIGNED_TUNNEL_ID(tunnel_id)]
    if window is not None:
        avps.append(RECEIVE_WINDOW_SIZE(window))
    if challenge is not None:
        avps.append(CHALLENGE(challenge))
    return [*avps, *extra]


def response(kind: Msg, heard: Heard, secret: bytes = SECRET) -> list[EncodedAvp]:
    """The answer to the challenge of a message that was heard, to be sent in a message of `kind`."""
    challenge = heard.body.get(CHALLENGE)
    return [] if challenge is None else [CHALLENGE_RESPONSE(challenge_response(kind, secret, challenge))]


def begin(
    rig: Rig,
    tunnel_id: int = 0x1111,
    cap: FailoverCap | None = C1,
    source: Address = PEER,
    window: int | None = 16,
) -> tuple[Line, list[Heard]]:
    """The peer as LAC sends an SCCRQ; returns its end and the answer."""
    line = Line(rig, tunnel_id, source)
    extra = [] if cap is None else [FAILOVER_CAPABILITY(cap)]
    challenge = CHALLENGE_OF_PEER if rig.peer is not None and rig.peer.secret else None
    heard = line.say(Msg.SCCRQ, *hello_avps(tunnel_id, *extra, challenge=challenge, window=window))
    for h in heard:
        if h.type == Msg.SCCRP:
            line.remote = h.body.need(ASSIGNED_TUNNEL_ID)
    return line, heard


def from_lac(
    rig: Rig,
    tunnel_id: int = 0x1111,
    cap: FailoverCap | None = C1,
    source: Address = PEER,
    window: int | None = 16,
) -> Line:
    """A tunnel that the peer opened, established."""
    line, heard = begin(rig, tunnel_id, cap, source, window)
    line.say(Msg.SCCCN, *response(Msg.SCCCN, only(heard, Msg.SCCRP)))
    assert rig.endpoint.tunnels[line.remote].established
    return line


def to_lns(rig: Rig, tunnel_id: int = 0x2222, cap: FailoverCap | None = C1) -> Line:
    """A tunnel that the endpoint under test opened to the peer, established."""
    assert rig.peer is not None
    local, effects = rig.endpoint.open_tunnel(rig.peer, PEER, rig.now)
    sccrq = only(rig.take(effects), Msg.SCCRQ)
    line = Line(rig, tunnel_id)
    line.remote, line.nr = local, 1
    extra = [] if cap is None else [FAILOVER_CAPABILITY(cap)]
    challenge = CHALLENGE_OF_PEER if rig.peer.secret else None
    line.say(Msg.SCCRP, *hello_avps(tunnel_id, *extra, *response(Msg.SCCRP, sccrq), challenge=challenge))
    line.zlb()
    return line


def call_in(line: Line, session_id: int = 0x0A11, serial: int = 1) -> int:
    """The peer as LAC places a call; returns the endpoint's session id."""
    icrq = line.say(Msg.ICRQ, ASSIGNED_SESSION_ID(session_id), CALL_SERIAL_NUMBER(serial))
    local = only(icrq, Msg.ICRP).body.need(ASSIGNED_SESSION_ID)
    line.say(Msg.ICCN, TX_CONNECT_SPEED(1_000_000), FRAMING_TYPE(1), session=local)
    return local


def call_out(line: Line, session_id: int = 0x0B11) -> int:
    """The endpoint under test as LAC places a call; returns its session id."""
    rig = line.rig
    local, effects = rig.endpoint.place_call(line.remote, Call(), rig.now)
    line.note(rig.take(effects))
    line.say(Msg.ICRP, ASSIGNED_SESSION_ID(session_id), session=local)
    line.zlb()
    return local


def answer_recovery(
    rig: Rig,
    sccrq: Heard,
    rt_id: int = 0x9ABC,
    scs: tuple[int, int] | None = (3, 100),
    *extra: EncodedAvp,
    secret: bytes = SECRET,
    host: str = "lac1",
) -> tuple[Line, list[Heard]]:
    """The peer, as remote endpoint, answers a recovery SCCRQ; returns its end of the recovery tunnel."""
    rt = Line(rig, rt_id, sccrq.to)
    rt.remote, rt.nr = sccrq.body.need(ASSIGNED_TUNNEL_ID), 1
    avps = list(extra)
    if scs is not None:
        avps.append(SUGGESTED_CONTROL_SEQUENCE(SuggestedSequence(*scs)))
    heard = rt.say(
        Msg.SCCRP, *hello_avps(rt_id, *response(Msg.SCCRP, sccrq, secret), *avps, host=host), source=sccrq.to
    )
    return rt, heard


def ask_recovery(
    rig: Rig,
    old: Line,
    rt_id: int = 0x5678,
    tie: bytes | None = TIE,
    ids: tuple[int, int] | None = None,
    source: Address | None = None,
    host: str = "lac1",
    challenge: bytes | None = CHALLENGE_OF_PEER,
    *extra: EncodedAvp,
) -> tuple[Line, list[Heard]]:
    """The peer, as recovery endpoint, sends a recovery SCCRQ for `old`; returns the recovery tunnel and the answer."""
    rt = Line(rig, rt_id, source or old.source)
    avps = [TUNNEL_RECOVERY(TunnelRecovery(*(ids or (old.local, old.remote)))), *extra]
    if tie is not None:
        avps.append(TIE_BREAKER(tie))
    if tie is not None:
        heard = rt.say(Msg.SCCRQ, *hello_avps(rt_id, *avps, host=host, challenge=challenge))
    else:
        body = encode(Msg.SCCRQ, *hello_avps(rt_id, host=host, challenge=challenge)) + avps[0].data
        heard = rt.raw(body)
    for h in heard:
        if h.type == Msg.SCCRP:
            rt.remote = h.body.need(ASSIGNED_TUNNEL_ID)
    return rt, heard


def recover(rig: Rig, old: Line, rt_id: int = 0x5678) -> tuple[Line, list[Heard]]:
    """The peer recovers `old` as recovery endpoint, up to and including the SCCCN; `old` gets the new numbers."""
    rt, heard = ask_recovery(rig, old, rt_id)
    sccrp = only(heard, Msg.SCCRP)
    scs = sccrp.body.get(SUGGESTED_CONTROL_SEQUENCE)
    old.ns, old.nr = (scs.ns, scs.nr) if scs is not None else (0, 0)
    said = rt.say(Msg.SCCCN, *response(Msg.SCCCN, sccrp))
    old.note(said)
    return rt, said


def fss(*pairs: tuple[int, int]) -> list[EncodedAvp]:
    """Failover Session State AVPs: (sender's session id, receiver's)."""
    return [FAILOVER_SESSION_STATE(SessionState(*p)) for p in pairs]


def states(h: Heard) -> list[tuple[int, int]]:
    """The Failover Session State AVPs of a message."""
    return [(s.session_id, s.remote_session_id) for s in h.body.all(FAILOVER_SESSION_STATE)]


def result(h: Heard) -> tuple[int, int]:
    """Result and error code of a StopCCN or CDN."""
    code = h.body.need(RESULT_CODE)
    return code.result, code.error or 0


def result_code(code: int, error: int = 0, text: str = "") -> EncodedAvp:
    """A Result Code AVP."""
    return RESULT_CODE(ResultCode(code, error, text))
