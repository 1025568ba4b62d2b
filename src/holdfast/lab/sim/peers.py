"""The daemons that were measured, one class each, with what is peculiar or wrong in it.

What each does is what the running program did: see docs/interop.md for versions. `defects` of a peer tells when one
of its faults has been brought out that the network alone cannot bring out.
"""

from typing import ClassVar, Final

from holdfast.core.clock import MILLISECOND, SECOND, Instant
from holdfast.lab.sim.peer import Peer
from holdfast.lab.sim.peer_sender import SECONDS
from holdfast.lab.sim.peer_tunnel import NUMBERS, Call, Tunnel
from holdfast.lab.sim.peer_wire import OPTIONAL, Attr, Heard, Kind
from holdfast.records import Side

HALF: Final = NUMBERS // 2


class Xl2tpd(Peer):
    """Compares numbers as integers, drops what is ahead, and believes whatever Nr it was told last."""

    name = "xl2tpd"
    intervals: ClassVar[SECONDS] = (1, 2, 4, 8, 16)
    says_goodbye = True
    window = 4
    retransmits = "each"
    current_nr = False

    def arrive(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """A ZLB counts only with the very number; an older message is answered if it is *numerically* lower."""
        if heard.ns != tunnel.nr:
            if heard.kind != Kind.ZLB and heard.ns < tunnel.nr and tunnel.nr - heard.ns < HALF:
                self._zlb(tunnel)
            return
        tunnel.clr = heard.nr
        if heard.kind != Kind.ZLB:
            self.execute(tunnel, heard, now)
        elif tunnel.closing:
            self._let_go(tunnel)
        else:
            tunnel.lingering.discard(heard.session)

    def _let_go(self, tunnel: Tunnel) -> None:
        """A ZLB has come for a tunnel that was ended: nothing else, whatever its Nr, makes it go."""
        stop = next((s for s in (*tunnel.sent, *tunnel.waiting) if s.kind is Kind.STOPCCN), None)
        if stop is not None and (stop in tunnel.waiting or stop.ns >= tunnel.clr):
            return
        if stop is not None:
            self.on_acknowledged(tunnel, stop)
        self._remove(tunnel, tunnel.ended)

    def timer(self, now: Instant) -> None:
        """An acknowledgement is noticed when the message would be sent again."""
        for tunnel in list(self.tunnels.values()):
            for sent in list(tunnel.sent):
                if sent.due <= now and sent.ns < tunnel.clr:
                    tunnel.sent.remove(sent)
                    self.on_acknowledged(tunnel, sent)
            self._admit(tunnel, now)
        super().timer(now)

    def hang_up(self, tunnel: Tunnel, call: Call, now: Instant, result: int = 3) -> None:
        """The call stays until a ZLB names it."""
        super().hang_up(tunnel, call, now, result)
        tunnel.lingering.add(call.local)

    def understands(self, tunnel: Tunnel, heard: Heard, now: Instant) -> bool:
        """A mandatory attribute that it cannot handle ends the tunnel; the vendor id is not looked at."""
        if any(a.mandatory and a.attr > Attr.RX_SPEED + 1 for a in heard.avps):
            self.defects.append("xl2tpd was sent a mandatory attribute that it does not know")
            self.stop(tunnel, now, b"\0\2\0\6", "mandatory attribute")
            return False
        return True

    def unknown(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """Unimplemented message: the tunnel is torn down."""
        super().unknown(tunnel, heard, now)
        self.stop(tunnel, now, b"\0\2\0\6", "unimplemented message")


class AccelPpp(Peer):
    """Keeps up to 16 messages that are ahead, insists on every M bit, and drops what acknowledges too much."""

    name = "accel-ppp"
    intervals: ClassVar[SECONDS] = (1, 2, 4, 8, 16, 16)
    window = 16

    def arrive(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """The Nr of a ZLB counts whatever its Ns is."""
        oldest = tunnel.sent[0].ns if tunnel.sent else tunnel.ns
        if (heard.nr - oldest) % NUMBERS < HALF:
            if (heard.nr - oldest) % NUMBERS > (tunnel.ns - oldest) % NUMBERS:
                return
            self.acknowledged(tunnel, heard.nr, now)
        if heard.kind == Kind.ZLB:
            return
        if heard.kind == Kind.HELLO and tunnel.hello_at is not None:
            tunnel.hello_at = now + self.hello_s * SECOND
        ahead = (heard.ns - tunnel.nr) % NUMBERS
        tunnel.owes = True
        if ahead == 0:
            self.execute(tunnel, heard, now)
            while (early := tunnel.ahead.pop(tunnel.nr, None)) is not None:
                self.execute(tunnel, early, now)
        elif ahead < 16:
            kept = tunnel.ahead.setdefault(heard.ns, heard)
            if kept[4:] != heard[4:]:
                self.defects.append(f"accel-ppp kept message type {kept.kind} instead of {heard.kind}")

    def understands(self, tunnel: Tunnel, heard: Heard, now: Instant) -> bool:
        """Every attribute that it knows must have the M bit of RFC 2661; none that it does not know may have one."""
        for a in heard.avps:
            if a.vendor == 0 and a.mandatory != (a.known and a.attr not in OPTIONAL):
                self.defects.append(f"accel-ppp dropped message type {heard.kind} for the M bit of {a.attr}")
                return False
        return True

    def unknown(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """Acknowledged and ignored."""


class L2tpns(Peer):
    """Sends no ZLB while messages of its own are unacknowledged: their retransmissions carry the acknowledgement.

    It knows the call that a CDN ends by the header alone. So it is left with a call that was being set up when our
    process ended, and whose id there we do not know, until its own echoes find nobody.
    """

    name = "l2tpns"
    intervals: ClassVar[SECONDS] = (1, 2, 4, 8, 16, 32)
    retransmits = "all"
    keeps_lost_calls = True

    def arrive(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """Any other number than the very next is answered and dropped, its Nr not looked at."""
        if tunnel.hello_at is not None:
            tunnel.hello_at = now + self.hello_s * SECOND
        if heard.ns != tunnel.nr:
            tunnel.owes = heard.kind != Kind.ZLB
            return
        self.acknowledged(tunnel, heard.nr, now)
        if heard.kind != Kind.ZLB:
            self.execute(tunnel, heard, now)

    def acknowledge(self, tunnel: Tunnel, now: Instant) -> None:
        """See the class."""
        if not tunnel.sent:
            self._zlb(tunnel)
        tunnel.owes = False

    def end_call(self, tunnel: Tunnel, heard: Heard) -> None:
        """See the class."""
        tunnel.calls.pop(heard.session, None)

    def unknown(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """Ignored; the acknowledgement comes some time later."""
        super().unknown(tunnel, heard, now)
        tunnel.owes = False


class GoL2tp(Peer):
    """kl2tpd: impatient, acknowledges late, stops receiving for good at a message that is ahead.

    It says no HELLO by default, so that a tunnel without calls outlives its other end.
    """

    name = "go-l2tp"
    intervals: ClassVar[SECONDS] = (1, 2, 4)
    hello_s = 0
    window = 4
    retransmits = "each"

    def arrive(self, tunnel: Tunnel, heard: Heard, now: Instant) -> None:
        """Once something ahead lies at the head of its queue, nothing behind it is looked at again."""
        oldest = tunnel.sent[0].ns if tunnel.sent else tunnel.ns
        if (heard.nr - oldest) % NUMBERS < HALF:
            if (heard.nr - oldest) % NUMBERS > (tunnel.ns - oldest) % NUMBERS:
                return
            self.acknowledged(tunnel, heard.nr, now)
        if heard.kind == Kind.ZLB or tunnel.local not in self.tunnels:
            return
        ahead = (heard.ns - tunnel.nr) % NUMBERS
        tunnel.owes = True
        if 0 < ahead < HALF:
            if not tunnel.wedged:
                self.on_wedged(tunnel, heard)
            tunnel.wedged = True
        elif ahead == 0 and not tunnel.wedged:
            self.execute(tunnel, heard, now)

    def notices(self, tunnel: Tunnel) -> bool:
        """See the class."""
        return bool(tunnel.calls)

    def acknowledge(self, tunnel: Tunnel, now: Instant) -> None:
        """At most 100 ms late, one for all."""
        tunnel.owes = False
        if tunnel.ack_at is None:
            tunnel.ack_at = now + 100 * MILLISECOND

    def understands(self, tunnel: Tunnel, heard: Heard, now: Instant) -> bool:
        """The value of an unknown attribute is read as attributes: zeros in the place of a length are the end of it."""
        for a in heard.avps:
            if not a.known and not a.mandatory and len(a.value) >= 6 and a.value[:2] == b"\0\0":
                self.defects.append(f"go-l2tp died of attribute {a.attr}")
                self.dead = True
                return False
        return True


DAEMONS: Final[dict[str, type[Peer]]] = {kind.name: kind for kind in (Xl2tpd, AccelPpp, L2tpns, GoL2tp)}

ROLES: Final[dict[str, tuple[Side, ...]]] = {
    "xl2tpd": (Side.LNS, Side.LAC),
    "accel-ppp": (Side.LNS,),
    "l2tpns": (Side.LNS,),
    "go-l2tp": (Side.LAC,),
}
"""What each can be."""
