"""Whole nodes of ours in front of other people's daemons, with PPP: nothing is alive on one side only."""

from random import Random
from struct import pack

import pytest

from holdfast.core.clock import SECOND, Instant
from holdfast.lab.sim.__main__ import main
from holdfast.lab.sim.machine import Pairing, pairing
from holdfast.lab.sim.peer_node_sweep import node_crashes
from holdfast.lab.sim.peer_node_world import PeerNodeWorld, simulate_peer_node
from holdfast.lab.sim.peer_ppp import (
    ECHO,
    ECHO_FAILURES,
    ECHO_INTERVAL,
    FRAME,
    IPCP,
    LATE,
    LCP,
    PAP,
    REQUEST,
    SET_UP,
    Ppp,
)
from holdfast.lab.sim.peer_tunnel import Call, Tunnel
from holdfast.lab.sim.peer_wire import data_header
from holdfast.lab.sim.peers import DAEMONS
from holdfast.lab.sim.world import ADDRESSES
from holdfast.protocol import closing, orphans, silent
from lab.histories import all_end_well, walk_ends_well

SEEDS = range(20)
ALL = sorted(DAEMONS)


@pytest.mark.parametrize("daemon", ALL)
def test_after_any_history_both_sides_have_the_same_sessions(daemon: str) -> None:
    all_end_well((simulate_peer_node(daemon, seed) for seed in SEEDS), f"--nodes --peers {daemon}")


@pytest.mark.parametrize("daemon", ALL)
def test_a_crash_at_every_boundary_of_a_node_s_life(daemon: str) -> None:
    walk_ends_well(node_crashes(daemon), at_least=60)


FOUND = {
    ("xl2tpd", 841): "a StopCCN whose acknowledgement was noted, and lost in the restart",
    ("xl2tpd", 30480): "a ZLB that a HELLO overtook, and calls placed without end in a tunnel that was ended",
    ("xl2tpd", 938): "a link that the peer negotiated anew into two outages, until its time was up",
    ("xl2tpd", 1304): "a CHAP Success that was lost while PPP was negotiated anew",
    ("xl2tpd", 1955): "a crash while IPCP was negotiated anew",
    ("xl2tpd", 30130): "a tunnel that was cleared before its peer had told its numbers",
    ("xl2tpd", 35): "a StopCCN that had to be acknowledged unseen, in a tunnel that goes on acknowledging",
    ("accel-ppp", 913): "a session with the id of a call that a restart had lost and the peer still had",
    ("go-l2tp", 39): "a late Configure-Request for a link that was up",
    ("go-l2tp", 6090): "a late challenge, and a Success that was lost",
    ("l2tpns", 5473): "a restart while PPP was negotiated anew",
    ("l2tpns", 6294): "a password that came before LCP was open",
    ("l2tpns", 27): "two HELLOs that crossed",
}
"""Seeds that ended badly once, and what they met."""


@pytest.mark.parametrize(("daemon", "seed"), FOUND, ids=FOUND.values())
def test_what_was_found_once(daemon: str, seed: int) -> None:
    assert not simulate_peer_node(daemon, seed).problems


def test_the_histories_are_worth_running() -> None:
    worlds = [PeerNodeWorld(daemon, seed) for daemon in ALL for seed in range(12)]
    verdicts = [world.run() for world in worlds]
    events: dict[str, int] = {}
    for world in worlds:
        for name, count in world.node.events.items():
            events[name] = events.get(name, 0) + count
    assert sum(v.crashes for v in verdicts) > 25
    assert sum(v.survivors for v in verdicts) > 15
    assert min(events[name] for name in ("ppp.up", "recovery.proved", "session.lost_call")) > 3


def test_the_command_runs_nodes_in_front_of_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--nodes", "--peers", "go-l2tp", "--seeds", "2"]) == 0
    assert "2 histories" in capsys.readouterr().out


# The PPP of the models.


class Lines:
    """A client and a server of the model, with a wire that delivers at once unless it is cut."""

    def __init__(self, secret: bytes = b"s") -> None:
        self.cut = False
        self.frames: list[bytes] = []
        self.queue: list[tuple[str, bytes]] = []
        self.client = Ppp(Random(1), lambda f: self.queue.append(("server", f)), 0, user=b"u", secret=secret)
        self.server = Ppp(
            Random(2),
            lambda f: self.queue.append(("client", f)),
            0,
            user=b"u",
            secret=secret,
            gives=b"\x64\x40\x01\x02",
        )

    def deliver(self, now: Instant) -> None:
        while self.queue:
            to, frame = self.queue.pop(0)
            if not self.cut:
                self.frames.append(frame)
                (self.client if to == "client" else self.server).receive(frame, now)

    def until(self, end: Instant) -> None:
        while (now := min(self.client.deadline(), self.server.deadline())) <= end:
            if self.client.failed or self.server.failed:
                return
            for ppp in (self.client, self.server):
                if ppp.deadline() <= now:
                    ppp.timer(now)
            self.deliver(now)


def test_two_of_the_models_agree_and_keep_asking_for_echoes() -> None:
    lines = Lines()
    lines.deliver(0)
    assert lines.client.up and lines.server.up
    lines.until(200 * SECOND)
    assert lines.client.up and not lines.client.failed
    lines.cut = True
    lines.until(200 * SECOND + (ECHO_FAILURES + 2) * ECHO_INTERVAL)
    assert "no echoes" in (lines.client.failed, lines.server.failed)


def test_a_link_of_the_model_that_does_not_come_up_fails() -> None:
    lines = Lines()
    lines.cut = True
    lines.until(SET_UP)
    assert lines.client.failed == LATE


@pytest.mark.parametrize("protocol", [LCP, IPCP])
def test_a_request_for_what_is_open_is_negotiated_anew(protocol: int) -> None:
    lines = Lines()
    lines.deliver(0)
    option = b"\x05\x06\0\0\0\7" if protocol == LCP else b"\x03\x06\0\0\0\0"
    request = FRAME + pack(">HBBH", protocol, 1, 99, 4 + len(option)) + option
    lines.server.receive(request, SECOND)
    assert not lines.server.up
    lines.deliver(SECOND)
    assert lines.client.up and lines.server.up


def test_a_client_of_the_model_says_who_it_is_again_until_it_is_heard() -> None:
    lines = Lines()
    lines.client.receive(FRAME + pack(">HBBHBBH", LCP, 1, 7, 8, 3, 4, PAP), 0)
    number = lines.queue[0][1][5]
    lines.client.receive(FRAME + pack(">HBBH", LCP, 2, number, 4), 0)
    lines.queue.clear()
    for at in (3, 6, 9):
        lines.client.timer(at * SECOND)
    assert [frame[2:4] for _, frame in lines.queue] == [pack(">H", PAP)] * 3


def test_a_link_that_is_late_is_excused_only_if_nothing_of_it_came() -> None:
    world = PeerNodeWorld("xl2tpd", 0)
    tunnel, call = Tunnel(7), Call(3, 4, 0)
    tunnel.remote = 9
    ppp = Ppp(Random(1), lambda frame: None, 100 * SECOND, user=b"u", secret=b"s")
    theirs = ADDRESSES[world.peer_side]
    must = {pairing(world.peer_side, 7, 3, 9, 4)}

    def left(body: bytes, failed: str = LATE) -> set[Pairing]:
        ppp.failed = failed
        world._left_alone.clear()
        world._arrive(data_header(9, 4) + FRAME + body, None, theirs, to_us=True)
        world.theirs.peer.on_failed(tunnel, call, ppp)
        return world._inexcusable(must)

    world.ours.start(world.now)
    assert world.ours.running
    assert left(pack(">HBBH", LCP, ECHO, 1, 4), "no echoes") == must
    assert left(pack(">HBBH", LCP, ECHO, 1, 4)) == set()
    assert left(pack(">HBBH", IPCP, REQUEST, 1, 4)) == must


# Planted faults.


def found(daemon: str) -> str:
    """What the walk and a few histories complain of."""
    verdicts = [v for _, v in node_crashes(daemon)] + [simulate_peer_node(daemon, seed) for seed in range(6)]
    return "\n".join(problem for v in verdicts for problem in v.problems)


def test_a_call_that_a_restart_lost_and_nobody_ends_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "named", lambda *args: False)
    assert "only at the peer [Pairing" in found("xl2tpd")


def test_a_session_that_ends_without_a_word_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "send_cdn", lambda *args: None)
    assert "only at the peer [Pairing" in found("accel-ppp")


def test_a_tunnel_whose_end_was_missed_and_that_stays_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent, "end_if_empty", lambda *args, **more: None)
    assert any("tunnels only here" in problem for problem in simulate_peer_node("xl2tpd", 35).problems)
