"""Why a tunnel is recovered the way it is: facts, and the same in plain words."""

import pytest
from msgspec.structs import replace

from daemon.hosts import Host, Network
from holdfast.daemon.recoveries import FIRST_STEPS, LAST_STEPS
from holdfast.daemon.views import WhyView
from holdfast.daemon.why import why_view
from holdfast.protocol.effects import Recovery, RecoveryPhase
from holdfast.protocol.recovery import RECOVERY_ENDPOINT

WITHOUT_RFC4951 = "[failover]\nadvertise = false\n"


def up(sessions: int = 3, failover: str = "", lns: str = "") -> Network:
    network = Network(sessions, 1, lns + failover, failover)
    network.up()
    network.run(2)
    return network


def restart(network: Network, host: Host, away_s: float = 3, then_s: float = 8) -> None:
    network.kill(host)
    network.run(away_s)
    network.start(host)
    network.run(then_s)


def why(host: Host, tunnel_id: int | None = None) -> WhyView:
    node = host.node
    if tunnel_id is None:
        (tunnel_id,) = host.tunnels
    view = why_view(node.endpoint.ctx, node.ledger, node.recoveries, tunnel_id)
    assert view is not None
    return view


def steps(view: WhyView) -> list[tuple[str, str]]:
    return [(step.role, step.phase) for step in view.steps]


def has(view: WhyView, *words: str) -> bool:
    return all(any(word in line for line in view.text) for word in words)


def test_a_tunnel_that_was_never_recovered_has_a_method_all_the_same() -> None:
    network = up()
    view = why(network.lns)
    assert view.choice is not None and view.recovery is None
    assert (view.choice.method, view.choice.why, view.choice.configured) == ("rfc4951", "both-offer", "auto")
    assert has(view, "would use RFC 4951", "Recovery Time 60000 ms", "No recovery of it is remembered")


def test_a_recovery_by_rfc_4951_step_by_step() -> None:
    network = up()
    restart(network, network.lns)
    view = why(network.lns)
    assert [phase for _, phase in steps(view)] == ["started", "reset", "confirmed", "synchronised"]
    assert view.chosen is not None and view.chosen.why == "both-offer"
    assert view.recovery is not None
    assert view.recovery.control_recovered_ms == view.recovery.receive_settled_ms == 0
    assert (view.sessions_before, view.sessions_now, view.sessions_ended) == (3, 3, {})
    assert has(
        view, "RFC 4951 3.2.1", "RFC 4951 3.2.2", "3.3, step I", "3.3, step III", "3 when it began, 3 now"
    )


def test_the_other_end_tells_that_its_peer_recovered_the_tunnel() -> None:
    network = up()
    restart(network, network.lns)
    view = why(network.lac)
    assert view.chosen is None
    assert steps(view)[0] == ("remote-endpoint", "reset")
    assert has(view, "recovered this tunnel itself")


def test_a_fall_back_is_one_story_with_both_methods() -> None:
    network = up()
    network.lose = lambda source, data: source is network.lns and bool(data[0] & 0x80) and not any(data[4:6])
    restart(network, network.lns)
    view = why(network.lns)
    assert steps(view) == [
        ("recovery-endpoint", "started"),
        ("recovery-endpoint", "fell-back"),
        ("silent", "started"),
        ("silent", "confirmed"),
        ("silent", "synchronised"),
    ]
    assert [step.at_ms for step in view.steps] == [0, 3_000, 3_000, 3_000, 3_000]
    assert view.recovery is not None and view.recovery.control_recovered_ms == 3_000
    assert len(list(network.lns.node.recoveries.views())) == 1
    assert has(
        view, "no answer to the SCCRQ", "would have it cleared", "RFC 2661 5.8", "send side resynchronised"
    )
    assert view.choice is not None and view.choice.contradictions == 1
    assert has(view, "in the last restart RFC 4951 failed", "which is not enough to doubt it")


def test_experience_is_told_with_its_end() -> None:
    network = up()
    network.lose = lambda source, data: source is network.lns and bool(data[0] & 0x80) and not any(data[4:6])
    for _ in range(3):
        restart(network, network.lns)
    view = why(network.lns)
    assert view.chosen is not None and view.choice == view.chosen
    assert (view.chosen.method, view.chosen.why) == ("silent", "contradicted")
    assert has(
        view,
        "in the last 2 restarts RFC 4951 failed",
        "tried first again from 2023-12-14",
        "offers something else",
    )


def test_experience_that_decides_nothing_is_not_blamed() -> None:
    """It was not enough, or is too old, or is of a time when the peer still offered RFC 4951."""
    network = up()
    found = network.lns.peers["lac1", "lac1"]
    network.kill(network.lns)
    network.lns.peers[found.key] = replace(found, contradictions=2, contradicted_utc_us=1)
    network.start(network.lns)
    view = why(network.lns)
    assert has(view, "in the last 2 restarts RFC 4951 failed", "long ago: it is due to be tried again")
    assert not has(view, "not enough")
    silent = up(failover=WITHOUT_RFC4951)
    found = silent.lns.peers["lac1", "lac1"]
    silent.kill(silent.lns)
    silent.lns.peers[found.key] = replace(found, contradictions=1)
    silent.start(silent.lns)
    assert not has(why(silent.lns), "failed with this peer")


def test_send_side_and_receive_side_are_told_apart_while_the_recovery_runs() -> None:
    network = up(failover=WITHOUT_RFC4951)
    network.kill(network.lns)
    key = next(iter(network.lac.sessions))
    network.carry(network.lac, network.lac.node.clear_session(key, network.now) or [])
    network.run(0.2)
    network.start(network.lns)
    network.run(0.1)
    view = why(network.lns)
    assert view.running and view.recovery is not None
    assert view.recovery.control_recovered_ms == 0 and view.recovery.receive_settled_ms is None
    assert has(view, "is under way", "Send side resynchronised after 0.000 s, receive side settled not yet")
    network.run(3)
    view = why(network.lns)
    assert not view.running and view.recovery is not None
    assert view.recovery.receive_settled_ms == view.recovery.synchronised_ms != 0
    assert view.sessions_before == 3 and view.sessions_ended == {"peer": 1}
    assert has(view, "1 ended by the peer")


def test_a_failure_is_remembered_when_the_tunnel_is_gone() -> None:
    network = up(failover=WITHOUT_RFC4951)
    (tunnel_id,) = network.lns.tunnels
    network.kill(network.lns, network.lac)
    network.start(network.lns)
    network.run(40)
    view = why(network.lns, tunnel_id)
    assert view.state == "gone" and view.choice is None and view.host_name == "lac1"
    assert view.recovery is not None and view.recovery.state == "failed"
    assert view.sessions_ended == {"tunnel": 3} and view.sessions_now == 0
    assert has(view, "no answer to any probe", "3 gone with the tunnel", "receive side settled never")


@pytest.mark.parametrize(
    ("configured", "words"),
    [
        ('[failover]\nmethod = "silent"\n', 'configured for all peers is "silent"'),
        ('[failover]\nmethod = "rfc4951"\n', 'configured for all peers is "rfc4951"'),
        ('[failover]\nmethod = "off"\n', "now would end it"),
        ('[failover]\nmethod = "rfc4951"\nadvertise = false\n', "now would end it"),
        ('[failover]\nmethod = "rfc4951"\nadvertise = false\n', "we did not offer RFC 4951"),
        ("[failover]\nadvertise = false\n", "we did not offer RFC 4951"),
    ],
)
def test_the_configuration_is_named(configured: str, words: str) -> None:
    network = up(lns=configured)
    assert has(why(network.lns), words)


@pytest.mark.parametrize(
    ("lns", "lac", "reason"),
    [
        ("method = 'off'", "", "recovery is off"),
        ("method = 'rfc4951'", "advertise = false", "the peer lacks RFC 4951"),
        ("method = 'rfc4951'\nadvertise = false", "", "we did not offer RFC 4951"),
    ],
)
def test_a_tunnel_that_is_given_up_at_once_has_its_story(lns: str, lac: str, reason: str) -> None:
    network = Network(3, 1, f"[failover]\n{lns}\n", f"[failover]\n{lac}\n")
    network.up()
    network.run(2)
    (tunnel_id,) = network.lns.tunnels
    network.kill(network.lns)
    network.start(network.lns)
    view = why(network.lns, tunnel_id)
    assert (view.state, view.host_name, view.sessions_before) == ("gone", "lac1", 3)
    assert view.chosen is not None and view.chosen.method == "off"
    assert view.recovery is not None and (view.recovery.method, view.recovery.reason) == ("off", reason)
    assert has(
        view,
        "Chosen was nothing",
        f"nothing was tried; the tunnel and its sessions were cleared without a message: {reason}",
    )
    assert not has(view, "3.2.1")


def test_a_tunnel_that_nobody_knows_has_no_story() -> None:
    network = up()
    node = network.lns.node
    assert why_view(node.endpoint.ctx, node.ledger, node.recoveries, 5) is None


def test_a_recovery_tunnel_is_no_tunnel_of_its_own() -> None:
    network = up()
    network.lose = lambda source, data: source is network.lns and bool(data[0] & 0x80) and not any(data[4:6])
    network.kill(network.lns)
    network.start(network.lns)
    node = network.lns.node
    (rt,) = [tunnel.local_id for tunnel in node.endpoint.tunnels.values() if tunnel.is_recovery]
    assert why_view(node.endpoint.ctx, node.ledger, node.recoveries, rt) is None


def test_the_steps_of_one_recovery_are_bounded_and_the_gap_is_told() -> None:
    network = up()
    (tunnel_id,) = network.lns.tunnels
    tunnel = network.lns.node.endpoint.tunnels[tunnel_id]
    recoveries = network.lns.node.recoveries
    for phase in (RecoveryPhase.STARTED, *[RecoveryPhase.RETRIED] * 100):
        recoveries.note(Recovery(tunnel_id, "lac1", RECOVERY_ENDPOINT, phase), tunnel, network.now)
    view = why(network.lns)
    assert len(view.steps) == FIRST_STEPS + LAST_STEPS
    assert view.steps_left_out == 101 - len(view.steps)
    gap = [i for i, line in enumerate(view.text) if "are not remembered" in line]
    assert len(gap) == 1 and f"{view.steps_left_out} steps" in view.text[gap[0]]
