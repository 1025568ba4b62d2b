"""A history of two whole nodes: an LNS with users and a LAC with subscribers, in the world of `world`.

On top of the network's weather the seed decides how the journal behaves, how long a crashed host stays away, whether
it crashes again while it recovers, and whether its socket outlives it.
"""

from functools import partial
from random import Random

import msgspec

from holdfast.core.clock import MILLISECOND, SECOND, Duration
from holdfast.daemon.config import Config, parse
from holdfast.daemon.effects import Log
from holdfast.lab.sim.host import Host
from holdfast.lab.sim.journal import Luck
from holdfast.lab.sim.machine import Pairing
from holdfast.lab.sim.node_host import NodeHost
from holdfast.lab.sim.overheard import Overheard
from holdfast.lab.sim.world import ADDRESSES, Verdict, Weather, World
from holdfast.protocol.effects import Address
from holdfast.records import Side

SECRET = "failover-secret"

LONG: Duration = 40 * SECOND
"""An absence that only a peer survives which is there all the time: a recovery is given up after 31 s."""

LONG_WITHOUT_RFC4951: Duration = 28 * SECOND
"""The same where nobody has asked his peer for more than the 31 s of the base protocol: settling takes 2 s of them."""

LNS_CONFIG = """
[node]
name = "lns1"
role = "lns"
[listen]
address = "{lns}"
[ppp]
local_address = "100.64.0.1"
dns = ["192.0.2.53"]
echo_interval_s = {echo}
[failover]
method = "{method}"
advertise = {advertise}
[[peer]]
name = "lac1"
address = "{lac}"
secret = "{secret}"
[[pool]]
name = "subscribers"
range = "100.64.0.8-100.64.0.{last}"
"""

LAC_CONFIG = """
[node]
name = "lac1"
role = "lac"
[listen]
address = "{lac}"
[ppp]
echo_interval_s = {echo}
[failover]
method = "{method}"
advertise = {advertise}
[[peer]]
name = "lns1"
address = "{lns}"
secret = "{secret}"
connect = true
tunnels = {tunnels}
"""

FIXED = {0: "100.64.0.10", 1: "198.51.100.7"}
"""Users with an address of their own: one of the pool's, and one from elsewhere."""


class Conditions(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a history of nodes adds to the weather.

    `slow` and `failing` are probabilities per commit, `restless` that somebody does something when he might.
    `advertise`: both offer RFC 4951.
    """

    subscribers: int
    tunnels: int
    echo_s: int
    slow: float
    failing: float
    restless: float
    relapse: float
    away: Duration
    keeps_socket: bool
    advertise: bool = True


def draw_conditions(random: Random, weather: Weather) -> Conditions:
    """Nothing that a session may honestly end of: too many lost echoes, or both nodes away for too long."""
    long = weather.crashes == 1 and random.random() < 0.5
    return Conditions(
        subscribers=random.choice((3, 4, 6)),
        tunnels=random.choice((1, 2, 2, 3)),
        echo_s=random.choice((3, 20)) if weather.loss < 0.1 else 20,
        slow=random.choice((0.0, 0.0, 0.05, 0.2)),
        failing=random.choice((0.0, 0.0, 0.03)),
        restless=random.choice((0.02, 0.1, 0.3)),
        relapse=0.0 if long else random.choice((0.0, 0.3, 0.6)),
        away=LONG if long else random.choice((200 * MILLISECOND, 6 * SECOND)),
        keeps_socket=random.random() < 0.3,
    )


def configs(conditions: Conditions) -> dict[Side, Config]:
    """An LNS whose pool has one address to spare, and a LAC; of many subscribers the last connects only when told.

    Who crashes again while he recovers keeps to RFC 4951: once the peer has reset the tunnel, the numbers in the
    record are not those that a silent resynchronisation could go by.
    """
    subscribers = range(conditions.subscribers)
    values = {
        "lns": ADDRESSES[Side.LNS][0],
        "lac": ADDRESSES[Side.LAC][0],
        "secret": SECRET,
        "echo": conditions.echo_s,
        "method": "auto",
        "advertise": str(conditions.advertise).lower(),
        "tunnels": conditions.tunnels,
        "last": 8 + conditions.subscribers - 1,
    }
    lns, lac = LNS_CONFIG.format(**values), LAC_CONFIG.format(**values)
    for i in subscribers:
        who = f'name = "u{i}"\nsecret = "secret of u{i}"\n'
        lns += f"[[user]]\n{who}" + (f'address = "{FIXED[i]}"\n' if i in FIXED else "")
        auto = "false" if i == subscribers[-1] and i > 1 else "true"
        lac += f'[[subscriber]]\n{who}tunnel = "lns1"\nauto = {auto}\n'
    return {Side.LNS: parse(lns, "the LNS"), Side.LAC: parse(lac, "the LAC")}


class NodeWorld(World):
    """Two nodes. `conditions` and `weather` may be given instead of drawn; without `advertise` no RFC 4951 is offered."""

    def __init__(
        self,
        seed: int,
        conditions: Conditions | None = None,
        weather: Weather | None = None,
        *,
        advertise: bool = True,
    ) -> None:
        self._given = conditions, weather
        self._advertise = advertise
        super().__init__(seed)

    def _prepare(self) -> None:
        conditions, weather = self._given
        self.nodes: dict[Side, NodeHost] = {}
        self._overheard: list[str] = []
        self._talk = Overheard()
        self._forgiven: set[tuple[Side, int]] = set()
        self.weather = weather or self.weather
        self.conditions = conditions or draw_conditions(self.random, self.weather)
        if not self._advertise:
            away = min(self.conditions.away, LONG_WITHOUT_RFC4951)
            self.conditions = msgspec.structs.replace(self.conditions, away=away, advertise=False)
        self._configs = configs(self.conditions)

    def _host(self, side: Side) -> Host:
        address = ADDRESSES[side]
        self.nodes[side] = host = NodeHost(
            side,
            self._configs[side],
            self._chance(),
            lambda: self.now,
            self._luck,
            lambda data, to: self._transmit(data, address, to),
            self.conditions.keeps_socket,
        )
        host.watch = partial(self._logged, side)
        host.overhear = lambda data: self._talk.came(side, data, self.now)
        return host

    def _transmit(self, data: bytes, source: Address, to: Address) -> None:
        self._talk.sent(next(side for side in Side if ADDRESSES[side] == to), data, self.now)
        super()._transmit(data, source, to)

    def _logged(self, side: Side, log: Log) -> None:
        if not self.conditions.advertise and (tunnel := self._talk.forgiven(side, log)):
            self._forgiven.add((side, tunnel))

    def _inexcusable(self, must: set[Pairing]) -> set[Pairing]:
        gone = self._forgiven
        return {p for p in must if not {(Side.LAC, p.lac_tunnel), (Side.LNS, p.lns_tunnel)} & gone}

    def _stir(self) -> None:
        if self.random.random() < self.conditions.restless:
            super()._stir()

    def _luck(self) -> Luck:
        """How a commit goes: sometimes slower than anybody may wait, sometimes not at all."""
        random, conditions = self.random, self.conditions
        if self.peaceful:
            return Luck(2 * MILLISECOND, succeeds=True)
        slow = random.random() < conditions.slow
        takes = MILLISECOND + random.randrange((1500 if slow else 40) * MILLISECOND)
        return Luck(takes, random.random() >= conditions.failing)

    def _victims(self) -> int:
        return 1 if self.conditions.away >= LONG_WITHOUT_RFC4951 else super()._victims()

    def _crash_distance(self) -> int:
        return self.random.randrange(30)

    def _firm(self, host: Host, other: Host) -> None:
        """Recorded on both sides, and neither has given it up."""
        self._overheard += self._beliefs()
        self.expected -= host.held() - host.recorded()
        self.expected |= host.recorded() & host.held() & other.recorded() & other.held()

    def _beliefs(self) -> list[str]:
        """Write before speaking: what one side has on its disk because of the other's word, the other has written.

        Only a LAC that cannot record its tunnel says SCCCN all the same: the StopCCN that refuses it comes after that.
        """
        lac, lns = self.nodes[Side.LAC].disk, self.nodes[Side.LNS].disk
        unfounded = [
            f"the LAC recorded session {s.tunnel_id}/{s.local_id}, the LNS never did"
            for s in lac.sessions.values()
            if s.tunnel_id in lac.tunnels
            and (lac.tunnels[s.tunnel_id].peer_id, s.peer_id, s.local_id) not in lns.ever
        ]
        if not self.nodes[Side.LAC].commits_failed:
            unfounded += [
                f"the LNS recorded tunnel {t.local_id}, the LAC never did"
                for t in lns.tunnels.values()
                if (t.peer_id, t.local_id) not in lac.ever
            ]
        return unfounded

    def verdict(self) -> Verdict:
        """See `World`."""
        verdict = super().verdict()
        problems = (*verdict.problems, *self._overheard, *self._beliefs())
        return msgspec.structs.replace(verdict, problems=problems)

    def _downtime(self) -> Duration:
        return 50 * MILLISECOND + self.random.randrange(self.conditions.away)

    def _restart(self, host: Host) -> None:
        self._overheard += self._beliefs()
        if not self.peaceful and self.random.random() < self.conditions.relapse:
            host.effects_until_crash = self.random.randrange(40)
        self._talk.restarted(host.side, self.now)
        host.start(self.now)


def simulate_nodes(seed: int, *, advertise: bool = True) -> Verdict:
    """Run the history of one seed, with RFC 4951 or without."""
    return NodeWorld(seed, advertise=advertise).run()
