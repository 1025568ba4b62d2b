"""When a subscriber calls, and when it calls again (T-23)."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.clock import SECOND
from holdfast.core.errors import LocalError
from holdfast.subscriber.subscriber import (
    LONGEST_WAIT,
    SHORTEST_WAIT,
    TABLE,
    HangUp,
    Input,
    Loss,
    PlaceCall,
    State,
    Subscriber,
)


def subscriber(auto: bool = True, seed: int = 1) -> Subscriber:
    return Subscriber("alice", auto, Random(seed).randbytes)


def online(auto: bool = True) -> Subscriber:
    s = subscriber(auto)
    assert s.up(0) == [PlaceCall()]
    assert s.connected(0) == s.network_up(0) == []
    assert s.state is State.ONLINE
    return s


def wait(s: Subscriber, now: int) -> int:
    """How long it waits after a loss at `now`."""
    assert s.lost(Loss.FAILED, "busy", now) == []
    assert s.state is State.WAITING and s.deadline is not None
    return s.deadline - now


def test_it_calls_when_told_to() -> None:
    s = online()
    assert s.deadline is None and s.attempts == 0


def test_T_23_after_a_purge_it_calls_again_at_once_but_once() -> None:
    s = subscriber()
    s.up(0)
    assert s.lost(Loss.PURGED, "purged", 5) == [PlaceCall()]
    assert s.lost(Loss.PURGED, "purged", 6) == []
    assert s.state is State.WAITING
    assert s.deadline is not None and 6 + SHORTEST_WAIT <= s.deadline <= 6 + 2 * SHORTEST_WAIT


def test_T_23_a_success_earns_another_call_at_once() -> None:
    s = subscriber()
    s.up(0)
    for _ in range(3):
        assert s.lost(Loss.PURGED, "purged", 5) == [PlaceCall()]
        s.connected(6)
        s.network_up(6)


def test_waits_grow_from_one_second_to_sixty_by_chance() -> None:
    bounds = []
    for attempt in range(12):
        waits = []
        for seed in range(200):
            s = subscriber(seed=seed)
            s.up(0)
            now = 0
            for _ in range(attempt):
                now += wait(s, now)
                assert s.timer(now) == [PlaceCall()]
            waits.append(wait(s, now))
        assert min(waits) >= SHORTEST_WAIT and max(waits) <= LONGEST_WAIT
        assert len(set(waits)) > 100, "by chance"
        bounds.append(max(waits))
    assert bounds[0] <= 2 * SECOND and bounds[2] > 4 * SECOND and bounds[-1] > 50 * SECOND


def test_success_makes_it_patient_from_the_start_again() -> None:
    s = subscriber()
    s.up(0)
    now = 0
    for _ in range(9):
        now += wait(s, now)
        s.timer(now)
    s.connected(now)
    s.network_up(now)
    assert wait(s, now) <= 2 * SECOND


def test_a_timer_that_comes_early_does_nothing() -> None:
    s = subscriber()
    s.up(0)
    left = wait(s, 0)
    assert s.timer(left - 1) == [] and s.timer(left) == [PlaceCall()]


def test_without_auto_a_lost_connection_stays_lost() -> None:
    s = online(auto=False)
    assert s.lost(Loss.FAILED, "peer terminated", 9) == []
    assert s.state is State.IDLE and s.deadline is None and s.last_error == "peer terminated"


def test_without_auto_a_call_is_tried_until_it_succeeds() -> None:
    s = subscriber(auto=False)
    s.up(0)
    assert wait(s, 0) >= SHORTEST_WAIT


def test_down_hangs_up_and_ends_there() -> None:
    s = online()
    assert s.down(5) == [HangUp()]
    assert s.down(6) == []
    assert s.lost(Loss.FAILED, "", 7) == [] and s.state is State.IDLE


def test_down_ends_waiting() -> None:
    s = subscriber()
    s.up(0)
    wait(s, 0)
    assert s.down(1) == [] and s.state is State.IDLE and s.deadline is None


def test_up_while_hanging_up_calls_again_afterwards() -> None:
    s = online()
    s.down(5)
    assert s.up(6) == []
    wait(s, 7)


def test_up_while_waiting_calls_at_once() -> None:
    s = subscriber()
    s.up(0)
    wait(s, 0)
    assert s.up(1) == [PlaceCall()] and s.deadline is None


def test_a_tunnel_that_comes_up_ends_the_wait() -> None:
    s = subscriber()
    s.up(0)
    wait(s, 0)
    assert s.tunnel_up(1) == [PlaceCall()]
    assert s.tunnel_up(2) == []


def test_a_renegotiation_is_no_loss() -> None:
    s = online()
    assert s.network_down(3) == []
    assert s.network_up(4) == [] and s.state is State.ONLINE


def test_a_restored_subscriber_is_online_and_does_nothing() -> None:
    s = subscriber()
    s.restore()
    assert s.state is State.ONLINE and s.deadline is None
    assert wait(s, 5) <= 2 * SECOND


@pytest.mark.parametrize("state", list(State))
def test_commands_and_losses_are_possible_in_every_state(state: State) -> None:
    assert {Input.UP, Input.DOWN, Input.LOST, Input.LOST_RETRY, Input.LOST_RETRY_NOW} <= TABLE[state].keys()


def test_what_cannot_happen_is_an_error_of_our_own() -> None:
    with pytest.raises(LocalError):
        subscriber().network_up(0)


INPUTS = st.sampled_from(
    ["up", "down", "connected", "network_up", "network_down", "purged", "failed", "timer"]
)


@given(st.lists(INPUTS), st.booleans())
def test_at_most_one_call_at_a_time(inputs: list[str], auto: bool) -> None:
    s, calls, now = subscriber(auto), 0, 0
    for name in inputs:
        now += SECOND
        gone = name in ("purged", "failed")
        if gone:
            effects = s.lost(Loss.PURGED if name == "purged" else Loss.FAILED, name, now)
            calls = 0
        elif name == "timer":
            effects = s.timer(s.deadline or now)
        else:
            try:
                effects = {
                    "up": s.up,
                    "down": s.down,
                    "connected": s.connected,
                    "network_up": s.network_up,
                    "network_down": s.network_down,
                }[name](now)
            except LocalError:
                continue
        calls += effects.count(PlaceCall())
        assert calls <= 1
        assert (s.deadline is not None) == (s.state is State.WAITING)
        assert (calls == 1) == (s.state in (State.CALLING, State.LINKING, State.ONLINE, State.CLOSING))
