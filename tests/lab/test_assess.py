"""From observations to a report: two base subscribers, one set-up and one teardown in flight."""

from pathlib import Path
from typing import Any

import msgspec

from holdfast.lab.assess import Observed, Restarted, assess
from holdfast.lab.events import EventLog
from holdfast.lab.measure import Direction, Moments
from holdfast.lab.report import Noticed, Ping, Transfer
from holdfast.lab.snapshot import Ids, Seen, Snapshot
from holdfast.lab.stream import Shortfall

MS = 1_000_000
MOMENTS = Moments(killed_ns=1000 * MS, dead_ns=1003 * MS, started_ns=1004 * MS, stop_ns=3000 * MS)


def seen(name: str, ids: Ids, *, at: int = 5, established: bool = True) -> Seen:
    return Seen(
        name=name, ids=ids, address=f"100.64.0.{ids[1]}", established=established, established_utc_us=at
    )


def view(*sessions: Seen, lns_only: tuple[Seen, ...] = ()) -> Snapshot:
    lac = {s.ids: s for s in sessions}
    return Snapshot(lac=lac, lns=lac | {s.ids: s for s in lns_only})


def direction(*first_after_ms: int) -> Direction:
    return Direction(
        sent=100,
        received=90,
        lost_while_down=9,
        live_before=frozenset({0, 1}),
        first_after_ns=[ms * MS for ms in first_after_ms],
        longest_gap_ns=[200 * MS, 300 * MS],
    )


def log(tmp_path: Path, name: str, *events: dict[str, Any]) -> EventLog:
    path = tmp_path / name
    path.write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in events))
    found = EventLog(path)
    found.refresh()
    return found


def event(name: str, at_ms: int, **fields: object) -> dict[str, object]:
    return {"event": name, "monotonic_us": at_ms * 1000, **fields}


A, B, DOWN = seen("a", (1, 1, 2, 1)), seen("b", (1, 2, 2, 2)), seen("down", (1, 3, 2, 3))


def observed(tmp_path: Path, **changes: Any) -> Observed:
    lns = log(
        tmp_path,
        "lns",
        event("node.synchronised", 500),
        event("tunnel.recovered", 1150, method="rfc4951"),
        event("node.data_flows", 1100),
        event("node.synchronised", 1180),
    )
    usual = Observed(
        drill="restart",
        dataplane="",
        by="kill",
        kills=1,
        kill="lns",
        peer="",
        kernel="host",
        stagger_ms=0,
        tunnels=1,
        traffic_pps=100,
        names=["a", "b"],
        setups=["up"],
        teardowns=["down"],
        before=view(A, B, DOWN),
        after=view(A, B),
        moments=MOMENTS,
        up=direction(1110, 1120),
        down=direction(1111, 1130),
        restarted={"lns": Restarted(dead_ns=1003 * MS, started_ns=1004 * MS, log=lns, stale_cleared=1)},
        logs={"lns": lns, "lac": log(tmp_path, "lac")},
        stale_cleared=1,
        ping=None,
        transfer=None,
        noticed=None,
        lost_by_kernel={},
        shortfalls={"lac": Shortfall(0, 0, 5 * MS), "core": Shortfall(0, 0, 0)},
        plane={},
        outages=[(1003 * MS, 1004 * MS)],
        echoes=None,
    )
    return msgspec.structs.replace(usual, **changes)


def test_all_is_well(tmp_path: Path) -> None:
    r = assess(observed(tmp_path))
    assert r.result == "ok"
    assert (r.sessions_before, r.sessions_after) == (2, 2)
    assert (r.down_ms, r.data_back_ms.first, r.data_back_ms.all) == (1.0, 106.0, 126.0)
    assert (r.data_gap_ms.p50, r.data_gap_ms.max) == (250.0, 300.0)
    assert (r.control_recovered_ms, r.synchronised_ms) == (146.0, 176.0)
    assert r.nodes["lns"].data_flows_ms == 96.0
    assert r.recovered_by == {"rfc4951": 1}
    assert (r.lost_where.while_down, r.lost_where.otherwise) == (18, 2)
    assert (r.in_flight.setups.ended_clean, r.in_flight.teardowns.ended_clean) == (1, 1)


def test_in_flight_sessions_may_survive_on_both_sides(tmp_path: Path) -> None:
    r = assess(observed(tmp_path, after=view(A, B, DOWN, seen("up", (1, 4, 2, 4), at=9))))
    assert r.result == "ok"
    assert (r.in_flight.setups.survived, r.in_flight.teardowns.survived) == (1, 1)


def test_what_one_side_alone_holds_is_half_open(tmp_path: Path) -> None:
    after = view(A, B, lns_only=(DOWN, seen("", (1, 9, 2, 9))))
    r = assess(observed(tmp_path, after=after))
    assert r.result != "ok"
    assert (r.in_flight.setups.half_open, r.in_flight.teardowns.half_open) == (1, 1)


def test_a_session_dialled_again_is_not_the_same_though_data_flows(tmp_path: Path) -> None:
    r = assess(observed(tmp_path, after=view(A, seen("b", (1, 7, 2, 7), at=9))))
    assert (r.sessions_after, r.sessions_redialled, r.session_ids_changed, r.addresses_changed) == (
        1,
        1,
        1,
        1,
    )
    assert r.result != "ok"


def test_a_renegotiation_is_seen_in_either_nodes_log(tmp_path: Path) -> None:
    lac = log(
        tmp_path,
        "lac2",
        event("ppp.renegotiated", 900, tunnel=1, session=1),
        event("ppp.renegotiated", 1200, tunnel=1, session=2),
        event("ppp.up", 1210, tunnel=1, session=2),
        event("ppp.up", 1220, tunnel=1, session=77),
    )
    usual = observed(tmp_path)
    assert assess(msgspec.structs.replace(usual, logs={**usual.logs, "lac": lac})).ppp_renegotiated == 1


def test_data_in_one_direction_only_is_not_back(tmp_path: Path) -> None:
    r = assess(observed(tmp_path, down=direction(1111, 0)))
    assert (r.sessions_after, r.data_back_ms.all) == (1, None)
    assert r.result != "ok"


def test_echoes_count_while_a_daemon_is_dead(tmp_path: Path) -> None:
    echoes = [(999, 1001), (1003, 1004), (1003, 0), (1050, 1051), (1100, 0)]
    r = assess(
        observed(
            tmp_path,
            echoes=[(sent * MS, answered * MS) for sent, answered in echoes],
            outages=[(1003 * MS, 1004 * MS), (1050 * MS, 1100 * MS)],
        )
    )
    assert r.echoes is not None and (r.echoes.sent, r.echoes.answered) == (3, 2)


def test_programs_are_replaced_only_by_the_start_in_question(tmp_path: Path) -> None:
    for at_ms, replaced in ((900, False), (1100, True)):
        lns = log(
            tmp_path, f"lns{at_ms}", event("dataplane.upgrade", at_ms), event("node.synchronised", 1180)
        )
        node = Restarted(dead_ns=1003 * MS, started_ns=1004 * MS, log=lns, stale_cleared=0)
        r = assess(observed(tmp_path, drill="upgrade", dataplane="tc", restarted={"lns": node}))
        assert r.programs_replaced == replaced


def test_a_recovery_that_did_not_end_is_said(tmp_path: Path) -> None:
    silent = Restarted(dead_ns=1, started_ns=2, log=log(tmp_path, "silent"), stale_cleared=0)
    r = assess(observed(tmp_path, restarted={"lns": silent}))
    assert r.control_recovered_ms is None and r.synchronised_ms is None
    assert r.result == ["the lns did not finish its recovery"]


def test_a_peer_without_rfc4951_may_hold_what_was_in_flight(tmp_path: Path) -> None:
    r = assess(observed(tmp_path, peer="holdfast", after=view(A, B, lns_only=(DOWN,))))
    assert (r.peer, r.peer_offers_rfc4951, r.subscribers) == ("holdfast", False, [])
    assert r.in_flight.teardowns.half_open == 1
    assert r.result == "ok"


def in_front_of_xl2tpd(pppd_before: int, pppd_after: int) -> dict[str, Any]:
    """Two base subscribers whose other end is pppd."""

    def facing(pppd: int) -> Snapshot:
        ours = view(A, B)
        peers = {ids: msgspec.structs.replace(s, pppd=pppd + s.ids[1]) for ids, s in ours.lac.items()}
        return Snapshot(lac=peers, lns=ours.lns)

    return {
        "peer": "xl2tpd",
        "before": facing(pppd_before),
        "after": facing(pppd_after),
        "ping": Ping(sent=10, received=8),
        "transfer": Transfer(octets=10, complete=True, longest_stall_ms=1.0, error=""),
        "noticed": Noticed(lines=[], of_duplicates=1),
    }


def test_in_front_of_a_real_peer_ids_address_and_pppd_are_listed(tmp_path: Path) -> None:
    r = assess(observed(tmp_path, **in_front_of_xl2tpd(700, 700)))
    assert r.result == "ok"
    assert [s.name for s in r.subscribers] == ["a", "b"]
    first = r.subscribers[0]
    assert first.before is not None and first.before == first.after
    assert (first.before.lac_tunnel, first.before.lns_session, first.before.pppd) == (1, 1, 701)
    assert first.before.address == "100.64.0.1"


def test_another_pppd_is_another_call_though_all_else_is_the_same(tmp_path: Path) -> None:
    r = assess(observed(tmp_path, **in_front_of_xl2tpd(700, 800)))
    assert (r.sessions_redialled, r.session_ids_changed, r.sessions_after) == (2, 0, 0)
    assert r.result != "ok"


def test_a_session_that_the_peer_has_let_go_is_not_whole(tmp_path: Path) -> None:
    changes = in_front_of_xl2tpd(700, 700)
    changes["after"] = msgspec.structs.replace(changes["after"], lac={})
    r = assess(observed(tmp_path, **changes))
    assert r.subscribers[0].after is None
    assert r.result != "ok"
