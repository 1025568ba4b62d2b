"""A small LNS for the tests of the load generator: no sockets, no timers, everything in order.

It speaks through `holdfast.wire`, so that what the generator builds from raw templates is read by other code. PPP is
scripted: CHAP or PAP, an address by Nak. `quirks` are what real servers do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any

from holdfast.wire import dictionary as avps
from holdfast.wire.auth import challenge_response, verify
from holdfast.wire.codes import Cdn, Msg, StopCcn
from holdfast.wire.dictionary import ResultCode
from holdfast.wire.header import control_header, is_control, parse_control
from holdfast.wire.messages import Message, decode, encode

LCP, PAP, CHAP, IPCP = 0xC021, 0xC023, 0xC223, 0x8021
MAGIC = b"\x11\x22\x33\x44"
CHALLENGE = bytes(range(16))


@dataclass
class PppSide:
    """The server's end of one call."""

    tunnel: "TunnelSide"
    local_id: int
    peer_id: int
    connected: bool = False
    user: bytes = b""
    lcp: set[str] = field(default_factory=set)
    ipcp: set[str] = field(default_factory=set)
    magic: bytes = b""
    address: bytes = b""
    rejected: bytes = b""


@dataclass
class TunnelSide:
    """The server's end of one tunnel."""

    local_id: int
    peer_id: int
    ns: int = 0
    nr: int = 0
    acked: int = 0
    owes_ack: bool = False
    challenge: bytes = b""


@dataclass
class ScriptedLns:
    """Feed it datagrams, take its answers."""

    secret: bytes = b""
    ppp_secret: bytes = b"secret"
    auth: int = CHAP
    window: int = 16
    length_bit: bool = False
    compressed: bool = False
    extra_lcp: bytes = b""
    refuse: Cdn | None = None
    tunnels: dict[int, TunnelSide] = field(default_factory=dict)
    calls: dict[tuple[int, int], PppSide] = field(default_factory=dict)
    received: list[tuple[int, int, Message]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    packets: list[bytes] = field(default_factory=list)
    out: list[bytes] = field(default_factory=list)
    early: int = 0
    placed: int = 0

    def feed(self, datagrams: Sequence[bytes]) -> list[bytes]:
        """Take datagrams in order; the answers, acknowledgements last."""
        for data in datagrams:
            if is_control(data):
                self._control(data)
            else:
                self._data(data)
        for tunnel in self.tunnels.values():
            if tunnel.owes_ack:
                self.out.append(control_header(tunnel.peer_id, 0, tunnel.ns, tunnel.nr, 0))
                tunnel.owes_ack = False
        out, self.out = self.out, []
        return out

    def echo_request(self, call: PppSide, identifier: int) -> bytes:
        """An LCP Echo-Request."""
        return self._frame(call, LCP, 9, identifier, MAGIC + b"are you there")

    def packet(self, call: PppSide, packet: bytes) -> bytes:
        """An IPv4 packet for the subscriber."""
        return self._wrap(call, b"\x00\x21" + packet)

    def send(self, tunnel: TunnelSide, session_id: int, body: bytes) -> None:
        """Send a control message."""
        self.out.append(control_header(tunnel.peer_id, session_id, tunnel.ns, tunnel.nr, len(body)) + body)
        tunnel.ns = (tunnel.ns + 1) & 0xFFFF
        tunnel.owes_ack = False

    def _control(self, data: bytes) -> None:
        header = parse_control(data)
        body = data[12 : header.end]
        if header.tunnel_id == 0:
            self._sccrq(decode(body, self.secret))
            return
        tunnel = self.tunnels[header.tunnel_id]
        tunnel.acked = header.nr
        if not body:
            return
        tunnel.owes_ack = True
        if header.ns != tunnel.nr:
            return
        tunnel.nr = (tunnel.nr + 1) & 0xFFFF
        message = decode(body, self.secret)
        if message.fault:
            self.faults.append(message.fault.text)
        self.received.append((header.tunnel_id, header.session_id, message))
        self._message(tunnel, header.session_id, message)

    def _sccrq(self, message: Message) -> None:
        peer_id = message.need(avps.ASSIGNED_TUNNEL_ID)
        if any(t.peer_id == peer_id for t in self.tunnels.values()):
            return
        tunnel = TunnelSide(local_id=len(self.tunnels) + 0x1000, peer_id=peer_id, nr=1)
        self.tunnels[tunnel.local_id] = tunnel
        extra: list[Any] = []
        if (challenge := message.get(avps.CHALLENGE)) is not None:
            extra.append(avps.CHALLENGE_RESPONSE(challenge_response(Msg.SCCRP, self.secret, challenge)))
        if self.secret:
            tunnel.challenge = CHALLENGE
            extra.append(avps.CHALLENGE(CHALLENGE))
        body = encode(
            Msg.SCCRP,
            avps.PROTOCOL_VERSION(avps.VERSION_1_0),
            avps.FRAMING_CAPABILITIES(3),
            avps.HOST_NAME("lns"),
            avps.ASSIGNED_TUNNEL_ID(tunnel.local_id),
            avps.RECEIVE_WINDOW_SIZE(self.window),
            *extra,
        )
        self.send(tunnel, 0, body)

    def _message(self, tunnel: TunnelSide, session_id: int, message: Message) -> None:
        if message.type == Msg.SCCCN and tunnel.challenge:
            answer = message.need(avps.CHALLENGE_RESPONSE)
            if not verify(Msg.SCCCN, self.secret, tunnel.challenge, answer):
                self.stop(tunnel, StopCcn.NOT_AUTHORISED)
        elif message.type == Msg.ICRQ:
            peer_id = message.need(avps.ASSIGNED_SESSION_ID)
            local_id = self.placed + 0x2000
            self.placed += 1
            if self.refuse is not None:
                refusal = encode(
                    Msg.CDN,
                    avps.RESULT_CODE(ResultCode(self.refuse)),
                    avps.ASSIGNED_SESSION_ID(local_id),
                )
                self.send(tunnel, peer_id, refusal)
                return
            self.calls[tunnel.local_id, local_id] = PppSide(tunnel, local_id, peer_id)
            self.send(tunnel, peer_id, encode(Msg.ICRP, avps.ASSIGNED_SESSION_ID(local_id)))
        elif message.type == Msg.ICCN:
            call = self.calls[tunnel.local_id, session_id]
            call.connected = True
            wanted = b"\x03\x05\xc2\x23\x05" if self.auth == CHAP else b"\x03\x04\xc0\x23"
            options = b"\x01\x04\x05\xb4" + wanted + b"\x05\x06" + MAGIC + self.extra_lcp
            self.out.append(self._frame(call, LCP, 1, 1, options))
        elif message.type == Msg.CDN:
            self.calls.pop((tunnel.local_id, session_id), None)

    def stop(self, tunnel: TunnelSide, result: StopCcn) -> None:
        """Send a StopCCN."""
        body = encode(
            Msg.STOPCCN, avps.ASSIGNED_TUNNEL_ID(tunnel.local_id), avps.RESULT_CODE(ResultCode(result))
        )
        self.send(tunnel, 0, body)

    def _data(self, data: bytes) -> None:
        assert data[:2] == b"\x00\x02"
        call = self.calls[int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:6], "big")]
        if not call.connected:
            self.early += 1
            return
        assert data[6:8] == b"\xff\x03"
        protocol = int.from_bytes(data[8:10], "big")
        if protocol == 0x0021:
            self.packets.append(data[10:])
            return
        code, identifier = data[10], data[11]
        body = data[14 : 10 + int.from_bytes(data[12:14], "big")]
        answers = {LCP: self._lcp, PAP: self._pap, CHAP: self._chap, IPCP: self._ipcp}[protocol](
            call, code, identifier, body
        )
        self.out += [self._frame(call, *answer) for answer in answers]

    def _lcp(
        self, call: PppSide, code: int, identifier: int, body: bytes
    ) -> list[tuple[int, int, int, bytes]]:
        answers: list[tuple[int, int, int, bytes]] = []
        before = len(call.lcp)
        if code == 1:
            call.magic = body[body.index(b"\x05\x06") + 2 :][:4]
            call.lcp.add("theirs")
            answers.append((LCP, 2, identifier, body))
        elif code == 2:
            call.lcp.add("ours")
        elif code == 4:
            call.rejected += body
            options = b"\x03\x05\xc2\x23\x05\x05\x06" + MAGIC
            answers.append((LCP, 1, identifier + 1, options))
        elif code == 10:
            call.rejected = body
        if len(call.lcp) == 2 and before < 2 and self.auth == CHAP:
            answers.append((CHAP, 1, 77, b"\x10" + CHALLENGE + b"lns"))
        return answers

    def _pap(
        self, call: PppSide, code: int, identifier: int, body: bytes
    ) -> list[tuple[int, int, int, bytes]]:
        size = body[0]
        call.user = body[1 : 1 + size]
        good = body[2 + size :] == self.ppp_secret
        return [(PAP, 2 if good else 3, identifier, b"\x00"), *self._network(call, good)]

    def _chap(
        self, call: PppSide, code: int, identifier: int, body: bytes
    ) -> list[tuple[int, int, int, bytes]]:
        call.user = body[17:]
        good = body[1:17] == md5(b"\x4d" + self.ppp_secret + CHALLENGE).digest()
        return [(CHAP, 3 if good else 4, identifier, b""), *self._network(call, good)]

    def _network(self, call: PppSide, good: bool) -> list[tuple[int, int, int, bytes]]:
        return [(IPCP, 1, 1, b"\x03\x06\xc0\x00\x00\x01")] if good else []

    def _ipcp(
        self, call: PppSide, code: int, identifier: int, body: bytes
    ) -> list[tuple[int, int, int, bytes]]:
        if code == 1:
            address = bytes((100, 64)) + (call.local_id - 0x2000 + 1).to_bytes(2, "big")
            if body != b"\x03\x06" + address:
                return [(IPCP, 3, identifier, b"\x03\x06" + address)]
            call.address = address
            call.ipcp.add("theirs")
            return [(IPCP, 2, identifier, body)]
        if code == 2:
            call.ipcp.add("ours")
        return []

    def _frame(self, call: PppSide, protocol: int, code: int, identifier: int, body: bytes) -> bytes:
        head = protocol.to_bytes(2, "big") + bytes((code, identifier)) + (4 + len(body)).to_bytes(2, "big")
        return self._wrap(call, head + body)

    def _wrap(self, call: PppSide, frame: bytes) -> bytes:
        ids = call.tunnel.peer_id.to_bytes(2, "big") + call.peer_id.to_bytes(2, "big")
        if self.compressed and frame[:1] == b"\x00":
            frame = frame[1:]
        elif not self.compressed or frame[:2] == b"\xc0\x21":
            frame = b"\xff\x03" + frame
        if self.length_bit:
            return b"\x40\x02" + (8 + len(frame)).to_bytes(2, "big") + ids + frame
        return b"\x00\x02" + ids + frame
