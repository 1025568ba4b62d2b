"""A history of ours in front of one of other people's daemons, which knows nothing of RFC 4951.

Our side alone crashes; the peer goes on meanwhile: it calls, clears, says HELLO or StopCCN to nobody. At the end no
session may be lost that was established on both sides before, and nothing may have been acknowledged that never came.
A session is forgiven only when the peer lost patience with a message that it could not get through to us.
"""

from random import Random
from typing import Final, Protocol

from holdfast.core.clock import MILLISECOND, SECOND, Duration, Instant
from holdfast.lab.sim.host import Disk, Host, MachineHost
from holdfast.lab.sim.machine import Machine, Pairing
from holdfast.lab.sim.peer_host import CONTROL, PeerHost
from holdfast.lab.sim.peer_machine import SilentMachine
from holdfast.lab.sim.peer_tunnel import CALL_SETUP, NUMBERS, Call, Sent, Tunnel
from holdfast.lab.sim.peer_wire import Heard, Kind, read
from holdfast.lab.sim.peers import DAEMONS, ROLES
from holdfast.lab.sim.unseen import Unseen
from holdfast.lab.sim.world import ADDRESSES, HARSH, OPPOSITE, Verdict, Weather, World
from holdfast.protocol.effects import Address
from holdfast.protocol.endpoint import Endpoint
from holdfast.records import Side

BEGINNING: Duration = 4 * SECOND
"""Calm, so that the numbers can be moved before the trouble begins."""

TROUBLE: Duration = 60 * SECOND
PEACE: Duration = 140 * SECOND
"""Longer than a call may stay half-made and a closed tunnel lingers, with a HELLO of every side."""

HELLO_TAKES: Duration = 3 * SECOND
"""A HELLO, those that use up the window before it, and one more if it crosses one of l2tpns, which forgets that then."""

NEAR_A_WRAP: Final = (0, 0, 0, 65_530, 32_765)
"""Where the numbers of a side begin; 0: where they are."""

DOWNTIMES: Final = tuple(t * 100 * MILLISECOND for t in (1, 20, 50, 200))


class Ours(Host, Protocol):
    """Our side."""

    disk: Disk
    effects: int


class PeerWorld(World):
    """One history. `weather` may be given instead of drawn."""

    peace: Duration = PEACE
    overestimate: Duration = SECOND
    """By how much at most we take an outage for longer than it was."""

    def __init__(self, daemon: str, seed: int, weather: Weather | None = None, side: Side | None = None):
        self._daemon, self._given, self._side = daemon, weather, side
        super().__init__(seed)

    def _prepare(self) -> None:
        self.weather = self._given or self.weather
        self.peer_side = self._side or self.random.choice(ROLES[self._daemon])
        self.secret = self.random.choice((b"", b"shared secret"))
        self.begun = self.now
        self.found: list[str] = []
        self.epoch = 0
        self._started: Instant = 0
        self._started_before: Instant = 0
        self._died: Instant | None = None
        self._came: dict[tuple[int, int, bytes], tuple[int, int]] = {}
        self._first: dict[tuple[int, int, bytes], int] = {}
        self._unseen = Unseen(DAEMONS[self._daemon], self.overestimate)
        self._lost = 0
        self._said: set[tuple[int, int]] = set()
        self._forgiven: set[int] = set()

    def _host(self, side: Side) -> Host:
        address, to = ADDRESSES[side], ADDRESSES[OPPOSITE[side]]
        chance = self._chance()
        if side is self.peer_side:
            peer = DAEMONS[self._daemon](
                side, chance, self.secret, lambda data: self._transmit(data, address, to)
            )
            peer.on_acknowledged, peer.on_given_up = self._acknowledged, self._given_up
            peer.on_expired, peer.on_wedged = self._expired, self._wedged
            self.theirs = PeerHost(side, address, peer)
            return self.theirs
        self.ours = self._our_host(side, address, to, chance)
        return self.ours

    def _our_host(self, side: Side, address: Address, to: Address, chance: Random) -> Ours:
        self.machine_host = MachineHost(
            side,
            address,
            lambda: self._machine(side, address, to, chance),
            lambda data, to: self._transmit(data, address, to),
            self._commit_later,
        )
        return self.machine_host

    def _machine(self, side: Side, address: Address, peer: Address, random: Random) -> Machine:
        self._begin_life()
        self.machine = SilentMachine(side, address, peer, self.secret, random)
        if self._died is not None:
            self.machine.away = self.now - self._died + random.randrange(SECOND)
        return self.machine

    def _begin_life(self) -> None:
        self.epoch += 1
        self._started, self._started_before = self.now, self._started
        recorded = (
            {t.local_id: t.nr for t in self.ours.disk.saved().tunnels} if self._died is not None else {}
        )
        self._unseen.began(self.now, self._died, recorded)

    @property
    def endpoint(self) -> Endpoint:
        """Our control protocol, while we run."""
        return self.machine.endpoint

    # The network, overheard.

    def _transmit(self, data: bytes, source: Address, to: Address) -> None:
        heard = read(data) if data[0] & CONTROL else None
        to_us = to[0] == ADDRESSES[self.ours.side][0]
        if heard is not None and not to_us:
            self._we_say(heard)
        calm = self.peaceful or self.now < self.begun + BEGINNING
        weather, random = self.weather, self.random
        if not calm and random.random() < weather.loss:
            self._failed(data, heard, to_us)
            return
        for _ in range(2 if not calm and random.random() < weather.duplicate else 1):
            delay = MILLISECOND + (0 if calm else random.randrange(weather.delay))
            if not calm and random.random() < weather.straggle:
                delay += random.randrange(10 * SECOND)
                self._failed(data, heard, to_us)  # for the time
            self.at(self.now + delay, lambda: self._arrive(data, heard, source, to_us))

    def _we_say(self, heard: Heard) -> None:
        if heard.kind != Kind.ZLB:
            self._said.add((heard.tunnel, heard.ns))
        tunnel = self.theirs.peer.tunnels.get(heard.tunnel)
        for sent in self._unseen.told(tunnel, heard.nr, self.now) if tunnel is not None else ():
            self._note(f"{sent.kind.name} {sent.ns} was acknowledged and never came")

    def _failed(self, data: bytes, heard: Heard | None, to_us: bool) -> None:
        """The network loses a datagram, or keeps it for so long that its sender has to say the same again."""
        if heard is not None and to_us and self.ours.running:
            self._unseen.failed((heard.tunnel, heard.ns, data[12:]))
        self._lost += heard is not None and not to_us

    def _arrive(self, data: bytes, heard: Heard | None, source: Address, to_us: bool) -> None:
        if not to_us:
            self.theirs.receive(data, source, self.now)
        elif self.ours.running:
            if heard is not None and heard.kind != Kind.ZLB:
                key = heard.tunnel, heard.ns, data[12:]
                self._came[key] = self.epoch, self._lost
                self._first.setdefault(key, self.epoch)
                self._unseen.came(key)
            self.ours.receive(data, source, self.now)

    def _key(self, tunnel: Tunnel, sent: Sent) -> tuple[int, int, bytes]:
        return tunnel.remote if sent.kind is not Kind.SCCRQ else 0, sent.ns, sent.body

    def _arrival(self, tunnel: Tunnel, sent: Sent) -> tuple[int, int]:
        """In which life of ours a message came last, and how many of our answers had been lost before; 0: never."""
        return self._came.get(self._key(tunnel, sent), (0, 0))

    def _acknowledged(self, tunnel: Tunnel, sent: Sent) -> None:
        life, _ = self._arrival(tunnel, sent)
        if life != self.epoch or not self.ours.running:
            return
        local = {(t.local_id, t.peer_id): t for t in self.endpoint.ctx.established()}
        ours = local.get((tunnel.remote, tunnel.local))
        if ours is None:
            return
        if self.weather.crowded:
            return  # the same ids may mean another session by now
        if sent.kind is Kind.STOPCCN:
            self._note("StopCCN was acknowledged and the tunnel lives")
        elif sent.kind is Kind.CDN and sent.call is not None:
            session = ours.sessions.get(sent.session)
            if session is not None and session.peer_id == sent.call.local:
                self._note("CDN was acknowledged and the session lives")

    def _given_up(self, tunnel: Tunnel, sent: Sent) -> None:
        life, lost = self._arrival(tunnel, sent)
        ours = self.endpoint.tunnels.get(tunnel.remote) if self.ours.running else None
        heard = life == self.epoch and ours is not None
        if heard and ours is not None and ours.resync is not None and self._daemon == "go-l2tp":
            heard = False  # 7 s are not enough to find out whether it misses an acknowledgement of before
        if sent.first < self._started_before:
            heard = False  # it has waited through two outages
        if heard and lost == self._lost and not tunnel.wedged:
            self._note(f"{sent.kind.name} {sent.ns} came and was not acknowledged")
        if ours is not None or not self.ours.running:
            self._forgiven.add(tunnel.local)  # else it was we who had given up before

    def _expired(self, tunnel: Tunnel, call: Call) -> None:
        """A call was never completed. It is nobody's fault if we have died meanwhile."""
        if call.asked is None or tunnel.wedged or self.weather.loss > HARSH or self.weather.crowded:
            return
        key = self._key(tunnel, call.asked)
        gone = not self.ours.running or tunnel.remote not in self.endpoint.tunnels
        if not gone and self._first.get(key) == self.epoch and call.expires - CALL_SETUP > self._started:
            self._note(f"{call.asked.kind.name} came and was never answered")

    def _wedged(self, tunnel: Tunnel, heard: Heard) -> None:
        """The network may bring messages in the wrong order; we must not invent a number that is ahead."""
        between = range(tunnel.nr, tunnel.nr + (heard.ns - tunnel.nr) % NUMBERS)
        if all((tunnel.local, ns % NUMBERS) in self._said for ns in between):
            self._forgiven.add(tunnel.local)
        else:
            self._note(f"a number that is ahead was sent: {heard.ns}, expected {tunnel.nr}")

    def _note(self, text: str) -> None:
        self.found.append(f"{(self.now - self.begun) / SECOND:.3f} {text}")

    # What happens.

    def renumber(self, ours: int, theirs: int) -> None:
        """Go on at other numbers in every tunnel, on both sides, where nothing is under way."""
        if not self.ours.running:
            return
        ctx = self.endpoint.ctx
        for tunnel in ctx.established():
            theirs_of_it = self.theirs.peer.tunnels.get(tunnel.peer_id)
            if theirs_of_it is None or not tunnel.channel.idle or tunnel.resync is not None:
                continue
            tunnel.channel.resume(ours or tunnel.channel.ns)
            tunnel.channel.nr = theirs or tunnel.channel.nr
            theirs_of_it.sent.clear()
            theirs_of_it.renumber(tunnel.channel.nr, tunnel.channel.ns)
            self.ours.disk.apply([ctx.hint(tunnel)])
            self.ours.disk.told.pop(tunnel.local_id, None)

    def _downtime(self) -> Duration:
        patient = DOWNTIMES[: 3 if self._daemon == "go-l2tp" else 4]
        return self.random.choice(patient) + self.random.randrange(100 * MILLISECOND)

    def _crashed(self, host: Host, other: Host) -> None:
        self._died = self.now
        super()._crashed(host, other)

    def _plan_crash(self) -> None:
        if self.ours.running:
            self.ours.effects_until_crash = self.random.randrange(12)

    def run(self) -> Verdict:
        """A history that the seed draws."""
        random, begin = self.random, self.begun
        self._restart(self.ours)
        at = begin
        while (at := at + 1 + random.randrange(2 * self.weather.pace)) < begin + TROUBLE:
            if not begin + 2 * SECOND < at < begin + BEGINNING:
                self.at(at, self._stir)
        ours, theirs = random.choice(NEAR_A_WRAP), random.choice(NEAR_A_WRAP)
        if self._daemon == "xl2tpd" and theirs == NEAR_A_WRAP[3]:
            theirs = 0  # it gives up its own message 65535, whatever is said: nothing is lower than 0
        self.at(begin + BEGINNING - SECOND, lambda: self.renumber(ours, theirs))
        for _ in range(self.weather.crashes):
            self.at(begin + BEGINNING + random.randrange(TROUBLE - BEGINNING), self._plan_crash)
        self.until(begin + TROUBLE)
        return self.rest()

    def rest(self) -> Verdict:
        """No more trouble: whatever is under way comes to its end."""
        self.peaceful = True
        self.ours.effects_until_crash = None
        self.until(self.now + self.peace)
        return self.last_words()

    def last_words(self) -> Verdict:
        """Let a HELLO that happens to be under way be answered, and judge."""
        end = self.now + HELLO_TAKES
        while self.now < end and not self._quiet():
            self.until(self.now + MILLISECOND)
        return self.verdict()

    def _quiet(self) -> bool:
        """Whether no HELLO happens to be under way."""
        return all(tunnel.channel.idle for tunnel in self.endpoint.ctx.established())

    def _inexcusable(self, must: set[Pairing]) -> set[Pairing]:
        theirs = self.peer_side is Side.LNS
        return {p for p in must if (p.lac_tunnel, p.lns_tunnel)[theirs] not in self._forgiven}

    def verdict(self) -> Verdict:
        """See `World`."""
        ours, theirs = self.ours, self.theirs
        problems = [*self.found, *theirs.problems(), *ours.problems()]
        must = self._inexcusable(self.expected - ours.ended_on_purpose() - theirs.ended_on_purpose())
        kept = ours.held() & theirs.held()
        if self.weather.loss <= HARSH and (lost := must - kept):
            problems.append(f"lost {sorted(lost)}")
        return Verdict(
            seed=self.seed,
            weather=self.weather,
            problems=tuple(problems),
            sessions=len(kept),
            survivors=len(must & kept),
            crashes=self.crashes,
            failed_recoveries=ours.failed_recoveries(),
        )


def simulate_peer(daemon: str, seed: int) -> Verdict:
    """Run the history of one seed."""
    return PeerWorld(daemon, seed).run()
