"""Proof of forwarding: after a restart of ours every session is shown to be alive, or is ended on both sides."""

from collections import Counter

import pytest

from daemon.hosts import LAC, LNS, Host, Network
from holdfast.core.clock import SECOND
from holdfast.daemon.proofs import INTERVAL, TRIES, Proofs
from holdfast.daemon.views import RecoveryView
from holdfast.protocol.pace import ECHOES_PER_TICK, TICK
from holdfast.records import Counters

WITHOUT_RFC4951 = "[failover]\nadvertise = false\n"
OFTEN = "[ppp]\necho_interval_s = 100\n"
ECHO_REQUEST = b"\xff\x03\xc0\x21\x09"


def silent_network(sessions: int = 4, tunnels: int = 2, lns_ppp: str = "") -> Network:
    """Neither side offers RFC 4951; the next scheduled echo of a LAC's subscriber is far away."""
    network = Network(sessions, tunnels, lns_ppp + WITHOUT_RFC4951, OFTEN + WITHOUT_RFC4951)
    network.up()
    return network


def restart(network: Network, host: Host, away_s: float = 1) -> None:
    network.kill(host)
    network.run(away_s)
    network.wire.clear()
    network.start(host)


def views(host: Host) -> list[RecoveryView]:
    return list(host.node.recoveries.views())


def is_echo_request_for(data: bytes, session_id: int) -> bool:
    return (
        not data[0] & 0x80
        and data[4:6] == session_id.to_bytes(2, "big")
        and data[6:].startswith(ECHO_REQUEST)
    )


@pytest.mark.parametrize("who", [LNS, LAC])
@pytest.mark.parametrize("failover", [WITHOUT_RFC4951, ""], ids=["silent", "rfc4951"])
def test_every_session_is_asked_once_and_counted(who: str, failover: str) -> None:
    interval = "echo_interval_s = 100\n"
    network = Network(6, 2, interval + failover, "[ppp]\n" + interval + failover)
    network.up()
    host = network.hosts[who]
    restart(network, host)
    network.run(0.5)
    assert {v.proof for v in views(host)} == {"pending"}
    assert sum(v.unproved for v in views(host)) == 6
    network.run(3)
    asked = [data for sender, data in network.wire if sender is host and data[6:].startswith(ECHO_REQUEST)]
    assert len(asked) == 6
    assert {v.proof for v in views(host)} == {"done"}
    assert sum(v.proved for v in views(host)) == 6
    assert len(host.events("recovery.proved")) == 2
    (event,) = host.events("node.proved")
    assert event.fields == {"tunnels": 2, "proved": 6, "silent": 0, "ended": 0}
    assert not host.events("session.down")


@pytest.mark.parametrize("who", [LNS, LAC])
def test_data_from_the_peer_is_as_good_as_an_answer(who: str) -> None:
    network = silent_network()
    host = network.hosts[who]
    busy, *idle = host.node.lines
    network.lose = lambda sender, data: data[6:].startswith(ECHO_REQUEST)
    restart(network, host)
    network.run(2)
    assert sum(v.unproved for v in views(host)) == 4
    from_peer = Counters(up_packets=1) if who == LNS else Counters(down_packets=1)
    host.traffic[busy] = from_peer
    network.run(INTERVAL / SECOND)
    assert sum(v.proved for v in views(host)) == 1
    network.run(TRIES * INTERVAL / SECOND)
    assert busy in host.node.lines
    assert not host.node.lines.keys() & set(idle)


def test_what_the_plane_cannot_tell_proves_nothing_and_holds_up_nobody() -> None:
    network = silent_network(lns_ppp="echo_interval_s = 5\n")
    host = network.lns
    restart(network, host)
    host.traffic = dict.fromkeys(host.node.lines)
    network.run(4)
    assert sum(v.proved for v in views(host)) == 4
    before = dict(host.node.lines)
    network.lose = lambda sender, data: data[6:].startswith(ECHO_REQUEST)
    network.run(40)
    assert not host.node.lines.keys() & before.keys()


@pytest.mark.parametrize("who", [LNS, LAC])
def test_what_we_send_ourselves_proves_nothing(who: str) -> None:
    network = silent_network()
    host = network.hosts[who]
    old = set(host.node.lines)
    network.lose = lambda sender, data: data[6:].startswith(ECHO_REQUEST)
    restart(network, host)
    for n in range(round(1 + TRIES * INTERVAL / SECOND)):
        to_peer = Counters(down_packets=n) if who == LNS else Counters(up_packets=n)
        host.traffic = dict.fromkeys(host.node.lines, to_peer)
        network.run(1)
    network.run(1)
    assert not host.node.lines.keys() & old


def test_a_subscriber_whose_echoes_are_lost_stays_while_it_sends_data() -> None:
    network = silent_network(lns_ppp="echo_interval_s = 5\n")
    host = network.lns
    busy, idle = list(host.node.lines)[:2]
    network.lose = lambda sender, data: data[6:].startswith(ECHO_REQUEST)
    for n in range(60):
        host.traffic = {busy: Counters(up_packets=n)}
        network.run(1)
    assert busy in host.node.lines
    assert idle not in host.node.lines


def test_a_session_that_does_not_answer_is_ended_here_and_at_the_peer() -> None:
    network = silent_network(lns_ppp="echo_interval_s = 100\n")
    victim = next(iter(network.lac.node.lines.values()))
    ids = victim.session_id, victim.key
    network.lose = lambda sender, data: is_echo_request_for(data, ids[0])
    restart(network, network.lns)
    network.run(1 + TRIES * INTERVAL / SECOND - 1)
    assert not network.lns.events("session.down")
    network.run(2)
    (down,) = network.lns.events("session.down")
    assert down.fields["text"] == "no answer to LCP echoes after the restart"
    (told,) = network.lac.events("session.down")
    assert (told.fields["cause"], told.fields["result"]) == ("peer", 1)
    assert ids[1] not in network.lac.node.lines
    assert sum(v.silent_cleared for v in views(network.lns)) == 1
    (event,) = network.lns.events("node.proved")
    assert (event.fields["proved"], event.fields["silent"]) == (3, 1)
    network.lose = lambda sender, data: False
    network.run(90)
    assert len(network.lns.plane) == len(network.lac.plane) == 4


def test_with_echoes_off_nothing_is_asked_and_the_view_says_so() -> None:
    off = "echo_interval_s = 0\n"
    network = Network(3, 1, off + WITHOUT_RFC4951, "[ppp]\n" + off + WITHOUT_RFC4951)
    network.up()
    restart(network, network.lns)
    network.run(120)
    assert [v.proof for v in views(network.lns)] == ["off"]
    assert not [data for _, data in network.wire if not data[0] & 0x80]
    assert not network.lns.events("node.proved")
    assert len(network.lns.plane) == 3


def test_K_7_no_session_is_judged_while_its_peer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.daemon.proofs.TRIES", 2)
    network = silent_network()
    restart(network, network.lns)
    network.run(0.5)
    network.kill(network.lac)
    network.run(13)
    network.start(network.lac)
    network.run(60)
    assert not network.lns.events("session.down")
    assert sum(v.proved for v in views(network.lns)) == 4


def test_a_session_that_ends_meanwhile_is_decided() -> None:
    network = silent_network()
    restart(network, network.lns)
    network.run(0.5)
    key = next(iter(network.lns.node.lines))
    network.carry(network.lns, network.lns.node.clear_session(key, network.now) or [])
    network.run(5)
    (event,) = network.lns.events("node.proved")
    assert (event.fields["proved"], event.fields["silent"], event.fields["ended"]) == (3, 0, 1)


def test_echoes_are_paced() -> None:
    network = silent_network(sessions=55, tunnels=5, lns_ppp="echo_interval_s = 100\n")
    restart(network, network.lns)
    lost: Counter[int] = Counter()

    def deaf(sender: Host, data: bytes) -> bool:
        if sender is network.lns and data[6:].startswith(ECHO_REQUEST):
            lost[network.now // TICK] += 1
            return True
        return False

    network.lose = deaf
    network.run(7)
    assert sum(lost.values()) >= 2 * 55
    assert max(lost.values()) <= ECHOES_PER_TICK


def test_a_node_without_records_has_nothing_to_prove() -> None:
    network = silent_network()
    assert not network.lns.events("node.proved")
    assert not network.lns.node.proofs.waiting
    assert Proofs().deadline() is None
