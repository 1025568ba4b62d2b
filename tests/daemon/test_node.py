"""Nodes with everything but I/O: sessions that outlive the process that set them up."""

import pytest
from msgspec.structs import replace

from daemon.hosts import LAC, LNS, Host, Network, lac_config
from holdfast.core import seq
from holdfast.core.auth import CHAP
from holdfast.core.clock import Instant
from holdfast.core.ids import RandomBytes
from holdfast.daemon.config import parse
from holdfast.daemon.effects import Address, Effect, Persist, Send, Want
from holdfast.ppp import effects as links
from holdfast.ppp.config import LinkConfig
from holdfast.ppp.link import Link
from holdfast.protocol import effects as protocol_effects
from holdfast.records import PppRecord, SessionRecord, TunnelRecord, session_key, split_key
from holdfast.records.writes import ForgetSession, Hint
from holdfast.wire.header import data_header, parse_control

WHO = {"lns": (LNS,), "lac": (LAC,), "both": (LNS, LAC)}


def ppp_frames(network: Network) -> list[bytes]:
    """PPP frames other than echo requests and replies, seen on the wire."""
    frames = [data[6:] for _, data in network.wire if not data[0] & 0x80]
    return [f for f in frames if not (f[:4] == b"\xff\x03\xc0\x21" and f[4] in (9, 10))]


@pytest.mark.parametrize("who", WHO)
def test_F_5_sessions_addresses_and_ids_outlive_the_process(who: str) -> None:
    network = Network(sessions=6)
    network.up()
    before = {host: (dict(host.plane), dict(host.sessions)) for host in network.hosts.values()}
    assert all(len(plane) == 6 for plane, _ in before.values())
    killed = [network.hosts[address] for address in WHO[who]]
    network.kill(*killed)
    network.run(2)
    network.start(*killed)
    network.run(5)
    for host, (plane, sessions) in before.items():
        assert host.plane == plane
        assert host.sessions == sessions
    for host in killed:
        assert len(host.events("node.synchronised")) == 1


@pytest.mark.parametrize("who", WHO)
def test_KT_1_nothing_is_renegotiated_because_of_a_failover(who: str) -> None:
    network = Network(sessions=6)
    network.up()
    magics = {k: s.ppp.local_lcp.magic for k, s in network.lns.sessions.items() if s.ppp}
    network.wire.clear()
    killed = [network.hosts[address] for address in WHO[who]]
    network.kill(*killed)
    network.start(*killed)
    network.run(120)
    assert ppp_frames(network) == []
    assert magics == {k: s.ppp.local_lcp.magic for k, s in network.lns.sessions.items() if s.ppp}
    assert len(network.lns.node.lines) == len(network.lac.node.lines) == 6


def test_K_7_unanswered_echoes_end_nothing_while_the_tunnel_is_in_doubt() -> None:
    network = Network(sessions=3, lac_extra="[ppp]\necho_interval_s = 1\necho_failures = 3\n")
    network.up()
    network.kill(network.lns)
    network.run(20)
    network.start(network.lns)
    network.run(20)
    assert len(network.lac.plane) == 3
    assert len(network.lac.events("ppp.up")) == 3


def test_KT_2_a_peer_that_is_away_for_a_minute_costs_no_session() -> None:
    network = Network(sessions=3)
    network.up()
    network.kill(network.lns)
    network.run(55)
    network.start(network.lns)
    network.run(30)
    assert len(network.lns.plane) == len(network.lac.plane) == 3
    assert not network.lac.events("session.down")


def test_KT_3_a_repeated_chap_response_is_answered_from_the_record() -> None:
    network = Network(sessions=1)
    network.up()
    (key,) = network.lns.node.lines
    record = network.lns.sessions[key].ppp
    assert record is not None
    network.kill(network.lns)
    network.start(network.lns)
    network.run(1)
    network.wire.clear()
    response = bytes((2, record.auth_id, 0, 4 + 1 + 16 + 2, 16)) + bytes(16) + b"u0"
    effects = network.lns.node.ppp(key, b"\xff\x03\xc2\x23" + response, network.lac.address, network.now)
    network.carry(network.lns, effects)
    ((_, answer),) = network.wire
    assert record.auth_method == CHAP
    assert answer[6:12] == b"\xff\x03\xc2\x23" + bytes((3, record.auth_id))


def test_KT_12_new_sessions_after_a_restart_collide_with_no_recovered_one() -> None:
    network = Network(sessions=4)
    network.up()
    spare = network.lac.config.subscriber[0].name
    network.carry(network.lac, network.lac.node.subscriber_down(spare, network.now) or [])
    network.run(1)
    addresses = {e.address for e in network.lns.plane.values()}
    network.kill(network.lns)
    network.start(network.lns)
    network.carry(network.lac, network.lac.node.subscriber_up(spare, network.now) or [])
    network.run(3)
    assert len({e.address for e in network.lns.plane.values()}) == 4
    assert addresses < {e.address for e in network.lns.plane.values()}


def test_F_72_a_session_that_one_side_had_not_recorded_is_redialled_and_left_nowhere() -> None:
    network = Network(sessions=3)
    network.up()
    lost = next(iter(network.lns.sessions))
    del network.lns.sessions[lost]
    network.kill(network.lns)
    network.start(network.lns)
    network.run(10)
    assert len(network.lns.plane) == len(network.lac.plane) == 3
    assert lost not in network.lns.plane
    assert [log.fields["cause"] for log in network.lac.events("session.down")] == ["stale"]


def test_T_23_a_purged_set_up_is_tried_again_at_once_with_another_id() -> None:
    network = Network(sessions=1, tunnels=1)
    network.lose = lambda source, data: (
        not data[0] & 0x80
    )  # PPP never gets through: the session stays half-made
    network.start(network.lns, network.lac)
    network.run(1)
    (first,) = network.lac.node.lines
    network.lose = lambda source, data: False
    network.kill(network.lns)
    network.start(network.lns)
    network.run(1)
    (second,) = network.lac.node.lines
    assert second != first
    assert network.lac.node.lines[second].link.opened


@pytest.mark.parametrize("who", ["lns", "lac"])
def test_a_set_up_lost_in_a_silent_restart_is_left_nowhere_and_tried_again(who: str) -> None:
    silent = "[failover]\nadvertise = false\n"
    network = Network(sessions=3, tunnels=1, lns_extra=silent, lac_extra=silent)
    network.lose = lambda source, data: not data[0] & 0x80 and b"\xc2\x23\x03" in data  # no CHAP Success
    network.start(network.lns, network.lac)
    network.run(2)
    killed = getattr(network, who)
    other = network.lac if who == "lns" else network.lns
    half_made = set(other.node.lines)
    assert len(half_made) == 3
    assert not killed.sessions
    network.lose = lambda source, data: False
    network.kill(killed)
    network.run(1)
    network.start(killed)
    network.run(30)
    assert not half_made & set(other.node.lines)
    assert {s.local_id for s in network.lns.sessions.values()} == {
        s.peer_id for s in network.lac.sessions.values()
    }
    assert len(network.lns.plane) == len(network.lac.plane) == 3


def test_without_rfc_4951_a_session_s_record_goes_before_its_end_is_said_or_acknowledged() -> None:
    silent = "[failover]\nadvertise = false\n"
    network = Network(sessions=1, tunnels=1, lns_extra=silent, lac_extra=silent)
    network.up()
    (key,) = network.lac.node.lines
    ours = network.lac.node.clear_session(key, network.now) or []
    cdn = next(e for e in ours if isinstance(e, Send) and e.data[0] & 0x80)
    theirs = network.lns.node.control(cdn.data, network.lac.address, network.now)
    for effects in (ours, theirs):
        said = next(e for e in effects if isinstance(e, Send) and e.data[0] & 0x80)
        forgotten = next(e for e in effects if isinstance(e, Persist) and e.lane == said.lane)
        assert effects.index(forgotten) < effects.index(said)
        assert any(isinstance(w, ForgetSession) for w in forgotten.writes)
        assert any(isinstance(w, Hint) for w in forgotten.writes)


def test_a_journal_that_cannot_delete_ends_no_tunnel() -> None:
    silent = "[failover]\nadvertise = false\n"
    network = Network(sessions=1, tunnels=1, lns_extra=silent, lac_extra=silent)
    network.up()
    (key,) = network.lns.node.lines
    network.carry(network.lns, network.lns.node.clear_session(key, network.now) or [])
    (tunnel,) = network.lns.node.endpoint.ctx.established()
    assert network.lns.node.commit_failed(tunnel.local_id, network.now) == []
    assert tunnel.established


def test_K_12_an_address_is_free_only_after_its_record_is_gone() -> None:
    network = Network(sessions=1)
    network.up()
    (entry,) = network.lns.plane.values()
    effects = network.lns.node.clear_session(entry.key, network.now)
    assert effects is not None
    order = [type(e).__name__ for e in effects]
    assert order.index("Unwant") < order.index("Persist") < order.index("Release")


def test_an_address_comes_into_the_data_plane_only_after_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(sessions=1)
    seen: list[str] = []
    perform = network.lns.perform

    def watch(effects: list[Effect], now: int) -> list[tuple[bytes, Address]]:
        seen.extend(type(e).__name__ for e in effects if isinstance(e, Persist | Want))
        return perform(effects, now)

    monkeypatch.setattr(network.lns, "perform", watch)
    network.up()
    assert seen.count("Want") == 1
    assert seen[seen.index("Want") - 1] == "Persist"


def test_a_journal_that_cannot_write_refuses_new_sessions_and_keeps_running_ones() -> None:
    network = Network(sessions=2)
    network.up()
    name = network.lac.config.subscriber[0].name
    network.carry(network.lac, network.lac.node.subscriber_down(name, network.now) or [])
    network.run(1)
    assert len(network.lns.plane) == 1
    network.lns.journal_works = False
    network.lns.node.journal_health(writable=False)
    network.carry(network.lac, network.lac.node.subscriber_up(name, network.now) or [])
    network.run(30)
    assert len(network.lns.plane) == 1
    refused = network.lac.events("session.down")
    assert refused
    assert refused[-1].fields["result"] == 4
    network.lns.journal_works = True
    network.lns.node.journal_health(writable=True)
    network.run(90)
    assert len(network.lns.plane) == 2


def test_a_commit_that_fails_ends_the_new_session_with_cdn_4() -> None:
    network = Network(sessions=2)
    network.up()
    name = network.lac.config.subscriber[0].name
    network.carry(network.lac, network.lac.node.subscriber_down(name, network.now) or [])
    network.run(1)
    network.lns.journal_works = False
    network.carry(network.lac, network.lac.node.subscriber_up(name, network.now) or [])
    network.run(0.1)
    assert network.lac.events("session.down")[-1].fields["result"] == 4
    assert len(network.lns.plane) == 1


def test_an_error_in_one_sessions_machine_costs_that_session_only(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(sessions=3)
    network.up()
    victim = next(iter(network.lns.node.lines.values()))
    receive = Link.receive

    def broken(self: Link, payload: bytes, now: int) -> list[links.Effect]:
        if self is victim.link:
            raise ZeroDivisionError
        return receive(self, payload, now)

    monkeypatch.setattr(Link, "receive", broken)
    effects = network.lns.node.ppp(
        victim.key, b"\xff\x03\xc0\x21\x09\x01\x00\x08\0\0\0\0", (LAC, 1701), network.now
    )
    network.carry(network.lns, effects)
    monkeypatch.undo()
    assert len(network.lns.plane) == 2
    (down,) = network.lac.events("session.down")
    assert (down.fields["result"], down.fields["error"]) == (2, 6)
    assert "ZeroDivisionError" in str(network.lns.events("machine.fault")[0].fields["traceback"])


def test_a_frame_from_another_address_is_dropped_and_counted() -> None:
    network = Network(sessions=1)
    network.up()
    (key,) = network.lns.node.lines
    terminate = b"\xff\x03\xc0\x21\x05\x01\x00\x04"
    assert network.lns.node.ppp(key, terminate, ("198.51.100.9", 1701), network.now) == []
    assert network.lns.node.counters()["rx_wrong_source"] == 1
    assert network.lns.node.lines[key].link.opened


def test_P_46_a_client_that_negotiates_anew_after_a_restart_keeps_its_address() -> None:
    network = Network(sessions=1)
    network.up()
    (key,) = network.lns.node.lines
    address = network.lns.plane[key].address
    network.kill(network.lns)
    network.start(network.lns)
    network.run(1)
    line = network.lac.node.lines[next(iter(network.lac.node.lines))]
    fresh = Link(line.link.config, network.lac.random.randbytes)
    line.link = fresh  # the subscriber's own equipment has restarted behind the same session
    network.carry(network.lac, _transmit(network, line.key, fresh.start(network.now)))
    network.run(30)
    assert network.lns.node.lines[key].link.opened
    assert fresh.opened
    assert network.lns.plane[key].address == address


def _transmit(network: Network, key: int, effects: list[links.Effect]) -> list[Effect]:
    line = network.lac.node.lines[key]
    header = data_header(line.tunnel.peer_id, line.session.peer_id)
    return [
        Send(key, header + e.payload, network.lns.address) for e in effects if isinstance(e, links.Transmit)
    ]


def test_clearing_a_tunnel_ends_its_sessions_and_they_dial_again() -> None:
    network = Network(sessions=4, tunnels=2)
    network.up()
    tunnel_id = next(iter(network.lns.tunnels))
    network.carry(network.lns, network.lns.node.clear_tunnel(tunnel_id, network.now) or [])
    assert tunnel_id not in network.lns.tunnels
    assert len(network.lns.plane) == 2
    network.run(90)
    assert len(network.lns.plane) == len(network.lac.plane) == 4
    assert len(network.lns.tunnels) == 2


def test_teardown_ends_everything_with_the_peers_knowledge() -> None:
    network = Network(sessions=3)
    network.up()
    network.carry(network.lns, network.lns.node.teardown(network.now))
    assert not network.lns.tunnels
    assert not network.lns.sessions
    assert not network.lns.plane
    assert not network.lac.plane
    assert {log.fields["result"] for log in network.lac.events("tunnel.down")} == {6}


def test_a_subscriber_that_hangs_up_leaves_nothing_behind() -> None:
    network = Network(sessions=2)
    network.up()
    network.carry(network.lac, network.lac.node.subscriber_down("u0", network.now) or [])
    network.run(120)
    assert not any(host.events("ppp.renegotiated") for host in network.hosts.values())
    for host in network.hosts.values():
        assert len(host.plane) == len(host.sessions) == len(host.node.lines) == 1


def test_F_70_ids_that_were_used_recently_are_remembered_across_a_restart() -> None:
    network = Network(sessions=2, tunnels=1)
    network.up()
    network.carry(network.lac, network.lac.node.subscriber_down("u0", network.now) or [])
    network.run(10)
    record = network.lns.endpoint_record
    assert record is not None
    (freed,) = next(iter(record.recent_session_ids.values()))
    network.kill(network.lns)
    network.start(network.lns)
    tunnel = network.lns.node.endpoint.tunnels[int(next(iter(record.recent_session_ids)))]
    assert tunnel.ids.recent == [freed]


def test_F_70_a_tunnels_id_is_remembered_across_a_restart() -> None:
    network = Network(sessions=1, tunnels=1)
    network.up()
    (freed,) = network.lns.tunnels
    network.carry(network.lns, network.lns.node.clear_tunnel(freed, network.now) or [])
    network.run(120)
    network.kill(network.lns)
    network.start(network.lns)
    assert freed in network.lns.node.endpoint.ctx.tunnel_ids.recent


def test_a_recorded_subscriber_that_is_no_longer_configured_is_hung_up() -> None:
    network = Network(sessions=2)
    network.up()
    other = Network(sessions=1)
    network.kill(network.lac)
    network.lac.config = other.lac.config
    network.lac.new_process()
    network.start(network.lac)
    network.run(10)
    assert len(network.lns.plane) == len(network.lac.plane) == 1


def test_a_session_whose_record_raises_is_set_aside_and_its_subscriber_calls_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network(sessions=3)
    network.up()
    victim = next(iter(network.lns.sessions.values()))
    network.kill(network.lns)
    restore = Link.restore

    def fail_once(config: LinkConfig, record: PppRecord, random: RandomBytes, now: Instant) -> Link:
        if record is victim.ppp:
            raise KeyError("unheard of")
        return restore(config, record, random, now)

    monkeypatch.setattr(Link, "restore", fail_once)
    network.start(network.lns)
    (event,) = network.lns.events("record.quarantined")
    assert (event.fields["tunnel"], event.fields["session"]) == (victim.tunnel_id, victim.local_id)
    assert network.lns.set_aside == [victim]
    network.run(10)
    assert len(network.lns.plane) == len(network.lac.plane) == 3
    assert session_key(victim.tunnel_id, victim.local_id) not in network.lns.plane


def test_a_tunnel_whose_record_raises_is_set_aside_with_its_sessions() -> None:
    network = Network(sessions=4, tunnels=2)
    network.up()
    network.kill(network.lns)
    victim = next(iter(network.lns.tunnels.values()))
    network.lns.tunnels[victim.local_id] = replace(victim, peer_address="2001:db8::1")
    network.start(network.lns)
    aside = {type(record) for record in network.lns.set_aside}
    assert aside == {TunnelRecord, SessionRecord}
    assert all(key >> 32 != victim.local_id for key in network.lns.plane)
    assert len(network.lns.plane) == 2


def test_a_session_in_a_tunnel_that_its_subscriber_would_not_take_today_does_not_count_in_the_trunk() -> None:
    network = Network(sessions=2, tunnels=1)
    network.up()
    network.kill(network.lac)
    another = f'[[peer]]\nname = "lns2"\naddress = "{LNS}"\nsecret = "failover-secret"\nconnect = true\n'
    text = lac_config(2, 1).replace('tunnel = "lns1"', 'tunnel = "lns2"') + another
    network.lac.config = parse(text, "test")
    network.lac.new_process()
    before = set(network.lac.tunnels)
    network.start(network.lac)
    network.run(10)
    assert len(network.lac.plane) == 2
    opened = [t for t in network.lac.tunnels.values() if t.local_id not in before]
    assert [t.peer_name for t in opened] == ["lns2"]


def test_every_lane_of_a_session_is_its_key() -> None:
    network = Network(sessions=1)
    network.up()
    (key,) = network.lns.sessions
    tunnel_id, session_id = split_key(key)
    assert tunnel_id in network.lns.tunnels
    assert network.lns.sessions[key].local_id == session_id


def hosts_agree(network: Network) -> bool:
    """Whether both sides hold the same sessions, pair by pair."""

    def pairs(host: Host, swap: bool) -> set[tuple[int, int]]:
        found = {(s.local_id, s.peer_id) for s in host.sessions.values()}
        return {(b, a) for a, b in found} if swap else found

    return pairs(network.lns, False) == pairs(network.lac, True)


def test_restarts_one_after_the_other_keep_both_sides_in_agreement() -> None:
    network = Network(sessions=5)
    network.up()
    for _ in range(3):
        for host in (network.lns, network.lac):
            network.kill(host)
            network.run(0.5)
            network.start(host)
            network.run(0.5)
    network.run(60)
    assert hosts_agree(network)
    assert len(network.lns.plane) == 5


def test_ppp_begins_after_the_iccn_even_behind_a_narrow_window() -> None:
    network = Network(sessions=40, tunnels=1)
    network.start(network.lns, network.lac)
    network.run(1)  # less than PPP's Restart timer: no frame was lost
    assert len(network.lns.plane) == 40


def test_our_own_address_is_never_given_to_a_subscriber() -> None:
    network = Network(sessions=3)
    network.up()
    assert network.lns.config.ppp.local_address not in {e.address for e in network.lns.plane.values()}


def test_a_session_that_ends_in_the_input_that_began_it_is_only_told_of() -> None:
    network = Network(sessions=1, tunnels=1)
    late: list[tuple[Host, bytes]] = []

    def hold_iccn(source: Host, data: bytes) -> bool:
        held = data[0] & 0x80 and data[18:20] == b"\0\x0c" and not late
        if held:
            late.append((source, data))
        return bool(held)

    network.lose = hold_iccn
    network.start(network.lns, network.lac)
    (key,) = network.lac.node.lines
    network.carry(network.lac, network.lac.node.clear_session(key, network.now) or [])
    ((lac, iccn),) = late
    network.carry(network.lns, network.lns.node.control(iccn, lac.address, network.now))
    assert not network.lns.node.lines
    assert not network.lns.events("node.fault")
    network.run(90)
    assert len(network.lns.plane) == len(network.lac.plane) == 1


def test_a_first_record_that_fails_refuses_its_session_though_a_second_was_asked_for() -> None:
    network = Network(sessions=1)
    network.up()
    ((key, line),) = network.lns.node.lines.items()
    line.recorded = False  # as it is before the first commit
    network.carry(network.lns, network.lns.node.commit_failed(key, network.now))
    assert network.lac.events("session.down")[-1].fields["result"] == 4


def test_a_newer_record_that_fails_is_written_again() -> None:
    network = Network(sessions=1)
    network.up()
    ((key, recorded),) = network.lns.sessions.items()
    del network.lns.sessions[key]
    network.carry(network.lns, network.lns.node.commit_failed(key, network.now))
    assert key in network.lns.plane
    network.run(6)
    assert network.lns.sessions[key] == recorded


def test_a_lac_that_is_told_to_stop_wants_no_retries() -> None:
    network = Network(sessions=1)
    network.start(network.lac)  # nobody answers: calls and tunnels are going to be tried again
    network.run(65)
    network.carry(network.lac, network.lac.node.teardown(network.now))
    assert network.lac.node.dialler.deadline() is None


@pytest.mark.parametrize("who", WHO)
def test_without_rfc_4951_sessions_outlive_the_process_all_the_same(who: str) -> None:
    none = "[failover]\nadvertise = false"
    network = Network(sessions=6, lns_extra=none, lac_extra=none)
    network.up()
    network.run(2)  # the recorded numbers may lag by a second
    before = {host: (dict(host.plane), set(host.sessions)) for host in network.hosts.values()}
    killed = [network.hosts[address] for address in WHO[who]]
    network.wire.clear()
    network.kill(*killed)
    network.run(2)
    network.start(*killed)
    network.run(60)
    for host, (plane, sessions) in before.items():
        assert host.plane == plane
        assert set(host.sessions) == sessions
    for host in killed:
        assert len(host.events("node.synchronised")) == 1
    assert ppp_frames(network) == []
    assert not any(host.events("session.down") for host in network.hosts.values())


def test_the_numbers_of_a_tunnel_are_recorded_within_a_second() -> None:
    none = "[failover]\nadvertise = false"
    network = Network(sessions=3, tunnels=1, lns_extra=none, lac_extra=none)
    network.up()
    network.run(1)
    for host in network.hosts.values():
        (record,) = host.tunnels.values()
        channel = host.node.endpoint.tunnels[record.local_id].channel
        assert (record.acked, record.nr) == (channel.acked, channel.nr)


def test_the_numbers_ride_in_the_commit_that_forgets_a_session() -> None:
    none = "[failover]\nadvertise = false"
    network = Network(sessions=3, tunnels=1, lns_extra=none, lac_extra=none)
    network.up()
    network.run(2)
    lac, lns = network.lac, network.lns
    key, record = next(iter(lns.sessions.items()))
    (peer_tunnel,) = lac.tunnels
    (cdn,) = (
        effect.data
        for effect in lac.node.endpoint.close_session(peer_tunnel, record.peer_id, network.now)
        if isinstance(effect, protocol_effects.Send)
    )
    network.carry(lns, lns.node.control(cdn, lac.address, network.now))
    assert key not in lns.sessions
    assert lns.tunnels[record.tunnel_id].nr == seq.succ(parse_control(cdn).ns)
