"""Silent resynchronisation: recovering the control channel of a peer that has never heard of RFC 4951.

RFC 2661 5.8 obliges every peer to acknowledge a duplicate, and the acknowledgement tells its numbers: Nr is our next
Ns, and the Ns of a ZLB is the peer's next. So after a restart a HELLO is sent with a number that the peer must have
had already; its content is discarded and its answer puts us back in step.

An answer may be a late one, and the peer may have kept messages of our former life that came before their turn. So the
number that the answer named is tried out by a HELLO, alone: only when the peer acknowledges that very number, and no
more, is it where we think it is. Before the first real message, HELLOs use up the rest of the peer's window.

Invariants: a probe never carries a number that the peer may count as new; until its number is proved nothing but
probes and that HELLO is sent; nothing that the peer sent is acknowledged before it was received. What the record says
of our Nr is a lower bound: it is believed when the peer's ZLB says the same, otherwise it stays in every message of
ours until the lowest retransmission has come or the peer's longest retransmission interval has passed.

Two moments are told apart: *send side resynchronised* (we may speak) and *receive side settled* (our Nr is proved).
"""

from enum import IntEnum

import msgspec

from holdfast.core import seq
from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.protocol.channel import MOST_IN_FLIGHT
from holdfast.wire.codes import Msg
from holdfast.wire.header import control_header
from holdfast.wire.messages import encode

PATIENCE: Duration = 31 * SECOND
"""How long the least patient router keeps a message that nobody acknowledges (1, 2, 4, 8, 16 s)."""

RETRANSMISSION_CAP: Duration = 16 * SECOND
"""The longest interval between two retransmissions of any peer that was measured."""

LAST_INTERVAL: Duration = 9 * SECOND
"""The same, and a second, for peers that give up after `PATIENCE`: what they have not sent again by then, they will
not send again. It is the wait for a retransmission after an outage that has used up that patience.
"""

SHORTEST_WAIT: Duration = 2 * SECOND
"""How long at least, when hardly any of that patience is left."""

OVERESTIMATE: Duration = 6 * SECOND
"""An outage may have been shorter than we are told by as much."""

STEP: Duration = 4 * SECOND
"""How long the peer has to repeat the next message once the one before it had to be acknowledged unseen. Who repeats
one after another does so after 1 and 3 s.
"""

INTERVALS: tuple[Duration, ...] = (
    250 * MILLISECOND,
    250 * MILLISECOND,
    500 * MILLISECOND,
    1 * SECOND,
    2 * SECOND,
)
"""Between one probe and the next; the last one repeats."""


UNHEARD = 5
"""Probes after which a peer is taken to hear none with that number."""

NEAR_WRAP = MOST_IN_FLIGHT
"""Numbers before the wrap. What is further ahead no peer keeps, and what is nearer is used up before a real message."""


class Phase(IntEnum):
    """PROBING: nothing credible has been heard. PROVING: our next Ns is being tried out. SETTLING: we may speak."""

    PROBING = 1
    PROVING = 2
    SETTLING = 3


class Resync(msgspec.Struct, gc=False, kw_only=True):
    """One tunnel on its way back. `acked` and `nr` are the record's; `peer_next` is the Ns of the last ZLB.

    `tried` is the number of the HELLO that tries out the send side; `in_step`: our own Nr is proved. `gone_at` is when
    we were last there, None if that is not known. `lowest` is the lowest Ns that came before its turn. `announced` is the
    peer's next Ns when it proved our number: what it sends from then on is repeated to us as to anybody.
    """

    acked: int
    nr: int
    give_up_at: Instant
    gone_at: Instant | None
    probe_at: Instant | None = None
    phase: Phase = Phase.PROBING
    sent: int = 0
    tried: int = 0
    in_step: bool = False
    peer_next: int | None = None
    announced: int | None = None
    lowest: int | None = None
    settle_at: Instant | None = None

    def deadline(self) -> Instant | None:
        """The next thing to be done without hearing from the peer."""
        if self.phase is not Phase.PROBING:
            return None if self.in_step else self.settle_at
        return self.give_up_at if self.probe_at is None else min(self.probe_at, self.give_up_at)


class Verdict(IntEnum):
    """What a message means for the send side. TRY: a HELLO is to try out `tried`. PROVED: the peer has taken it."""

    NOTHING = 0
    TRY = 1
    PROVED = 2


def begin(
    acked: int, nr: int, now: Instant, patience: Duration = PATIENCE, gone_at: Instant | None = None
) -> Resync:
    """A tunnel is to be resynchronised; it waits for its first probe."""
    return Resync(acked=acked, nr=nr, give_up_at=now + patience, gone_at=gone_at)


def be_patient(resync: Resync, now: Instant, patience: Duration) -> None:
    """Probe from now on for as long as `patience`, whatever was waited before."""
    resync.give_up_at = now + patience


def probe(resync: Resync, peer_tunnel_id: int, now: Instant) -> bytes:
    """The next probe: a HELLO with Ns = `acked` - 1, which every peer has had and has to take for a duplicate.

    It is also *numerically* lower than what the peer expects, which is what a peer goes by that compares without
    wrapping (xl2tpd), but for one that has wrapped since. Where that may be so and nothing is heard, every other probe
    has Ns = 0. Any other peer would have answered; if it has not wrapped, and keeps what is ahead, it is among the
    numbers that are used up before a real message is sent.
    """
    turn = resync.sent
    resync.sent += 1
    resync.probe_at = now + INTERVALS[min(turn, len(INTERVALS) - 1)]
    wrapped = turn >= UNHEARD and turn % 2 and seq.distance(resync.acked, 0) < NEAR_WRAP
    ns = 0 if wrapped else seq.add(resync.acked, -1)
    body = encode(Msg.HELLO)
    return control_header(peer_tunnel_id, 0, ns, resync.nr, len(body)) + body


def hear(resync: Resync, ns: int, nr: int, expected: int, *, is_zlb: bool, now: Instant) -> Verdict:
    """Something came from the peer, whose next message is `expected`: what that says of our next Ns, and (noted in
    `resync`) of our Nr.

    An Nr behind what was already acknowledged is a late message, or a forgery: it proves nothing. Of a retransmission
    the Ns counts all the same: it may carry the Nr of its first time.
    """
    late = seq.before(nr, resync.acked)
    if resync.phase is Phase.PROVING and nr == seq.succ(resync.tried) and not seq.before(ns, expected):
        resync.announced = ns if is_zlb else seq.succ(ns)
    if not late or not is_zlb:
        _hear_receive_side(resync, ns, expected, is_zlb=is_zlb, now=now)
    if late:
        return Verdict.NOTHING
    resync.acked = nr
    if resync.phase is Phase.SETTLING or (resync.phase is Phase.PROVING and nr == resync.tried):
        return Verdict.NOTHING
    if resync.phase is Phase.PROVING and nr == seq.succ(resync.tried):
        resync.phase = Phase.SETTLING
        return Verdict.PROVED
    resync.phase = Phase.PROVING
    resync.probe_at = None
    resync.tried = nr
    return Verdict.TRY


def _hear_receive_side(resync: Resync, ns: int, expected: int, *, is_zlb: bool, now: Instant) -> None:
    """We are in step once everything has come that the peer had sent when it proved our number; until then, what its
    last ZLB says it has sent.
    """
    reached = expected
    if is_zlb:
        resync.peer_next = ns
    elif ns == expected:
        resync.lowest = resync.settle_at = None  # what follows is repeated in its turn
        reached = seq.succ(expected)
    elif seq.before(expected, ns) and (resync.lowest is None or seq.before(ns, resync.lowest)):
        resync.lowest = ns
    sent = _sent(resync)
    resync.in_step = sent is not None and not seq.before(reached, sent)
    if resync.settle_at is None:
        resync.settle_at = now + _wait(resync, now, came=reached != expected)


def _sent(resync: Resync) -> int | None:
    """The number behind what the peer may have sent that we have not seen."""
    return resync.announced if resync.announced is not None else resync.peer_next


def _wait(resync: Resync, now: Instant, *, came: bool) -> Duration:
    """How long the peer has to repeat what we have not seen: its longest interval, unless our outage has left less.

    A peer that gives up after 31 s sends last at 15 s. What it sent in the first seconds of an outage of more than
    15 s never comes again, and costs the whole tunnel if it is not acknowledged in time. `came`: a message has just
    come in its turn, so that those behind it, being younger, will come as well.
    """
    left = _left(resync, now)
    if left is None:
        return RETRANSMISSION_CAP
    if left <= (0 if came else -OVERESTIMATE):  # who would have lost patience has: the others have more of it
        return LAST_INTERVAL
    return min(RETRANSMISSION_CAP, max(SHORTEST_WAIT, left))


def _left(resync: Resync, now: Instant) -> Duration | None:
    """Until who gives up after `PATIENCE` must have been answered, whatever it said in our outage; None: not known."""
    return resync.gone_at + PATIENCE - SECOND - now if resync.gone_at is not None else None


def settle(resync: Resync, expected: int, early: int | None, window: int, now: Instant) -> int:
    """Our Nr when the time to settle has come. `in_step` says whether it is the last word.

    As long as the peer's patience allows it is one number further, not all that are unseen: many peers repeat only
    their oldest message, and the next one when that is acknowledged. More than our `window` was never under way.
    """
    proved = proved_nr(resync, expected, early)
    unseen = seq.distance(expected, proved)
    left = _left(resync, now)
    if unseen > 1 and left is not None and left > 0:
        resync.settle_at = now + min(STEP, left)
        return seq.add(expected, max(1, unseen - window))
    resync.in_step, resync.settle_at = True, None
    return proved


def proved_nr(resync: Resync, expected: int, early: int | None) -> int:
    """Our Nr once the peer has had all the time to repeat what we have not seen.

    It is the lowest number that the peer still repeats (`early` is the lowest of those that are kept) or the one behind
    what it had sent when we came back, whichever is lower; if neither is known, the one that is expected anyway.
    """
    known = [
        ns for ns in (early, resync.lowest, _sent(resync)) if ns is not None and seq.before(expected, ns)
    ]
    return min(known, key=lambda ns: seq.distance(expected, ns), default=expected)
