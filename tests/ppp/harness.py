"""Two links joined by an imaginary line, and a peer that is made of hand-written packets."""

from collections.abc import Iterable
from random import Random
from typing import TypeVar

from holdfast.core.auth import CHAP, PAP, Accept, Answer, Reject
from holdfast.core.clock import SECOND, Instant
from holdfast.ppp.authentication import chap_response
from holdfast.ppp.config import LinkConfig, Role
from holdfast.ppp.effects import Authenticate, Effect, Transmit
from holdfast.ppp.link import Link
from holdfast.ppp.packet import HEAD, packet
from holdfast.ppp.state import Phase

LCP, IPCP = 0xC021, 0x8021
MAGIC = b"\x05\x06\xaa\xbb\xcc\xdd"
SECRET = b"open sesame"

SERVER = LinkConfig(
    role=Role.SERVER, name="lns", local_address="100.64.0.1", dns=("192.0.2.53", "192.0.2.54")
)
CLIENT = LinkConfig(role=Role.CLIENT, name="alice", secret=SECRET)
ACCEPT = Accept(user="alice", address="100.64.3.7", pool="p", message="welcome")

E = TypeVar("E", bound=Effect)


def at(seconds: float) -> Instant:
    return int(seconds * SECOND)


def server(config: LinkConfig = SERVER, seed: int = 1) -> Link:
    return Link(config, Random(seed).randbytes)


def client(config: LinkConfig = CLIENT, seed: int = 2) -> Link:
    return Link(config, Random(seed).randbytes)


def of(kind: type[E], effects: Iterable[Effect]) -> list[E]:
    return [e for e in effects if isinstance(e, kind)]


def sent(effects: Iterable[Effect]) -> list[bytes]:
    return [e.payload for e in effects if isinstance(e, Transmit)]


def judge(question: Authenticate) -> Answer:
    """What AAA says: alice and SECRET are right."""
    asked = question.credentials
    if asked.method == CHAP:
        right = asked.response == chap_response(asked.chap_id, SECRET, asked.challenge)
    else:
        right = asked.method == PAP and asked.password == SECRET
    return ACCEPT if right and asked.name == "alice" else Reject("no")


def exchange(
    a: Link, b: Link, for_a: list[Effect], for_b: list[Effect], now: Instant = 0
) -> tuple[list[Effect], list[Effect]]:
    """Carry what `a` and `b` have said (`for_a`: a's effects) to and fro until both are silent; all their effects."""
    said: tuple[list[Effect], list[Effect]] = ([], [])
    queue = [(0, e) for e in for_a] + [(1, e) for e in for_b]
    links = (a, b)
    for _ in range(500):
        if not queue:
            return said
        i, effect = queue.pop(0)
        said[i].append(effect)
        if isinstance(effect, Transmit):
            queue += [(1 - i, e) for e in links[1 - i].receive(effect.payload, now)]
        elif isinstance(effect, Authenticate):
            queue += [(i, e) for e in links[i].answer(judge(effect), now)]
    raise AssertionError("the two never come to rest")


def connect(s: Link, c: Link, now: Instant = 0) -> tuple[list[Effect], list[Effect]]:
    return exchange(s, c, s.start(now), c.start(now), now)


def opened(s_config: LinkConfig = SERVER, c_config: LinkConfig = CLIENT) -> tuple[Link, Link]:
    s, c = server(s_config), client(c_config)
    connect(s, c)
    assert s.opened and c.opened
    return s, c


def reached(phase: Phase, config: LinkConfig = SERVER) -> tuple[Link, list[Effect]]:
    """A link of its own in `phase`, led there by hand-written packets; and what it said last."""
    link = Link(config, Random(5).randbytes)
    return link, lead(link, phase, link.start(0))


def lead(link: Link, phase: Phase, said: list[Effect], options: bytes = MAGIC) -> list[Effect]:
    """Lead a server that has just said `said` (its Configure-Request) on to `phase`; what it says last."""
    if phase is Phase.ESTABLISH:
        return said
    link.receive(lcp(1, 1, options), 0)
    said = link.receive(lcp(2, head(sent(said)[0])[2], body_of(sent(said)[0])), 0)
    if phase is Phase.AUTHENTICATE:
        return said
    [question] = of(Authenticate, link.receive(response_to(sent(said)[0]), 0))
    return link.answer(judge(question), 0)


def response_to(challenge: bytes, name: bytes = b"alice", secret: bytes = SECRET) -> bytes:
    """The CHAP Response of a peer that knows `secret`."""
    identifier, value = head(challenge)[2], body_of(challenge)[1:17]
    return packet(CHAP, 2, identifier, b"\x10" + chap_response(identifier, secret, value) + name)


def body_of(frame: bytes) -> bytes:
    return frame[8:]


def lcp(code: int, identifier: int, body: bytes = b"") -> bytes:
    return packet(LCP, code, identifier, body)


def ipcp(code: int, identifier: int, body: bytes = b"") -> bytes:
    return packet(IPCP, code, identifier, body)


def head(frame: bytes) -> tuple[int, int, int]:
    """Protocol, code, identifier."""
    _, protocol, code, identifier, _ = HEAD.unpack_from(frame)
    return protocol, code, identifier


def kinds(effects: Iterable[Effect]) -> list[tuple[int, int]]:
    """Protocol and code of everything sent."""
    return [head(frame)[:2] for frame in sent(effects)]
