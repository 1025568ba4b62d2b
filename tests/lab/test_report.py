"""The report: its verdict, its text, and its JSON against the schema that ships."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest

from holdfast.lab.report import (
    SCHEMA_FILE,
    BothWays,
    DataBack,
    DataGap,
    Echoes,
    End,
    InFlight,
    LostWhere,
    NodeTimes,
    Noticed,
    Outcome,
    Packets,
    Ping,
    Place,
    Report,
    Subscriber,
    Transfer,
    encode,
    schema_document,
    series,
    verdict,
)
from holdfast.lab.report_text import text

CLEAN = Outcome(survived=3, ended_clean=2, half_open=0)
IN_TIME = End(no_room=0, unsent=0, late_ms=12.5)
PACKETS = Packets(sent=2000, received=1900, lost=100)
GOOD = Report(
    drill="restart",
    dataplane="tun",
    packets_by="tun",
    by="kill",
    kills=1,
    programs_replaced=False,
    kill="lns",
    peer="holdfast",
    peer_offers_rfc4951=True,
    kernel="host",
    stagger_ms=0,
    sessions=100,
    tunnels=4,
    traffic_pps=2000,
    sessions_before=100,
    sessions_after=100,
    sessions_redialled=0,
    ppp_renegotiated=0,
    addresses_changed=0,
    session_ids_changed=0,
    subscribers=[],
    in_flight=InFlight(setups=CLEAN, teardowns=CLEAN),
    recovered_by={"rfc4951": 4},
    down_ms=3.2,
    data_back_ms=DataBack(first=150.0, all=210.5),
    data_gap_ms=DataGap(p50=220.0, max=260.0),
    packets=BothWays(up=PACKETS, down=PACKETS),
    lost_where=LostWhere(
        while_down=200, otherwise=0, lac_end=IN_TIME, core_end=IN_TIME, kernel={"lns": {"Udp.NoPorts": 99}}
    ),
    plane={},
    echoes=None,
    ping=None,
    tcp=None,
    noticed=None,
    control_recovered_ms=170.0,
    synchronised_ms=190.0,
    stale_cleared=2,
    nodes={
        "lns": NodeTimes(
            down_ms=3.2,
            data_flows_ms=140.0,
            control_recovered_ms=170.0,
            synchronised_ms=190.0,
            recovered_by={"rfc4951": 4},
            stale_cleared=2,
        )
    },
    result="ok",
)
PLACE = Place(lac_tunnel=7, lac_session=8, lns_tunnel=9, lns_session=10, address="100.64.0.1", pppd=4711)
REAL_PEER = msgspec.structs.replace(
    GOOD,
    peer="xl2tpd",
    peer_offers_rfc4951=False,
    kernel="user-mode-linux",
    subscribers=[Subscriber(name="s00000", before=PLACE, after=PLACE)],
    recovered_by={"silent": 1},
    ping=Ping(sent=40, received=31),
    tcp=Transfer(octets=900_000, complete=True, longest_stall_ms=3000.0, error=""),
    noticed=Noticed(lines=[], of_duplicates=2),
)
NOTHING_LOST = Packets(sent=2000, received=2000, lost=0)
IN_THE_KERNEL = msgspec.structs.replace(
    GOOD,
    dataplane="tc",
    packets_by="lab",
    packets=BothWays(up=NOTHING_LOST, down=NOTHING_LOST),
    lost_where=LostWhere(while_down=0, otherwise=0, lac_end=IN_TIME, core_end=IN_TIME, kernel={}),
    plane={"rx_forwarded": 2000},
    echoes=Echoes(sent=150, answered=150),
)
UPGRADE = msgspec.structs.replace(IN_THE_KERNEL, drill="upgrade", by="stop", programs_replaced=True)
FAILED = msgspec.structs.replace(GOOD, sessions_after=99, result=["only 99 of 100 sessions"])


def document(outcome: Any) -> Any:
    return json.loads(encode(outcome))


def test_the_shipped_schema_is_the_one_that_the_declarations_give() -> None:
    assert SCHEMA_FILE.read_bytes() == schema_document(), "run `python -m holdfast.lab.report`"


@pytest.mark.parametrize(
    "outcome", [GOOD, REAL_PEER, UPGRADE, FAILED, series([GOOD, FAILED], 2), series([], 2)]
)
def test_a_report_and_a_series_are_valid(outcome: Any) -> None:
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_bytes())).validate(document(outcome))


@pytest.mark.parametrize("name", sorted(document(GOOD)))
def test_a_report_without_one_of_its_fields_is_not_valid(name: str) -> None:
    broken = document(GOOD)
    del broken[name]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json.loads(SCHEMA_FILE.read_bytes()))


def test_ok_needs_every_session_the_same_and_nothing_half_open() -> None:
    assert verdict(GOOD) == "ok"
    half = msgspec.structs.replace(CLEAN, half_open=1)
    node = msgspec.structs.replace(GOOD.nodes["lns"], synchronised_ms=None)
    for change in (
        {"sessions_before": 99},
        {"sessions_after": 99},
        {"sessions_redialled": 1},
        {"ppp_renegotiated": 1},
        {"addresses_changed": 1},
        {"session_ids_changed": 1},
        {"in_flight": InFlight(setups=half, teardowns=CLEAN)},
        {"in_flight": InFlight(setups=CLEAN, teardowns=half)},
        {"nodes": {"lns": node}},
    ):
        found = verdict(msgspec.structs.replace(GOOD, **change))
        assert found != "ok" and len(found) == 1, change


def test_in_front_of_a_peer_without_rfc4951_what_was_in_flight_is_reported_and_no_failure() -> None:
    half = InFlight(setups=msgspec.structs.replace(CLEAN, half_open=1), teardowns=CLEAN)
    silent = msgspec.structs.replace(GOOD, peer_offers_rfc4951=False, in_flight=half)
    assert verdict(silent) == "ok"
    assert "1 half open" in text(silent)
    assert verdict(msgspec.structs.replace(silent, sessions_after=99)) != "ok"


def test_ok_needs_a_peer_that_noticed_nothing_and_a_whole_transfer() -> None:
    assert verdict(REAL_PEER) == "ok"
    broken = Transfer(octets=1, complete=False, longest_stall_ms=60_000.0, error="receiving: timed out")
    for change, said in (
        ({"noticed": Noticed(lines=["Connection closed"], of_duplicates=2)}, "Connection closed"),
        ({"tcp": broken}, "timed out"),
        ({"ping": Ping(sent=40, received=0)}, "no ping"),
    ):
        found = verdict(msgspec.structs.replace(REAL_PEER, **change))
        assert found != "ok" and len(found) == 1 and said in found[0], change


def test_text_in_front_of_a_real_peer_says_who_kept_what() -> None:
    said = text(REAL_PEER)
    assert "100.64.0.1, LAC 7/8, LNS 9/10, pppd 4711, the same after" in said
    assert "xl2tpd noticed        nothing, 2 log lines about a duplicate (our probe)" in said
    assert "send side             resynchronised 170.0 ms after start" in said
    assert "receive side          settled 190.0 ms after start" in said
    assert "User-Mode Linux" in said and "User-Mode Linux" not in text(GOOD)
    moved = msgspec.structs.replace(PLACE, pppd=4712)
    changed = [Subscriber(name="s00000", before=PLACE, after=moved)]
    assert "after: 100.64.0.1, LAC 7/8, LNS 9/10, pppd 4712" in text(
        msgspec.structs.replace(REAL_PEER, subscribers=changed)
    )


def test_a_loss_while_the_node_is_dead_is_no_failure() -> None:
    assert GOOD.packets.up.lost and verdict(GOOD) == "ok"


def test_of_a_plane_in_the_kernel_nothing_may_be_lost_and_nothing_left_unanswered() -> None:
    assert verdict(IN_THE_KERNEL) == verdict(UPGRADE) == "ok"
    one = msgspec.structs.replace(NOTHING_LOST, received=1999, lost=1)
    too_slow = msgspec.structs.replace(
        IN_THE_KERNEL.lost_where,
        lac_end=End(no_room=0, unsent=7, late_ms=2e4),
        core_end=End(no_room=3, unsent=0, late_ms=1.0),
    )
    for change, said in (
        ({"packets": BothWays(up=one, down=NOTHING_LOST)}, "1 packets lost up"),
        ({"packets": BothWays(up=NOTHING_LOST, down=one)}, "1 packets lost down"),
        (
            {"packets": BothWays(up=one, down=NOTHING_LOST), "lost_where": too_slow},
            "1 packets lost up, of which the lab itself 7 never sent and 3 not taken for want of room",
        ),
        ({"echoes": Echoes(sent=150, answered=148)}, "2 LCP echo requests were not answered"),
    ):
        found = verdict(msgspec.structs.replace(IN_THE_KERNEL, **change))
        assert found != "ok" and len(found) == 1 and said in found[0], change


def test_an_upgrade_that_replaced_nothing_is_none() -> None:
    found = verdict(msgspec.structs.replace(UPGRADE, programs_replaced=False))
    assert found == ["the eBPF programs were not replaced"]


def test_text_of_a_plane_in_the_kernel() -> None:
    said = text(UPGRADE)
    assert "stopped               lns" in said
    assert "data plane            in the kernel (tc), its programs replaced by others" in said
    assert "LCP echoes            150 asked for while it was dead, 150 answered" in said
    assert "lost                  0 up, 0 down" in said
    assert "data back" not in said and "data plane" not in text(GOOD)
    assert "killed                lns, 3 times" in text(msgspec.structs.replace(IN_THE_KERNEL, kills=3))
    assert "sent late             up to 12.5 ms up, 12.5 ms down" in said
    no_room = End(no_room=7, unsent=0, late_ms=0)
    where = msgspec.structs.replace(IN_THE_KERNEL.lost_where, lac_end=no_room)
    said = text(msgspec.structs.replace(IN_THE_KERNEL, lost_where=where))
    assert "  lab's own LAC       0 never sent, 7 datagrams not taken for want of room" in said


def test_a_series_is_ok_only_if_every_wanted_round_is() -> None:
    assert series([GOOD] * 20, 20).result == "ok"
    assert series([GOOD, FAILED], 2).result == ["round 2: only 99 of 100 sessions"]
    assert series([GOOD], 2).result == ["only 1 of 2 rounds took place"]
    assert series([GOOD, FAILED], 2).passed == 1


def test_text_says_what_failed() -> None:
    assert "result                ok" in text(GOOD)
    assert "FAILED                only 99 of 100 sessions" in text(FAILED)
