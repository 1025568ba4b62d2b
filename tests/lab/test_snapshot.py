"""Sessions of two nodes joined by their ids, and what a restart changed about them."""

from holdfast.daemon.views import SessionView, TunnelView
from holdfast.lab.snapshot import Snapshot, compare, join


def tunnel(local: int, peer: int, side: str) -> TunnelView:
    return TunnelView(
        id=local,
        peer_id=peer,
        peer_name="",
        peer_host_name="",
        peer_address="",
        peer_port=1701,
        side=side,
        state="established",
        initiator=side == "lac",
        sessions=1,
    )


def session(
    tunnel_id: int, local: int, peer: int, side: str, name: str, at: int = 7, state: str = "established"
) -> SessionView:
    return SessionView(
        key=0,
        tunnel_id=tunnel_id,
        id=local,
        peer_id=peer,
        peer_name="",
        side=side,
        state=state,
        user=name if side == "lns" else "",
        subscriber=name if side == "lac" else "",
        address=f"100.64.0.{ord(name[0])}",
        established_utc_us=at,
    )


def snapshot(lac: list[SessionView], lns: list[SessionView]) -> Snapshot:
    return join(([tunnel(1, 2, "lac")], lac), ([tunnel(2, 1, "lns")], lns))


BOTH = snapshot([session(1, 10, 20, "lac", "a")], [session(2, 20, 10, "lns", "a")])


def test_a_session_that_both_sides_hold_is_whole() -> None:
    assert BOTH.whole() == {"a": (1, 10, 2, 20)}
    assert BOTH.half_open() == {}


def test_a_session_that_one_side_holds_is_half_open() -> None:
    assert snapshot([session(1, 10, 20, "lac", "a")], []).half_open() == {(1, 10, 2, 20): "a"}
    assert snapshot([], [session(2, 20, 10, "lns", "a")]).half_open() == {(1, 10, 2, 20): "a"}


def test_a_session_that_is_not_established_on_one_side_is_half_open() -> None:
    lns = session(2, 20, 10, "lns", "a", state="wait-connect")
    assert snapshot([session(1, 10, 20, "lac", "a")], [lns]).half_open() == {(1, 10, 2, 20): "a"}


def test_two_sides_that_disagree_on_ids_are_two_half_open_sessions() -> None:
    assert len(snapshot([session(1, 10, 20, "lac", "a")], [session(2, 20, 11, "lns", "a")]).half_open()) == 2


def test_the_same_session_after_a_restart_is_no_change() -> None:
    changes = compare(BOTH, BOTH, ["a"])
    assert not (changes.lost | changes.redialled | changes.addresses | changes.ids)


def test_a_redialled_session_is_told_from_a_lost_one() -> None:
    again = snapshot([session(1, 11, 21, "lac", "a", at=9)], [session(2, 21, 11, "lns", "a", at=9)])
    changes = compare(BOTH, again, ["a"])
    assert changes.redialled == changes.ids == {"a"} and not changes.lost
    gone = compare(BOTH, snapshot([], []), ["a"])
    assert gone.lost == {"a"} and not gone.redialled
