"""A group's outcome is that of its writes one by one."""

import sqlite3
from collections.abc import Iterable, Sequence

import hypothesis.strategies as st
from hypothesis import given

from holdfast.records import EndpointRecord, SessionRecord, TunnelRecord, session_key, split_key
from holdfast.records.ledger import PeerKey, PeerRecord
from holdfast.records.writes import Alive, ForgetPeer, ForgetSession, ForgetTunnel, Hint, Recount, Save, Write
from holdfast.state.group import MAX_ROWS, Changes, Group
from holdfast.state.reader import read
from holdfast.state.saved import Saved
from holdfast.state.schema import LAYOUT
from holdfast.state.slots import Slots
from state.samples import peer, session, tunnel


class Store:
    """A database in memory that groups are written to."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in LAYOUT:
            self.connection.execute(statement)
        self.slots = Slots()

    def write(self, writes: Iterable[Write]) -> None:
        group = Group()
        group.add(writes)
        changes = Changes(group, self.slots)
        for sql, values in changes.statements:
            self.connection.execute(sql, values)
        changes.apply(self.slots)

    def content(self) -> Saved:
        return read(self.connection).saved

    def close(self) -> None:
        self.connection.close()


def outcome(writes: Sequence[Write]) -> tuple[dict[int, TunnelRecord], dict[int, SessionRecord]]:
    """What the writes come to, by their definition."""
    tunnels: dict[int, TunnelRecord] = {}
    sessions: dict[int, SessionRecord] = {}
    for write in writes:
        if isinstance(write, ForgetSession):
            sessions.pop(write.key, None)
        elif isinstance(write, ForgetTunnel):
            tunnels.pop(write.tunnel_id, None)
            for key in [key for key in sessions if split_key(key)[0] == write.tunnel_id]:
                del sessions[key]
        elif isinstance(write, Recount):
            key = session_key(write.record.tunnel_id, write.record.local_id)
            if key in sessions:
                sessions[key] = write.record
        elif isinstance(write, Hint):
            if old := tunnels.get(write.tunnel_id):
                tunnels[write.tunnel_id] = tunnel(old.local_id, acked=write.acked, nr=write.nr)
        elif isinstance(write, Save) and isinstance(write.record, TunnelRecord):
            tunnels[write.record.local_id] = write.record
        elif isinstance(write, Save) and isinstance(write.record, SessionRecord):
            sessions[session_key(write.record.tunnel_id, write.record.local_id)] = write.record
    return tunnels, {key: record for key, record in sessions.items() if split_key(key)[0] in tunnels}


def ledger(writes: Sequence[Write]) -> dict[PeerKey, PeerRecord]:
    """The entries that the writes leave."""
    peers: dict[PeerKey, PeerRecord] = {}
    for write in writes:
        if isinstance(write, ForgetPeer):
            peers.pop((write.name, write.host_name), None)
        elif isinstance(write, Save) and isinstance(write.record, PeerRecord):
            peers[write.record.key] = write.record
    return peers


ids = st.integers(1, 3)
names = st.sampled_from(["lac1", "lac2", ""])
numbers = st.integers(0, 0xFFFF)
writes_of_any_kind = st.one_of(
    st.builds(lambda i, acked, nr: Save(tunnel(i, acked=acked, nr=nr)), ids, numbers, numbers),
    st.builds(lambda t, s, serial: Save(session(t, s, serial=serial)), ids, ids, numbers),
    st.builds(lambda t, s: ForgetSession(session_key(t, s)), ids, ids),
    st.builds(lambda t, s, serial: Recount(session(t, s, serial=serial)), ids, ids, numbers),
    st.builds(ForgetTunnel, ids),
    st.builds(Hint, ids, numbers, numbers),
    st.builds(lambda n, h, attempts: Save(peer(n, h, attempts=attempts)), names, names, numbers),
    st.builds(ForgetPeer, names, names),
    st.builds(Alive, numbers),
)


@given(st.lists(st.lists(writes_of_any_kind, max_size=12), max_size=4))
def test_groups_come_to_what_their_writes_come_to_one_by_one(groups: list[list[Write]]) -> None:
    store = Store()
    for writes in groups:
        store.write(writes)
    saved = store.content()
    store.close()
    everything = [write for writes in groups for write in writes]
    tunnels, sessions = outcome(everything)
    assert {record.local_id: record for record in saved.tunnels} == tunnels
    assert {session_key(record.tunnel_id, record.local_id): record for record in saved.sessions} == sessions
    assert {record.key: record for record in saved.peers} == ledger(everything)
    moments = [write.utc_us for write in everything if isinstance(write, Alive)]
    assert saved.alive_utc_us == (moments[-1] if moments else 0)


def test_a_put_after_a_delete_of_the_same_key_stays() -> None:
    store = Store()
    store.write([Save(tunnel(7)), Save(session(7, 1, serial=1))])
    store.write([ForgetSession(session_key(7, 1)), Save(session(7, 1, serial=2))])
    assert [record.call_serial for record in store.content().sessions] == [2]
    store.write([ForgetTunnel(7), Save(tunnel(7)), Save(session(7, 1, serial=3))])
    assert [record.call_serial for record in store.content().sessions] == [3]
    store.close()


def test_a_thousand_new_sessions_are_a_few_statements() -> None:
    group = Group()
    group.add([Save(session(1, i)) for i in range(1, 1001)])
    assert len(Changes(group, Slots()).statements) == 1000 // MAX_ROWS


def test_a_hint_for_a_tunnel_that_is_gone_leaves_nothing() -> None:
    store = Store()
    store.write([Hint(9, 1, 1)])
    assert store.content() == Saved()
    store.close()


def test_a_new_endpoint_record_replaces_the_old_one() -> None:
    store = Store()
    store.write([Save(EndpointRecord(name="lns1", boot_epoch=1))])
    store.write([Save(EndpointRecord(name="lns1", boot_epoch=2, recent_session_ids={"7": (1, 2)}))])
    assert store.content().endpoint == EndpointRecord(
        name="lns1", boot_epoch=2, recent_session_ids={"7": (1, 2)}
    )
    store.close()


def test_what_a_failed_group_still_owes_is_all_but_its_new_records() -> None:
    group = Group()
    group.owe([Save(session(1, 1)), ForgetSession(session_key(1, 2)), ForgetTunnel(3), Hint(4, 5, 6)])
    assert group.sessions == {1: {2: None}}
    assert group.tunnels == {3: None}
    assert group.hints == {4: Hint(4, 5, 6)}


def test_ids_of_32_bits_fit() -> None:
    store = Store()
    high = session_key(0xFFFF_FFFF, 0xFFFF_FFFE)
    store.write([Save(session(0xFFFF_FFFF, 0xFFFF_FFFE))])
    store.write([ForgetSession(high)])
    (rows,) = store.connection.execute("SELECT count(*) FROM session").fetchone()
    assert rows == 0
    store.close()
