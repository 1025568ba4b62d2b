"""Somebody else's L2TP daemon, as far as control messages go: what the four that were measured have in common.

It shares no code with `protocol`, so that the two cannot be wrong in the same way. How a daemon differs, its defects
included, is in `peers`.
"""

from collections.abc import Callable
from random import Random
from typing import ClassVar

from holdfast.core.clock import SECOND, Instant
from holdfast.lab.sim.peer_ppp import Ppp
from holdfast.lab.sim.peer_sender import Sender
from holdfast.lab.sim.peer_tunnel import CALL_SETUP, NUMBERS, Call, Tunnel
from holdfast.lab.sim.peer_wire import (
    Attr,
    Heard,
    Kind,
    avp,
    data_header,
    read,
    response,
    u16,
    u32,
)
from holdfast.records import Side


class Peer(Sender):
    """One daemon in one role, with any number of tunnels to us."""

    name: ClassVar[str]
    hello_s: ClassVar[int] = 60
    window: ClassVar[int | None] = None
    keeps_lost_calls: ClassVar[bool] = False
    """Whether a CDN that names no session of its own cannot end a call."""

    def __init__(self, side: Side, random: Random, secret: bytes, transmit: Callable[[bytes], None]) -> None:
        super().__init__(random, transmit)
        self.side = side
        self.defects: list[str] = []
        """Its own faults that were brought out: what no message of ours may do."""
        self.dead = False
        self.on_expired: Callable[[Tunnel, Call], None] = lambda tunnel, call: None
        self.on_failed: Callable[[Tunnel, Call, Ppp], None] = lambda tunnel, call, ppp: None
        self.on_wedged: Callable[[Tunnel, Heard], None] = lambda tunnel, heard: None
        self.ppp: Callable[[Tunnel, Call, Instant], Ppp] | None = None
        """Makes the link of a call that is up."""
        self._secret = secret

    # What its operator and its subscribers do.

    def open(self, now: Instant) -> Tunnel:
        """As LAC: a new tunnel."""
        tunnel = Tunnel(self._id(self.tunnels))
        self.tunnels[tunnel.local] = tunnel
        self._send(tunnel, Kind.SCCRQ, now, *self._about(tunnel))
        return tunnel

    def dial(self, tunnel: Tunnel, now: Instant) -> Call:
        """As LAC: a call in a tunnel that is up."""
        call = Call(self._id(tunnel.calls), 0, now + CALL_SETUP)
        tunnel.calls[call.local] = call
        avps = u16(Attr.SESSION_ID, call.local), u32(Attr.CALL_SERIAL, call.local)
        self._send(tunnel, Kind.ICRQ, now, *avps, call=call)
        return call

    def hang_up(self, tunnel: Tunnel, call: Call, now: Instant, result: int = 3) -> None:
        """End a call with CDN."""
        del tunnel.calls[call.local]
        avps = u16(Attr.RESULT_CODE, result), u16(Attr.SESSION_ID, call.local)
        self._send(tunnel, Kind.CDN, now, *avps, session=call.remote, call=call)

    def hello(self, tunnel: Tunnel, now: Instant) -> None:
        """Ask for a sign of life."""
        self._send(tunnel, Kind.HELLO, now)

    def stop(self, tunnel: Tunnel, now: Instant, result: bytes = b"\0\1", why: str = "as told") -> None:
        """End a tunnel with StopCCN."""
        if tunnel.closing or tunnel.ended:
            return
        tunnel.closing = True
        tunnel.up = False
        tunnel.hello_at = None
        tunnel.calls.clear()
        tunnel.ended = why
        tunnel.waiting.clear()
        avps = avp(Attr.RESULT_CODE, result), u16(Attr.TUNNEL_ID, tunnel.local)
        self._send(tunnel, Kind.STOPCCN, now, *avps)

    def notices(self, tunnel: Tunnel) -> bool:
        """Whether it would ever find out that nobody is at the other end."""
        return True

    def established(self) -> list[Tunnel]:
        """The tunnels that are up."""
        return [t for t in self.tunnels.values() if t.up]

    # Time.

    def deadline(self) -> Instant | None:
        """When `timer` wants to be called."""
        dues = [due for t in self.tunnels.values() for due in self._dues(t)]
        return min(dues, default=None) if not self.dead else None

    def _dues(self, tunnel: Tunnel) -> list[Instant]:
        timed = tunnel.sent if self.retransmits == "each" else tunnel.sent[:1]
        dues = [sent.due for sent in timed]
        dues += [at for at in (tunnel.hello_at, tunnel.ack_at) if at is not None]
        dues += [call.expires for call in tunnel.calls.values() if not call.up]
        dues += [call.ppp.deadline() for call in tunnel.calls.values() if call.ppp is not None]
        return dues

    def timer(self, now: Instant) -> None:
        """Retransmissions, HELLOs, calls that were never completed."""
        for tunnel in list(self.tunnels.values()):
            for sent in list(tunnel.sent if self.retransmits == "each" else tunnel.sent[:1]):
                if sent.due <= now and sent in tunnel.sent:
                    self._retransmit(tunnel, sent, now)
            if tunnel.hello_at is not None and tunnel.hello_at <= now:
                tunnel.hello_at = now + self.hello_s * SECOND
                self.hello(tunnel, now)
            if tunnel.ack_at is not None and tunnel.ack_at <= now:
                self._zlb(tunnel)
            for call in list(tunnel.calls.values()):
                if not call.up and call.expires <= now:
                    self.on_expired(tunnel, call)
                    self.hang_up(tunnel, call, now)
                elif call.ppp is not None and call.ppp.deadline() <= now:
                    call.ppp.timer(now)
                    self._follow(tunnel, call, call.ppp, now)

    # PPP.

    def frame(self, tunnel_id: int, session: int, payload: bytes, now: Instant) -> None:
        """A data message of ours. For a call that is not there it is dropped."""
        tunnel = self.tunnels.get(tunnel_id) if not self.dead else None
        call = tunnel.calls.get(session) if tunnel is not None else None
        if tunnel is not None and call is not None and call.ppp is not None:
            call.ppp.receive(payload, now)
            self._follow(tunnel, call, call.ppp, now)

    def _follow(self, tunnel: Tunnel, call: Call, ppp: Ppp, now: Instant) -> None:
        """A link that has failed ends its call."""
        if ppp.failed and tunnel.calls.get(call.local) is call:
            self.on_failed(tunnel, call, ppp)
            self.hang_up(tunnel, call, now)

    def say(self, tunnel: Tunnel, call: Call, frame: bytes) -> None:
        """Send a PPP frame."""
        self._transmit(data_header(tunnel.remote, call.remote) + frame)

    def _connected(self, tunnel: Tunnel, call: Call, now: Instant) -> None:
        call.up = True
        if self.ppp is not None and call.ppp is None:
            call.ppp = self.ppp(tunnel, call, now)

    # Receiving.

    def receive(self, data: bytes, now: Instant) -> None:
        """A datagram of ours."""
        if self.dead:
            return
        heard = read(data)
        tunnel = self.tunnels.get(heard.tunnel) if heard.tunnel else self._first_contact(heard, now)
        if tunnel is None or not self.understands(tunnel, heard, now):
            return
        self.arrive(tunnel, heard, now)
        if tunnel.owes and tunnel.local in self.tunnels:
            self.acknowledge(tunnel, now)

    def understands(self, tunnel: Tunnel, heard: Heard, now: Instant) -> bool:
        """What the daemon thinks of a message's form before it looks at its numbers."""
        return True

    def arrive(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """Reliable delivery, each daemon in its own way."""
        raise NotImplementedError

    def acknowledge(self, tunnel: Tunnel, now: Instant) -> None:
        """An acknowledgement is owed."""
        self._zlb(tunnel)

    def unknown(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """A message type that it does not know."""
        self.defects.append(f"{self.name} was sent message type {heard.kind}")

    def execute(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """A message in its turn."""
        tunnel.nr = (tunnel.nr + 1) % NUMBERS
        tunnel.owes = True
        if tunnel.closing and heard.kind != Kind.STOPCCN:
            return
        match heard.kind:
            case Kind.SCCRQ:
                self._send(tunnel, Kind.SCCRP, now, *self._about(tunnel), *self._response(Kind.SCCRP, heard))
            case Kind.SCCRP if not tunnel.up:
                tunnel.remote = heard.number(Attr.TUNNEL_ID)
                self._verify(tunnel, heard)
                self._up(tunnel, now)
                self._send(tunnel, Kind.SCCCN, now, *self._response(Kind.SCCCN, heard))
            case Kind.SCCCN:
                self._verify(tunnel, heard)
                self._up(tunnel, now)
            case Kind.STOPCCN:
                self._zlb(tunnel)
                self._remove(tunnel, f"StopCCN {heard.value(Attr.RESULT_CODE).hex()} from us")
            case Kind.ICRQ if tunnel.up:
                self._on_icrq(tunnel, heard, now)
            case Kind.ICRP if call := tunnel.calls.get(heard.session):
                call.remote = heard.number(Attr.SESSION_ID)
                avps = u32(Attr.TX_SPEED, 1000), u32(Attr.FRAMING_TYPE, 3)
                self._send(tunnel, Kind.ICCN, now, *avps, session=call.remote, call=call)
                self._connected(tunnel, call, now)
            case Kind.ICCN if call := tunnel.calls.get(heard.session):
                self._connected(tunnel, call, now)
            case Kind.CDN:
                self.end_call(tunnel, heard)
            case Kind.HELLO | Kind.SCCRP | Kind.ICRQ | Kind.ICRP | Kind.ICCN:
                pass
            case _:
                self.unknown(tunnel, heard, now)

    def _on_icrq(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        call = Call(self._id(tunnel.calls), heard.number(Attr.SESSION_ID), now + CALL_SETUP)
        tunnel.calls[call.local] = call
        self._send(tunnel, Kind.ICRP, now, u16(Attr.SESSION_ID, call.local), session=call.remote, call=call)

    def end_call(self, tunnel: Tunnel, heard: Heard) -> None:
        """A CDN. A header that names no session leaves it to the attribute, which has our id."""
        remote = heard.number(Attr.SESSION_ID)
        found = tunnel.calls.get(heard.session)
        if not heard.session:
            found = next((call for call in tunnel.calls.values() if call.remote == remote), None)
        if found is not None:
            del tunnel.calls[found.local]

    def _up(self, tunnel: Tunnel, now: Instant) -> None:
        tunnel.up = True
        if self.hello_s:
            tunnel.hello_at = now + self.hello_s * SECOND

    def _first_contact(self, heard: Heard, now: Instant) -> Tunnel | None:
        """An SCCRQ opens a tunnel, the same one if it is repeated."""
        remote = heard.number(Attr.TUNNEL_ID)
        for tunnel in self.tunnels.values():
            if tunnel.remote == remote and not tunnel.ended:
                return tunnel
        if heard.kind != Kind.SCCRQ or self.side is not Side.LNS:
            return None
        tunnel = Tunnel(self._id(self.tunnels))
        tunnel.remote = remote
        self.tunnels[tunnel.local] = tunnel
        return tunnel

    # What it says of itself.

    def _about(self, tunnel: Tunnel) -> list[bytes]:
        avps = [
            u16(Attr.PROTOCOL_VERSION, 0x0100),
            u32(Attr.FRAMING_CAPABILITIES, 3),
            u32(Attr.BEARER_CAPABILITIES, 0),
            avp(Attr.HOST_NAME, self.name.encode()),
            u16(Attr.TUNNEL_ID, tunnel.local),
        ]
        if self.window is not None:
            avps.append(u16(Attr.WINDOW, self.window))
        if self._secret:
            tunnel.challenge = self._random.randbytes(16)
            avps.append(avp(Attr.CHALLENGE, tunnel.challenge))
        return avps

    def _response(self, kind: Kind, heard: Heard) -> list[bytes]:
        challenge = heard.value(Attr.CHALLENGE)
        return [response(kind, self._secret, challenge)] if challenge else []

    def _verify(self, tunnel: Tunnel, heard: Heard) -> None:
        if tunnel.challenge:
            expected = response(Kind(heard.kind), self._secret, tunnel.challenge)[6:]
            if heard.value(Attr.RESPONSE) != expected:
                self.defects.append(f"{self.name} was given a wrong response")

    def _id(self, taken: dict[int, Tunnel] | dict[int, Call]) -> int:
        while (drawn := self._random.randrange(1, NUMBERS)) in taken:
            pass
        return drawn
