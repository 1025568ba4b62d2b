"""A whole node of ours in front of one of other people's daemons: PPP, subscribers, addresses and journal included.

To what `peer_world` demands this adds that no session, and no tunnel, is alive on one side only once everything has
come to rest and one more echo interval has passed; and that our node is at rest then in every respect.
"""

from random import Random
from typing import Final

from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.daemon.config import Config, parse
from holdfast.lab.sim.host import Host
from holdfast.lab.sim.journal import Luck
from holdfast.lab.sim.machine import Pairing
from holdfast.lab.sim.node_host import NodeHost
from holdfast.lab.sim.peer_ppp import ECHO_FAILURES, ECHO_INTERVAL, Ppp
from holdfast.lab.sim.peer_tunnel import Call, Tunnel
from holdfast.lab.sim.peer_world import Ours, PeerWorld
from holdfast.lab.sim.peers import DAEMONS
from holdfast.lab.sim.world import ADDRESSES, OPPOSITE, Verdict
from holdfast.protocol.effects import Address
from holdfast.protocol.endpoint import Endpoint
from holdfast.records import Side

SUBSCRIBERS: Final = 4
MOST_CALLS: Final = 5
"""That a LAC has in one tunnel."""

USER: Final = "subscriber"
PASSWORD: Final = "secret of the subscriber"

QUIESCENCE: Duration = 170 * SECOND
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

    def _prepare(self) -> None:
        super()._prepare()
        self._restless = self.random.choice((0.05, 0.2))
        self._links = 0
        daemon = DAEMONS[self._daemon]
        echoes = ECHO_FAILURES if daemon.keeps_lost_calls else 1
        self.peace = QUIESCENCE + echoes * ECHO_INTERVAL

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

    def verdict(self) -> Verdict:
        """See `World`."""
        self.found += self._halves()
        return super().verdict()

    def _halves(self) -> list[str]:
        """What is alive on one side only."""
        found = []
        ours, theirs = self.ours.held(), self.theirs.held()
        if ours != theirs:
            found.append(
                f"sessions only here {sorted(ours - theirs)}, only at the peer {sorted(theirs - ours)}"
            )
        here = (
            {(t.local_id, t.peer_id) for t in self.endpoint.ctx.established()} if self.ours.running else set()
        )
        peer = self.theirs.peer
        there = {(t.remote, t.local) for t in peer.established()}
        lost = {(t.remote, t.local) for t in peer.established() if not peer.notices(t)}
        if here - there or there - here - lost:
            found.append(f"tunnels only here {sorted(here - there)}, only at the peer {sorted(there - here)}")
        return found


def simulate_peer_node(daemon: str, seed: int) -> Verdict:
    """Run the history of one seed."""
    return PeerNodeWorld(daemon, seed).run()
