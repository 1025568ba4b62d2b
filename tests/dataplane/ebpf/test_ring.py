"""Packets of a traced session in the programs' ring: what is in it, and what happens when nobody reads it."""

import socket
import sys
from collections.abc import Iterator

import pytest

from dataplane.cases import CORE, DOWN, IP, KEY, NODE, OURS, SUBSCRIBER, UP, packet
from dataplane.program_cases import ECHO, REPLY, SESSION, from_core, from_lac
from dataplane.programs import Bench, Hook, bench, missing
from holdfast.dataplane.ebpf import abi, syscall
from holdfast.dataplane.ebpf.abi import Reason
from holdfast.dataplane.ebpf.ring import Ring, missed
from holdfast.records import split_key

REASON = missing()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
LARGE = packet(CORE, SUBSCRIBER, payload=bytes(1400))


@pytest.fixture(scope="module")
def programs() -> Iterator[Bench]:
    with bench() as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ears:
        ears.bind(NODE)
        yield made


@pytest.fixture
def ring(programs: Bench) -> Iterator[Ring]:
    programs.install([SESSION])
    trace(programs)
    made = Ring(programs.maps["captures"])
    yield made
    made.close()


def trace(programs: Bench) -> None:
    """What the plane does to trace the session."""
    keyed = abi.elements(SESSION, 1)
    session = keyed.session[:-1] + bytes((keyed.session[-1] | abi.Flag.TRACE,))
    at = abi.SUBSCRIBER_SIZE - 2
    flags = int.from_bytes(keyed.subscriber[at:], sys.byteorder) | abi.Flag.TRACE
    syscall.update(programs.maps["sessions"], keyed.ids, session)
    syscall.update(
        programs.maps["subscribers"], keyed.address, keyed.subscriber[:at] + flags.to_bytes(2, sys.byteorder)
    )


@pytest.mark.parametrize("hook", Hook, ids=lambda hook: hook.name)
def test_both_directions_and_what_the_program_answers_are_there(
    hook: Hook, programs: Bench, ring: Ring
) -> None:
    frame = from_lac(OURS + IP + UP)
    programs.run(hook, "lac", frame, repeat=1)
    out = programs.run(hook, "core", from_core(DOWN)).frame
    programs.run(hook, "lac", from_lac(OURS + ECHO))
    first, second, request, reply = ring.read(9)
    assert (first.tunnel, first.session) == split_key(KEY)
    assert (first.to_peer, first.packet, first.length) == (False, frame[14:], len(frame) - 14)
    assert (second.to_peer, second.packet) == (True, out[14:])
    assert (request.to_peer, request.packet[28:]) == (False, OURS + ECHO)
    assert reply.to_peer and reply.packet[34:] == REPLY
    assert first.at_ns <= second.at_ns <= request.at_ns <= reply.at_ns
    assert ring.read(9) == []


@pytest.mark.parametrize("hook", Hook, ids=lambda hook: hook.name)
def test_a_full_ring_costs_captures_and_no_packets(hook: Hook, programs: Bench, ring: Ring) -> None:
    before, frame = missed(programs.maps["capturing"]), from_core(LARGE)
    fits = abi.CAPTURES // len(frame)
    for _ in range(fits):
        assert programs.feed(hook, "core", frame)[0].value == "sent"
    lost = missed(programs.maps["capturing"]) - before
    read = 0
    while found := ring.read(100):
        read += len(found)
    assert 0 < lost < fits and read + lost == fits
    programs.feed(hook, "core", frame)
    assert len(ring.read(9)) == 1


def test_a_packet_longer_than_the_snap_length_is_cut(programs: Bench, ring: Ring) -> None:
    large = from_lac(OURS + IP + packet(SUBSCRIBER, CORE, payload=bytes(2900)))
    assert programs.run(Hook.TC, "lac", large).reasons == {Reason.RX_KERNEL_TOO_BIG: 1}
    (capture,) = ring.read(9)
    assert (capture.packet, capture.length) == (large[14 : 14 + abi.SNAP], len(large) - 14)
