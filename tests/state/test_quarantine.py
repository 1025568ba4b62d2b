"""Records that do not validate are kept, shown and kept out; the node starts without them."""

import sqlite3
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from holdfast.records import (
    Counters,
    EndpointRecord,
    FailoverCapability,
    PppRecord,
    SessionRecord,
    TunnelRecord,
)
from holdfast.records.ledger import MethodRecord, PeerRecord
from holdfast.records.writes import Save, SetAside
from holdfast.state.codec import encode
from holdfast.state.journal import Journal, JournalDamaged, JournalError, Saved
from holdfast.state.saved import Kind
from state.samples import BRISK, Answers, peer, session, tunnel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with two tunnels of two sessions each."""
    journal = Journal.open(tmp_path / "journal.db")
    journal.submit([Save(tunnel(7)), Save(tunnel(8)), Save(EndpointRecord(name="lns1"))])
    journal.submit([Save(session(t, s)) for t in (7, 8) for s in (1, 2)])
    journal.close()
    return tmp_path / "journal.db"


def tamper(path: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql, values)
    connection.close()


def reopened(path: Path) -> Saved:
    journal = Journal.open(path)
    saved = journal.load()
    journal.close()
    return saved


def bad_session(**changes: object) -> bytes:
    return encode(msgspec.structs.replace(session(7, 1), **changes))


def bad_ppp(**changes: object) -> PppRecord:
    ppp = session(7, 1).ppp
    assert ppp is not None
    return msgspec.structs.replace(ppp, **changes)


def bad_tunnel(**changes: object) -> bytes:
    return encode(msgspec.structs.replace(tunnel(7), **changes))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\x00garbage",
        encode({"tunnel_id": 7, "local_id": 1}),
        encode(session(7, 1))[:-20],
        bad_session(local_id=3),
        bad_session(tunnel_id=8),
        bad_session(peer_id=0),
        bad_session(peer_id=0x1_0000),
        bad_session(ppp=bad_ppp(peer_ip="100.64.0.300")),
        bad_session(ppp=bad_ppp(local_ip="lns")),
        "text, not a blob",
        None,
        5,
    ],
)
def test_a_bad_session_stays_out_and_the_rest_is_there(path: Path, body: object) -> None:
    tamper(path, "UPDATE session SET body = ? WHERE tunnel_id = 7 AND session_id = 1", body)
    saved = reopened(path)
    assert saved.sessions == [session(7, 2), session(8, 1), session(8, 2)]
    (bad,) = saved.quarantined
    assert (bad.kind, bad.tunnel_id, bad.session_id) == (Kind.SESSION, 7, 1)
    assert bad.reason
    assert not isinstance(body, bytes) or bad.body == body


def test_totals_that_cannot_be_cost_no_session(path: Path) -> None:
    body = encode(replace(session(7, 1), counter_base=Counters(-1, 2, 3, 4)))
    tamper(path, "UPDATE session SET body = ? WHERE tunnel_id = 7 AND session_id = 1", body)
    saved = reopened(path)
    assert saved.quarantined == []
    assert saved.sessions[0] == replace(session(7, 1), counter_base=Counters())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        bad_tunnel(local_id=9),
        bad_tunnel(peer_id=0),
        bad_tunnel(peer_port=0),
        bad_tunnel(peer_address="lac.example.net"),
        bad_tunnel(protocol_version=1),
        bad_tunnel(peer_window=0),
        bad_tunnel(peer_window=1 << 20),
    ],
)
def test_a_bad_tunnel_takes_its_sessions_with_it_and_no_others(path: Path, body: bytes) -> None:
    tamper(path, "UPDATE tunnel SET body = ? WHERE tunnel_id = 7", body)
    saved = reopened(path)
    assert saved.tunnels == [tunnel(8)]
    assert saved.sessions == [session(8, 1), session(8, 2)]
    assert [(q.kind, q.tunnel_id, q.session_id) for q in saved.quarantined] == [
        (Kind.TUNNEL, 7, 0),
        (Kind.SESSION, 7, 1),
        (Kind.SESSION, 7, 2),
    ]


def test_sequence_numbers_out_of_range_are_caught(path: Path) -> None:
    tamper(path, "UPDATE tunnel SET nr = 70000 WHERE tunnel_id = 7")
    assert [q.tunnel_id for q in reopened(path).quarantined] == [7, 7, 7]


@pytest.mark.parametrize(
    "body",
    [
        b"\x00",
        encode(EndpointRecord(name="lns1", boot_epoch=1 << 62)),
        encode(EndpointRecord(name="lns1", recent_tunnel_ids=(0,))),
        encode(EndpointRecord(name="lns1", recent_session_ids={"seven": (1,)})),
        encode(EndpointRecord(name="lns1", recent_session_ids={"7" * 5000: (1,)})),
        encode(EndpointRecord(name="lns1", recent_session_ids={"7": (-1,)})),
    ],
    ids=["no record", "boot epoch", "tunnel id", "no number", "long number", "session id"],
)
def test_a_bad_endpoint_record_is_set_aside(path: Path, body: bytes) -> None:
    tamper(path, "UPDATE endpoint SET body = ?", body)
    saved = reopened(path)
    assert saved.endpoint is None
    assert [q.kind for q in saved.quarantined] == [Kind.ENDPOINT]


def test_an_unreadable_entry_of_the_ledger_is_set_aside_and_can_be_written_anew(path: Path) -> None:
    tamper(path, "INSERT INTO peer (name, host_name, body) VALUES ('lac1', 'lac1.example.net', x'c1')")
    tamper(
        path, "INSERT INTO peer (name, host_name, body) VALUES ('lac2', 'h', ?)", encode(peer("lac3", "h"))
    )
    saved = reopened(path)
    assert saved.peers == []
    assert [q.kind for q in saved.quarantined] == [Kind.PEER] * 2
    assert saved.quarantined[0].body == b"\xc1"
    assert len(saved.sessions) == 4
    journal = Journal.open(path)
    journal.submit([Save(peer())])
    journal.close()
    saved = reopened(path)
    assert saved.peers == [peer()]
    assert [q.kind for q in saved.quarantined] == [Kind.PEER] * 2


@pytest.mark.parametrize(
    "bad",
    [
        replace(peer(), seen_utc_us=-1),
        replace(peer(), seen_utc_us=1 << 62),
        replace(peer(), kept_ms=-5),
        replace(peer(), contradicted_utc_us=1 << 62),
        replace(peer(), vendor="v" * 100_000),
        replace(peer(), offered=FailoverCapability(True, False, -1)),
        replace(peer(), silent=MethodRecord(attempts=-3)),
    ],
    ids=["before 1970", "beyond any calendar", "kept", "contradicted", "vendor", "offer", "attempts"],
)
def test_an_entry_of_the_ledger_that_makes_no_sense_is_set_aside(path: Path, bad: PeerRecord) -> None:
    tamper(path, "INSERT INTO peer (name, host_name, body) VALUES (?, ?, ?)", *bad.key, encode(bad))
    saved = reopened(path)
    assert saved.peers == []
    assert [q.kind for q in saved.quarantined] == [Kind.PEER]
    assert len(saved.sessions) == 4


def test_quarantine_is_kept_and_shown_at_every_start(path: Path) -> None:
    tamper(path, "UPDATE session SET body = x'c1' WHERE tunnel_id = 7 AND session_id = 1")
    first = reopened(path).quarantined
    second = reopened(path).quarantined
    assert [(q.kind, q.tunnel_id, q.session_id, q.reason, q.body) for q in first] == [
        (q.kind, q.tunnel_id, q.session_id, q.reason, q.body) for q in second
    ]


def test_a_quarantined_record_does_not_stand_in_the_way_of_a_new_one(path: Path) -> None:
    tamper(path, "UPDATE session SET body = x'c1' WHERE tunnel_id = 7 AND session_id = 1")
    journal = Journal.open(path)
    journal.submit([Save(session(7, 1, serial=99))])
    journal.close()
    saved = reopened(path)
    assert session(7, 1, serial=99) in saved.sessions
    assert len(saved.sessions) == 4
    assert [q.body for q in saved.quarantined] == [b"\xc1"]


def test_of_two_records_of_one_session_the_first_counts(path: Path) -> None:
    tamper(
        path,
        "INSERT INTO session (slot, tunnel_id, session_id, body) VALUES (900, 7, 1, ?)",
        encode(session(7, 1)),
    )
    saved = reopened(path)
    assert len(saved.sessions) == 4
    assert [(q.tunnel_id, q.session_id) for q in saved.quarantined] == [(7, 1)]
    assert len(reopened(path).sessions) == 4


@pytest.mark.parametrize("record", [tunnel(8), session(8, 1), EndpointRecord(name="lns1")])
def test_the_node_can_set_a_loaded_record_aside(
    path: Path, record: TunnelRecord | SessionRecord | EndpointRecord
) -> None:
    journal = Journal.open(path)
    journal.load()
    journal.submit([SetAside(record, "raised KeyError when it was restored")])
    journal.close()
    saved = reopened(path)
    assert record not in [*saved.tunnels, *saved.sessions, saved.endpoint]
    assert saved.quarantined[0].reason == "raised KeyError when it was restored"
    assert saved.quarantined[0].body == encode(record)


def test_a_session_set_aside_can_be_written_anew_in_the_same_commit(path: Path) -> None:
    journal = Journal.open(path)
    journal.submit([SetAside(session(8, 1), "why not")])
    journal.submit([Save(session(8, 1, serial=77))])
    journal.close()
    journal = Journal.open(path)
    journal.submit([Save(session(8, 1, serial=78))])
    journal.close()
    saved = reopened(path)
    assert [s.call_serial for s in saved.sessions if (s.tunnel_id, s.local_id) == (8, 1)] == [78]


def test_a_file_that_is_no_journal_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is not a database, but it is long enough to be looked at\n" * 20)
    content = path.read_bytes()
    with pytest.raises(JournalDamaged) as damaged:
        Journal.open(path)
    assert "move it away" in str(damaged.value)
    assert path.read_bytes() == content
    path.rename(tmp_path / "journal.db.broken")
    assert reopened(path) == Saved()


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    tamper(path, "CREATE TABLE song (title TEXT)")
    with pytest.raises(JournalDamaged):
        Journal.open(path)


def test_a_file_with_a_broken_page_is_refused_and_the_lock_is_free_again(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\xff" * (len(octets) - 4096)
    path.write_bytes(octets)
    for _ in range(2):
        with pytest.raises(JournalDamaged):
            Journal.open(path)


def test_a_file_moved_away_in_service_is_reported_and_taken_up_again_when_it_is_back(path: Path) -> None:
    answers = Answers()
    journal = Journal.open(path, on_health=answers.health, pace=BRISK)
    path.rename(path.with_name("elsewhere.db"))
    journal.submit([Save(session(7, 3))], answers.about("a"))
    assert [name for name, error in (answers.next(), answers.next()) if isinstance(error, JournalError)] == [
        "health",
        "a",
    ]
    path.with_name("elsewhere.db").rename(path)
    assert answers.next() == ("health", None)
    journal.submit([Save(session(7, 4))], answers.about("b"))
    assert answers.next() == ("b", None)
    journal.close()
    assert len(reopened(path).sessions) == 5
