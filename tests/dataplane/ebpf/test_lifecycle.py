"""Pinned maps, programs and links through starts, upgrades, other sizes and other layouts, and their end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.ebpf.rig import INTERFACE, Rig, entries, entry, in_namespace, reason
from holdfast.dataplane.contract import BadEntry
from holdfast.dataplane.ebpf import abi, counters, syscall
from holdfast.dataplane.ebpf.pins import CURRENT, NEW, OLD, detach, pinned
from holdfast.dataplane.ebpf.plane import EbpfPlane
from holdfast.dataplane.ebpf.shipped import Object, shipped
from holdfast.dataplane.ebpf.table import address_key
from holdfast.records import Counters

REASON = reason()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

WANT = entries(5)
KEY = next(iter(WANT))
SEEN = Counters(5, 500, 6, 600)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with in_namespace(tmp_path) as made:
        yield made


def count(plane: EbpfPlane, key: int, seen: Counters = SEEN) -> None:
    """Pretend that packets of this session have passed."""
    slot = plane.slot(key)
    assert slot is not None
    counters.set_slots(plane._pins.maps["counters"], {slot: seen})


def another_version() -> Object:
    """The same programs, which are taken for others."""
    return shipped()._replace(checksum="0" * 64)


def attached(rig: Rig) -> int:
    """The id of the program that a link runs."""
    link = syscall.get_pinned(f"{rig.root}/{CURRENT}/link_{INTERFACE}_tc")
    try:
        return syscall.link_info(link).program_id
    finally:
        os.close(link)


def test_a_first_start_pins_maps_programs_and_links(rig: Rig) -> None:
    plane, changes = rig.start(WANT)
    assert [e.key for e in changes.put] == list(WANT)
    assert rig.pins("link_") == {"link_wan_tc", "link_hf0_tun"}
    assert {"map_sessions", "map_counters", "map_slots"} <= rig.pins("map_")
    assert dict(plane.enumerate()) == WANT
    assert [news.fields["mode"] for news in rig.told("dataplane.attached")] == ["tc"]


def test_the_next_start_adopts_it_all_with_its_counters(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    count(plane, KEY)
    program = attached(rig)
    rig.stop()
    plane, changes = rig.start(WANT)
    assert not changes
    assert attached(rig) == program
    assert plane.counters(KEY) == plane.all_counters()[KEY] == SEEN
    assert dict(plane.enumerate()) == WANT


def test_what_the_records_say_is_right(rig: Rig) -> None:
    rig.start(WANT)
    rig.stop()
    gone, changed, comes = list(WANT)[1], entry(3, address="100.64.9.9", mtu=1400), entry(9)
    want = {key: e for key, e in WANT.items() if key != gone} | {changed.key: changed, comes.key: comes}
    plane, changes = rig.start(want)
    assert changes.delete == [gone]
    assert {e.key for e in changes.put} == {changed.key, comes.key}
    assert dict(plane.enumerate()) == want
    for address in (WANT[gone].address, WANT[changed.key].address):
        assert plane.owner(int.from_bytes(address_key(address), "big")) is None


def test_a_start_that_was_killed_while_it_wrote_leaves_nothing_that_leads_astray(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    maps = plane._pins.maps
    stray = syscall.lookup(maps["subscribers"], address_key(WANT[KEY].address), 28)
    assert stray is not None
    syscall.update(maps["subscribers"], address_key("100.64.77.77"), stray)
    syscall.delete(maps["subscribers"], address_key(entry(2).address))
    rig.stop()
    plane, changes = rig.start(WANT)
    assert changes.put == [entry(2)]
    assert plane.owner(int.from_bytes(address_key("100.64.77.77"), "big")) is None


def test_a_trace_that_a_killed_daemon_left_is_ended_by_the_next_start(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    plane.trace(KEY, lambda seen: None)
    ids = abi.ids_key(KEY >> 32, KEY & 0xFFFF)
    flags = abi.SESSION_SIZE - 1
    value = syscall.lookup(plane._pins.maps["sessions"], ids, abi.SESSION_SIZE)
    assert value is not None and value[flags] & abi.Flag.TRACE
    rig.stop()
    plane, changes = rig.start(WANT)
    assert [e.key for e in changes.put] == [KEY]
    value = syscall.lookup(plane._pins.maps["sessions"], ids, abi.SESSION_SIZE)
    assert value is not None and not value[flags] & abi.Flag.TRACE


def test_an_upgrade_replaces_the_program_of_every_link_and_keeps_the_maps(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    count(plane, KEY)
    before = attached(rig)
    rig.stop()
    plane, changes = rig.start(WANT, programs=another_version())
    assert not changes
    assert attached(rig) != before
    assert plane.counters(KEY) == SEEN
    assert os.readlink(f"{rig.root}/{CURRENT}/program") == "0" * 64
    rig.stop()
    after = attached(rig)
    rig.start(WANT, programs=another_version())
    assert attached(rig) == after


def test_an_upgrade_that_was_killed_is_done_again(rig: Rig) -> None:
    rig.start(WANT)
    rig.stop()
    rig.start(WANT, programs=another_version())
    rig.stop()
    os.unlink(f"{rig.root}/{CURRENT}/program")
    os.symlink("an older one", f"{rig.root}/{CURRENT}/program")
    before = attached(rig)
    rig.start(WANT)
    assert attached(rig) != before
    assert os.readlink(f"{rig.root}/{CURRENT}/program") == shipped().checksum


def test_maps_of_another_size_take_over_sessions_counters_and_links(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    count(plane, KEY)
    link = syscall.get_pinned(f"{rig.root}/{CURRENT}/link_{INTERFACE}_tc")
    rig.stop()
    plane, _ = rig.start(WANT, sessions=100)
    assert plane.counters(KEY) == SEEN
    same = syscall.get_pinned(f"{rig.root}/{CURRENT}/link_{INTERFACE}_tc")
    assert syscall.link_info(same) == syscall.link_info(link)
    assert [name for name in os.listdir(rig.root) if "." not in name] == [CURRENT]
    os.close(link)
    os.close(same)


def test_another_layout_is_never_read_and_its_links_are_taken_over(rig: Rig) -> None:
    rig.start(WANT)
    rig.stop()
    os.rename(f"{rig.root}/{CURRENT}", f"{rig.root}/v9999")
    plane, changes = rig.start(WANT)
    assert len(changes.put) == len(WANT)
    assert plane.counters(KEY) == Counters()
    assert [name for name in os.listdir(rig.root) if "." not in name] == [CURRENT]
    assert [news.fields["directory"] for news in rig.told("dataplane.replaced")] == [f"{rig.root}/v9999"]


def test_a_layout_that_counts_alike_is_taken_over_with_what_it_counts_to_the_last(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    count(plane, KEY)
    rig.stop()
    former = f"{rig.root}/v1"
    os.rename(f"{rig.root}/{CURRENT}", former)
    more = Counters(7, 700, 8, 800)

    def count_on(plane: EbpfPlane) -> None:
        fd = syscall.get_pinned(f"{former}/map_counters")
        counters.set_slots(fd, {0: more})
        os.close(fd)

    plane, _ = rig.start(WANT, before={KEY: Counters(1, 100, 1, 100), entry(2).key: SEEN}, meanwhile=count_on)
    assert plane.counters(KEY) == more
    assert plane.counters(entry(2).key) == SEEN
    assert "only counters" in rig.told("dataplane.replaced")[0].fields["text"]


def test_what_is_detached_says_what_it_has_counted(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    count(plane, KEY)
    rig.stop()
    counted = detach(rig.root)
    assert counted == {**dict.fromkeys(WANT, Counters()), KEY: SEEN}
    assert rig.pins("link_") == set()
    assert detach(rig.root + "/nothing") == {}


def test_records_are_believed_where_the_maps_know_nothing(rig: Rig) -> None:
    plane, _ = rig.start({KEY: WANT[KEY]}, before={KEY: SEEN})
    assert plane.counters(KEY) == SEEN
    rig.stop()
    plane, _ = rig.start(WANT, before={KEY: Counters(1, 1, 1, 1), entry(2).key: SEEN})
    assert (plane.counters(KEY), plane.counters(entry(2).key)) == (SEEN, SEEN)


def test_a_set_that_lacks_a_map_is_replaced(rig: Rig) -> None:
    rig.start(WANT)
    rig.stop()
    os.unlink(f"{rig.root}/{CURRENT}/map_counters")
    plane, _ = rig.start(WANT)
    assert "lacks" in rig.told("dataplane.not_adopted")[0].fields["text"]
    assert dict(plane.enumerate()) == WANT


@pytest.mark.parametrize("left", [NEW, OLD])
def test_leftovers_of_a_killed_replacement_are_removed(rig: Rig, left: str) -> None:
    rig.start(WANT)
    rig.stop()
    os.mkdir(f"{rig.root}/{left}")
    os.symlink("x", f"{rig.root}/{left}/program")
    _, changes = rig.start(WANT)
    assert not changes
    assert not os.path.exists(f"{rig.root}/{left}")


def test_a_replacement_that_was_killed_between_its_two_steps_is_finished(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    count(plane, KEY)
    rig.stop()
    os.rename(f"{rig.root}/{CURRENT}", f"{rig.root}/{NEW}")
    os.mkdir(f"{rig.root}/{OLD}")
    plane, changes = rig.start(WANT)
    assert not changes
    assert plane.counters(KEY) == SEEN


def test_a_slot_is_its_sessions_until_the_record_is_gone(rig: Rig) -> None:
    plane, _ = rig.start(entries(64))
    count(plane, KEY)
    assert plane.remove([KEY]) == {KEY: SEEN}
    plane.install([entry(65)])
    assert plane.slot(entry(65).key) is None
    plane.forget([KEY])
    plane.install([entry(66)])
    assert plane.slot(entry(66).key) == 0
    assert plane.counters(entry(66).key) == Counters()


def test_a_session_whose_deletion_was_not_recorded_comes_back_with_its_counters(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    count(plane, KEY)
    plane.remove([KEY])
    rig.stop()
    plane, changes = rig.start(WANT)
    assert [e.key for e in changes.put] == [KEY]
    assert plane.counters(KEY) == SEEN


def test_an_entry_that_the_maps_cannot_hold_takes_no_slot(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    for number in range(100, 200):
        with pytest.raises(BadEntry):
            plane.install([entry(number, prefix="2001:db8::/96")])
    more = [entry(200 + number) for number in range(59)]
    plane.install(more)
    assert all(plane.slot(e.key) is not None for e in more)
    assert not rig.told("dataplane.full")


def test_what_no_record_knows_gives_its_slot_back(rig: Rig) -> None:
    rig.start(entries(64))
    rig.stop()
    plane, changes = rig.start(WANT)
    assert len(changes.delete) == 59
    plane.install([entry(100 + number) for number in range(59)])
    assert all(plane.slot(entry(100 + number).key) is not None for number in range(59))


def test_sessions_beyond_the_maps_are_told_of_and_forwarded_by_the_daemon(rig: Rig) -> None:
    plane, _ = rig.start(entries(70))
    assert [news.fields["remedy"] for news in rig.told("dataplane.full")] == ["raise dataplane.max_sessions"]
    assert dict(plane.enumerate()) == entries(70)
    assert len(plane.all_counters()) == 70


def test_interfaces_come_and_go(rig: Rig) -> None:
    plane, _ = rig.start(WANT)
    os.system(f"ip link del {INTERFACE}")
    plane.tend()
    assert rig.told("dataplane.no_interface")
    assert rig.pins("link_") == {"link_hf0_tun"}
    os.system(f"ip link add {INTERFACE} type veth peer name away && ip link set {INTERFACE} up")
    plane.tend()
    assert rig.pins("link_") == {"link_wan_tc", "link_hf0_tun"}
    assert attached(rig)


def test_an_interface_that_comes_back_is_told_of_again(rig: Rig) -> None:
    rig.interfaces = ()
    plane, _ = rig.start(WANT)
    for _ in range(2):
        os.system("ip link add more type veth peer name else && ip link set more up")
        plane.tend()
        os.system("ip link del more")
        plane.tend()
    assert [news.fields["interface"] for news in rig.told("dataplane.attached")].count("more") == 2


def test_xdp_is_used_where_it_is_asked_for(rig: Rig) -> None:
    plane, _ = rig.start(WANT, mode="xdp")
    assert rig.pins("link_") == {"link_wan_xdp", "link_hf0_tun"}
    assert plane.attached[INTERFACE].mode == "xdp"
    rig.stop()
    rig.start(WANT, mode="tc")
    assert rig.pins("link_") == {"link_wan_tc", "link_hf0_tun"}


def test_removal_leaves_nothing(rig: Rig) -> None:
    rig.start(WANT)
    assert pinned(rig.root)
    rig.close()
    assert not os.path.exists(rig.root)
    assert not pinned(rig.root)
