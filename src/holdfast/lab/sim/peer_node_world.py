"""A whole node of ours in front of one of other people's daemons: PPP, subscribers, addresses and journal included.

To what `peer_world` demands this adds that no session is alive on one side only once its tunnel has come to rest and
one more echo interval has passed; and that in the end, when HELLOs have shown which tunnels are dead, both sides have
the same tunnels and sessions, and our node is at rest in every respect.
"""

from random import Random
from struct import pack, unpack_from
from typing import Final

from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.daemon.config import Config, parse
from holdfast.lab.sim.host import Host
from holdfast.lab.sim.journal import Luck
from holdfast.lab.sim.machine import Pairing
from holdfast.lab.sim.node_host import NodeHost
from holdfast.lab.sim.peer_ppp import ECHO, ECHO_FAILURES, ECHO_INTERVAL, ECHOED, LATE, LCP, Ppp
from holdfast.lab.sim.peer_tunnel import Call, Tunnel
from holdfast.lab.sim.peer_wire import Heard
from holdfast.lab.sim.peer_world import Ours, PeerWorld
from holdfast.lab.sim.peers import DAEMONS
from holdfast.lab.sim.world import ADDRESSES, OPPOSITE, Verdict
from holdfast.protocol.effects import Address
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.resync import OVERESTIMATE
from holdfast.records import Side

SUBSCRIBERS: Final = 4
MOST_CALLS: Final = 5
"""That a LAC has in one tunnel."""

ECHOES: Final = frozenset(pack(">HB", LCP, code) for code in (ECHO, ECHOED))
"""How a PPP frame begins that says nothing of a negotiation."""

USER: Final = "subscriber"
PASSWORD: Final = "secret of the subscriber"

NODE_PEACE: Duration = 190 * SECOND
"""The last restart, a HELLO after a minute of silence, the longest patience of any side, and a set-up after that."""

CONFIG: Final = """
[node]
name = "{role}1"
role = "{role}"
[listen]
address = "{own}"
[ppp]
echo_interval_s = {echo}
{ppp}
[[peer]]
name = "peer1"
address = "{peer}"
{more}
"""

LNS_PPP: Final = 'local_address = "100.64.0.1"\ndns = ["192.0.2.53"]'
POOL: Final = f"""
[[pool]]
name = "subscribers"
range = "100.64.0.8-100.64.0.47"
[[user]]
name = "{USER}"
secret = "{PASSWORD}"
"""


def config(side: Side, secret: bytes, tunnels: int, echo_s: int) -> Config:
    """Ours in front of such a peer."""
    role = side.name.lower()
    more = f'secret = "{secret.decode()}"\n' if secret else ""
    if side is Side.LAC:
        more += f"connect = true\ntunnels = {tunnels}\n" + "".join(
            f'[[subscriber]]\nname = "u{i}"\nsecret = "{PASSWORD}"\ntunnel = "peer1"\n'
            for i in range(SUBSCRIBERS)
        )
    else:
        more += POOL
    text = CONFIG.format(
        role=role,
        own=ADDRESSES[side][0],
        peer=ADDRESSES[OPPOSITE[side]][0],
        echo=echo_s,
        ppp=LNS_PPP if side is Side.LNS else "",
        more=more,
    )
    return parse(text, f"the {role.upper()}")


class BareHost(NodeHost):
    """A node whose sessions go by their ids alone: the other side does not tell what PPP agreed on."""

    def held(self) -> set[Pairing]:
        """See `Host`."""
        return _bare(super().held())

    def recorded(self) -> set[Pairing]:
        """See `Host`."""
        return _bare(super().recorded())

    def ended_on_purpose(self) -> set[Pairing]:
        """See `Host`."""
        return _bare(super().ended_on_purpose())


def _bare(pairings: set[Pairing]) -> set[Pairing]:
    return {Pairing(*p[:4]) for p in pairings}


class PeerNodeWorld(PeerWorld):
    """One history."""

    overestimate = OVERESTIMATE

    def _prepare(self) -> None:
        super()._prepare()
        self._restless = self.random.choice((0.05, 0.2))
        self._links = 0
        self._asked: dict[tuple[int, int], Instant] = {}
        self._left_alone: set[tuple[int, int]] = set()
        self._judged = False
        echoes = ECHO_FAILURES + 1 if DAEMONS[self._daemon].keeps_lost_calls else 1
        self._enough = echoes * ECHO_INTERVAL + SECOND
        self.peace = NODE_PEACE + self._enough

    def _our_host(self, side: Side, address: Address, to: Address, chance: Random) -> Ours:
        self.node = BareHost(
            side,
            config(side, self.secret, self.random.choice((1, 2)), self.random.choice((5, 20))),
            chance,
            lambda: self.now,
            self._luck,
            lambda data, to: self._transmit(data, address, to),
        )
        return self.node

    def _host(self, side: Side) -> Host:
        host = super()._host(side)
        if side is self.peer_side:
            self.theirs.most_calls = MOST_CALLS
            self.theirs.peer.ppp = self._link
            self.theirs.peer.on_failed = self._link_failed
        return host

    def _link(self, tunnel: Tunnel, call: Call, now: Instant) -> Ppp:
        self._links += 1
        gives = bytes((100, 64, 1, 1 + self._links % 250)) if self.peer_side is Side.LNS else b""
        return Ppp(
            self.random,
            lambda frame: self.theirs.peer.say(tunnel, call, frame),
            now,
            user=USER.encode(),
            secret=PASSWORD.encode(),
            gives=gives,
        )

    def _arrive(self, data: bytes, heard: Heard | None, source: Address, to_us: bool) -> None:
        if heard is None and to_us and self.ours.running and data[8:11] not in ECHOES:
            self._asked[unpack_from(">HH", data, 2)] = self.now
        super()._arrive(data, heard, source, to_us)

    def _link_failed(self, tunnel: Tunnel, call: Call, ppp: Ppp) -> None:
        """Nobody's fault if nothing of its negotiation ever came to a node that ran."""
        if ppp.failed == LATE and self._asked.get((tunnel.remote, call.remote), -1) < ppp.begun_at:
            self._left_alone.add((tunnel.local, call.local))

    def _inexcusable(self, must: set[Pairing]) -> set[Pairing]:
        must = super()._inexcusable(must)
        if self.peer_side is Side.LNS:
            return {p for p in must if (p.lns_tunnel, p.lns_session) not in self._left_alone}
        return {p for p in must if (p.lac_tunnel, p.lac_session) not in self._left_alone}

    def _luck(self) -> Luck:
        return Luck(MILLISECOND + self.random.randrange(40 * MILLISECOND), succeeds=True)

    @property
    def endpoint(self) -> Endpoint:
        """See `PeerWorld`."""
        assert self.node.process is not None
        return self.node.process.node.endpoint

    def renumber(self, ours: int, theirs: int) -> None:
        """See `PeerWorld`: not while numbers of before are on their way to the disk."""
        if self.node.process is not None and self.node.process.journal.idle:
            super().renumber(ours, theirs)

    def _restart(self, host: Host) -> None:
        self._begin_life()
        super()._restart(host)

    def _stir(self) -> None:
        what = self.random.random()
        if what < self._restless:
            super()._stir()
        elif what > 1 - self._restless:
            self.theirs.dial(self.random, self.now)

    def _plan_crash(self) -> None:
        if self.ours.running:
            self.ours.effects_until_crash = self.random.randrange(40)

    def rest(self) -> Verdict:
        """See `PeerWorld`."""
        self.peaceful = True
        self.ours.effects_until_crash = None
        end = self.now + self.peace
        since: Instant | None = None
        while self.now < end and not self._judged:
            self.until(self.now + SECOND)
            if not (self._set_up() and (since is not None or self._idle())):
                since = None
            elif since is None:
                since = self.now
            elif self.now - since >= self._enough:
                self._judged = True
                both = self._tunnels_here() & self._tunnels_there()
                self.found += self._half_sessions({tunnel for pair in both for tunnel in pair})
        self.until(end)
        return self.last_words()

    def _set_up(self) -> bool:
        """Whether in the tunnels that both sides have every session is proved and open."""
        process = self.node.process
        if process is None or process.node.proofs.waiting:
            return False
        peer = self.theirs.peer.tunnels
        return all(
            all(call.up and call.ppp is not None and call.ppp.up for call in peer[there].calls.values())
            and all(line.link.opened for line in process.node.lines.values() if line.tunnel_id == here)
            for here, there in self._tunnels_here() & self._tunnels_there()
        )

    def _idle(self) -> bool:
        """Whether nothing is under way in these tunnels; a HELLO may come between later."""
        ours, theirs = self.endpoint.tunnels, self.theirs.peer.tunnels
        return all(
            ours[here].resync is None and ours[here].channel.idle and not theirs[there].sent
            for here, there in self._tunnels_here() & self._tunnels_there()
        )

    def _tunnels_here(self) -> set[tuple[int, int]]:
        tunnels = self.endpoint.ctx.established() if self.ours.running else []
        return {(t.local_id, t.peer_id) for t in tunnels}

    def _tunnels_there(self) -> set[tuple[int, int]]:
        return {(t.remote, t.local) for t in self.theirs.peer.established()}

    def verdict(self) -> Verdict:
        """See `World`."""
        if not self._judged:
            self._note("it never came to rest")
        self.found += self._half_sessions() + self._half_tunnels()
        return super().verdict()

    def _half_sessions(self, of: set[int] | None = None) -> list[str]:
        """Sessions that are alive on one side only, in the tunnels with these ids or anywhere."""
        ours, theirs = (
            {p for p in held if of is None or {p.lac_tunnel, p.lns_tunnel} <= of}
            for held in (self.ours.held(), self.theirs.held())
        )
        if ours == theirs:
            return []
        return [f"sessions only here {sorted(ours - theirs)}, only at the peer {sorted(theirs - ours)}"]

    def _half_tunnels(self) -> list[str]:
        """Tunnels that are alive on one side only, but for those of which a peer cannot notice it."""
        here, there, peer = self._tunnels_here(), self._tunnels_there(), self.theirs.peer
        lost = {(t.remote, t.local) for t in peer.established() if not peer.notices(t)}
        if here - there or there - here - lost:
            return [f"tunnels only here {sorted(here - there)}, only at the peer {sorted(there - here)}"]
        return []


def simulate_peer_node(daemon: str, seed: int) -> Verdict:
    """Run the history of one seed."""
    return PeerNodeWorld(daemon, seed).run()
