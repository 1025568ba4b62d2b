"""The ledger of peers: what a node learns of them, keeps over restarts, and makes of it."""

from functools import partial

import pytest
from msgspec.structs import replace

from daemon.hosts import BEGAN_UTC_US, Host, Network
from holdfast.core.clock import SECOND
from holdfast.daemon import evidence
from holdfast.daemon.config import parse
from holdfast.daemon.ledger import MAX_ENTRIES, RESOLUTION_MS, Ledger
from holdfast.protocol.endpoint import Endpoint
from holdfast.protocol.recovery import REMOTE_ENDPOINT
from holdfast.protocol.resync import PATIENCE
from holdfast.protocol.settings import EndpointSettings
from holdfast.records import FailoverCapability
from holdfast.records.ledger import MethodRecord, Outcome, PeerRecord
from holdfast.state.saved import Saved

WITHOUT_RFC4951 = "[failover]\nadvertise = false\n"
DAY_US = 24 * 3600 * SECOND


def up(sessions: int = 4, tunnels: int = 2, failover: str = "") -> Network:
    network = Network(sessions, tunnels, failover, failover)
    network.up()
    network.run(2)
    return network


def restart(network: Network, host: Host, away_s: float = 3, then_s: float = 8) -> None:
    network.kill(host)
    network.run(away_s)
    network.wire.clear()
    network.start(host)
    network.run(then_s)


def deaf_to_recovery(network: Network) -> None:
    """The LAC offers RFC 4951 and answers no SCCRQ of the LNS, as routers are said to do."""
    network.lose = lambda source, data: source is network.lns and bool(data[0] & 0x80) and not any(data[4:6])


def entry(host: Host) -> PeerRecord:
    """The one entry of a host's journal."""
    (record,) = host.peers.values()
    return record


def sent_sccrq(network: Network, host: Host) -> bool:
    return any(source is host and data[0] & 0x80 and not any(data[4:6]) for source, data in network.wire)


def doubted(found: PeerRecord, network: Network) -> PeerRecord:
    return replace(found, contradictions=2, contradicted_utc_us=BEGAN_UTC_US + network.now)


def record(**changes: object) -> PeerRecord:
    known = PeerRecord(
        name="lac1", host_name="lac1", seen_utc_us=1, offered=FailoverCapability(True, False, 60_000)
    )
    return replace(known, **changes)


# What is noted.


def test_what_a_peer_is_and_offers_is_noted_when_a_tunnel_comes_up() -> None:
    network = up()
    found = entry(network.lns)
    assert found.key == ("lac1", "lac1")
    assert (found.offered, found.vendor) == (FailoverCapability(True, False, 60_000), "holdfast")
    assert (found.window, found.firmware) == (16, None)
    assert found.rfc4951 == found.silent == MethodRecord()


def test_a_recovery_by_rfc_4951_is_a_success_with_its_time() -> None:
    network = up()
    restart(network, network.lns)
    method = entry(network.lns).rfc4951
    assert (method.attempts, method.successes, method.failures) == (2, 2, 0)
    assert method.last is Outcome.SUCCESS and method.last_utc_us > BEGAN_UTC_US
    assert method.send_last_ms == method.receive_last_ms == method.send_worst_ms == 0
    assert entry(network.lns).silent.attempts == 0


def test_the_end_that_was_not_killed_notes_that_its_peer_recovers() -> None:
    network = up()
    restart(network, network.lns)
    assert entry(network.lac).answered == 2
    assert entry(network.lac).rfc4951.attempts == 0


def test_send_side_and_receive_side_of_a_silent_recovery_are_noted_apart() -> None:
    network = up(sessions=1, tunnels=1, failover=WITHOUT_RFC4951)
    (tunnel_id,) = network.lac.tunnels
    network.kill(network.lns)
    network.carry(
        network.lac, network.lac.node.clear_session(next(iter(network.lac.sessions)), network.now) or []
    )
    network.run(0.2)  # a CDN that nobody heard: its next repetition settles the receive side
    network.start(network.lns)
    network.run(8)
    method = entry(network.lns).silent
    assert (method.attempts, method.successes) == (1, 1)
    assert method.send_last_ms == 0
    assert method.receive_last_ms is not None and 500 <= method.receive_last_ms <= 1_000
    assert tunnel_id in network.lac.tunnels


def test_a_peer_that_is_gone_is_a_failure_with_the_reason_and_the_shortest_such_outage() -> None:
    network = up(failover=WITHOUT_RFC4951)
    network.kill(network.lns, network.lac)
    network.run(10)
    network.start(network.lns)
    network.run(40)
    found = entry(network.lns)
    assert (found.silent.attempts, found.silent.failures) == (2, 2)
    assert found.silent.last_reason == "no answer to any probe"
    assert found.kept_ms is None
    assert found.lost_ms is not None and 10_000 <= found.lost_ms <= 10_000 + RESOLUTION_MS


def test_how_long_a_peer_keeps_its_tunnel_is_a_lower_bound() -> None:
    network = up(failover=WITHOUT_RFC4951)
    restart(network, network.lns, away_s=25)
    found = entry(network.lns)
    assert found.kept_ms is not None and 25_000 - RESOLUTION_MS <= found.kept_ms <= 25_000
    restart(network, network.lns, away_s=2)
    assert entry(network.lns).kept_ms == found.kept_ms


def test_a_peer_that_was_more_patient_before_was_away_itself() -> None:
    found = evidence.kept(record(), 20_000)
    assert evidence.lost(found, 10_000).lost_ms is None
    found = evidence.lost(evidence.lost(found, 40_000), 30_000)
    assert (found.kept_ms, found.lost_ms) == (20_000, 30_000)
    assert evidence.kept(found, 25_000).lost_ms == 30_000
    assert evidence.kept(found, 35_000).lost_ms is None


def test_without_the_ledger_nothing_but_evidence_is_lost() -> None:
    network = up()
    deaf_to_recovery(network)
    for _ in range(3):
        network.lns.peers.clear()
        network.lns.alive_utc_us = 0
        restart(network, network.lns)
        assert len(network.lns.plane) == 4
    assert entry(network.lns).contradictions == 1


# The rule.


def test_two_restarts_in_which_rfc_4951_failed_and_silence_succeeded_make_silence_the_first() -> None:
    network = up()
    deaf_to_recovery(network)
    for count in (1, 2):
        restart(network, network.lns)
        found = entry(network.lns)
        assert found.contradictions == count
        assert (found.rfc4951.failures, found.silent.successes) == (2 * count, 2 * count)
        assert found.rfc4951.last_reason == "no answer to the SCCRQ"
        assert sent_sccrq(network, network.lns)
    restart(network, network.lns, then_s=1)
    assert not sent_sccrq(network, network.lns)
    assert len(network.lns.events("recovery.synchronised")) == 2
    assert len(network.lns.plane) == len(network.lac.plane) == 4
    assert not network.lac.events("session.down")


def test_a_refusal_counts_with_its_words() -> None:
    network = up()
    for tunnel in network.lac.node.endpoint.ctx.established():
        tunnel.secret = b""  # the LAC does not want to hear of it any more
    restart(network, network.lns)
    found = entry(network.lns)
    assert found.contradictions == 1
    assert found.rfc4951.last_reason.startswith("refused: StopCCN result")


def to_tunnel(host: Host, peer_tunnel: int, source: Host, data: bytes) -> bool:
    """Whether this is a control message of the host's on that tunnel."""
    return source is host and bool(data[0] & 0x80) and int.from_bytes(data[4:6], "big") == peer_tunnel


def test_a_tunnel_that_stays_silent_after_its_reset_speaks_against_rfc_4951() -> None:
    network = up(sessions=1, tunnels=1)
    for count in (1, 2):
        (old,) = (tunnel.peer_id for tunnel in network.lns.tunnels.values())
        network.lose = partial(to_tunnel, network.lns, old)
        restart(network, network.lns, then_s=90)
        assert entry(network.lns).contradictions == count
        assert entry(network.lns).rfc4951.last_reason == "silent after the reset"
        network.run(120)  # the subscriber has called again on another tunnel
        assert len(network.lns.plane) == 1
    network.lose = lambda source, data: False
    restart(network, network.lns)
    assert entry(network.lns).silent.successes == 1
    assert not sent_sccrq(network, network.lns)


def test_after_its_time_rfc_4951_is_tried_again_and_a_success_clears_it() -> None:
    network = up()
    old = BEGAN_UTC_US + network.now - evidence.RETRY_AFTER - DAY_US
    network.lns.peers = {("lac1", "lac1"): record(contradictions=2, contradicted_utc_us=old)}
    restart(network, network.lns)
    assert sent_sccrq(network, network.lns)
    assert entry(network.lns).contradictions == 0
    assert entry(network.lns).rfc4951.successes == 2


def test_another_offer_clears_it() -> None:
    network = up()
    network.lns.peers = {("lac1", "lac1"): doubted(entry(network.lns), network)}
    restart(network, network.lns)
    assert entry(network.lns).contradictions == 2  # the tunnels are those of the old offer
    network.lac.config = parse(
        "[node]\nname = 'lac1'\nrole = 'lac'\n[listen]\naddress = '192.0.2.2'\n[failover]\nrecovery_time_ms = 45000\n"
        "[[peer]]\nname = 'lns1'\naddress = '192.0.2.1'\nsecret = 'failover-secret'\nconnect = true\n",
        "test",
    )
    network.kill(network.lac)
    network.lac.tunnels.clear()
    network.lac.sessions.clear()
    network.start(network.lac)
    network.run(3)
    assert entry(network.lns).offered == FailoverCapability(True, False, 45_000)
    assert entry(network.lns).contradictions == 0


def test_the_peers_own_recovery_clears_it() -> None:
    network = up()
    network.lac.peers = {("lns1", "lns1"): doubted(entry(network.lac), network)}
    restart(network, network.lac)
    assert entry(network.lac).contradictions == 2
    restart(network, network.lns)
    assert entry(network.lac).contradictions == 0


def test_one_restart_teaches_the_tunnels_that_wait_for_their_turn() -> None:
    network = up(sessions=70, tunnels=70)  # 64 recoveries run at once
    deaf_to_recovery(network)
    restart(network, network.lns, then_s=4)
    found = entry(network.lns)
    assert (found.rfc4951.attempts, found.rfc4951.failures, found.silent.successes) == (64, 64, 70)
    assert found.contradictions == 1
    assert len(network.lns.plane) == 70
    last = max(network.lns.node.recoveries.views(), key=lambda view: view.synchronised_ms or 0)
    assert last.method == "silent" and not network.lns.node.endpoint.ctx.fell_back


def test_within_one_restart_a_success_of_rfc_4951_outweighs_failures() -> None:
    found = evidence.trusted(record(contradictions=1, contradicted_boot=3), 4)
    assert evidence.contradicted(found, 4, 5).contradictions == 0
    assert evidence.contradicted(found, 5, 5).contradictions == 1


@pytest.mark.parametrize(
    ("kept_ms", "away_ms", "patience_s"),
    [(None, 0, 31), (5_000, 0, 31), (50_000, 10_000, 40), (50_000, 60_000, 31), (500_000, 10_000, 60)],
)
def test_patience_follows_what_the_peer_has_shown_within_bounds(
    kept_ms: int | None, away_ms: int, patience_s: int
) -> None:
    found = evidence.evidence(record(kept_ms=kept_ms), 2, away_ms)
    assert found.patience == patience_s * SECOND >= PATIENCE


def test_a_clock_that_went_back_makes_no_peer_doubted_for_ever() -> None:
    found = record(contradictions=2, contradicted_utc_us=5 * DAY_US)
    assert evidence.evidence(found, 6 * DAY_US, 0).rfc4951_fails
    assert not evidence.evidence(found, 4 * DAY_US, 0).rfc4951_fails
    ledger, _ = ledger_with(0, utc_us=4 * DAY_US)
    ledger._put(found)
    assert ledger.doubted_until_utc_us(found.key) == 0
    ledger, _ = ledger_with(0, utc_us=6 * DAY_US)
    ledger._put(found)
    assert ledger.doubted_until_utc_us(found.key) == 35 * DAY_US


# Bounds.


def ledger_with(count: int, utc_us: int = 9) -> tuple[Ledger, Endpoint]:
    endpoint = Endpoint(
        EndpointSettings(host_name="lns1", local_address="192.0.2.1"),
        lambda a, h: None,
        bytes,
        lambda: utc_us,
    )
    ledger = Ledger(endpoint, lambda: utc_us)
    peers = [record(host_name=f"h{i}", seen_utc_us=count - i) for i in range(count)]
    ledger.begin(Saved(peers=peers), 1, 0)
    return ledger, endpoint


def test_the_entry_that_was_not_seen_for_longest_makes_room() -> None:
    ledger, _ = ledger_with(MAX_ENTRIES)
    ledger._put(record(host_name="new"))
    hosts = {host for _, host in ledger.known()}
    assert len(hosts) == MAX_ENTRIES
    assert f"h{MAX_ENTRIES - 1}" not in hosts and {"new", "h0"} <= hosts
    assert len(ledger.take()) == 3  # a sign of life, the new one, the end of the old one
    assert not ledger.dirty


def test_a_journal_with_more_entries_is_put_right() -> None:
    ledger, _ = ledger_with(MAX_ENTRIES + 7)
    assert len(list(ledger.known())) == MAX_ENTRIES
    assert len(ledger.take()) == 8  # a sign of life, and the end of seven


def test_a_peer_with_a_tunnel_keeps_its_entry() -> None:
    network = up(sessions=1, tunnels=1)
    ledger = network.lns.node.ledger
    for i in range(MAX_ENTRIES + 5):
        ledger._put(record(host_name=f"h{i}"))
    assert ledger.entry(("lac1", "lac1")) is not None
    assert len(list(ledger.known())) == MAX_ENTRIES


def test_long_texts_of_a_peer_are_cut() -> None:
    found = evidence.offers(record(), 1, None, "v" * 1000, None)
    assert len(found.vendor) == evidence.TEXT_LIMIT
    assert evidence.offers(found, 1, None, "v" * 1000, None) is found


def test_the_last_sign_of_life_follows_an_idle_node() -> None:
    network = up()
    network.run(300)
    age = BEGAN_UTC_US + network.now - network.lns.alive_utc_us
    assert 0 <= age <= RESOLUTION_MS * 1000


def test_both_ends_at_once_leave_no_attempt_open() -> None:
    network = up()
    network.kill(network.lns, network.lac)
    network.run(1)
    network.start(network.lns, network.lac)
    network.run(30)
    for host in (network.lns, network.lac):
        assert host.node.ledger.attempts == 0
        assert host.node.recoveries.running == 0
    roles = {v.role for host in (network.lns, network.lac) for v in host.node.recoveries.views()}
    assert REMOTE_ENDPOINT in roles
