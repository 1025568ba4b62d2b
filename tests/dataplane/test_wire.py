"""The eBPF plane on the wire: what the fast path, the kernel and the TUN device's program make of real traffic."""

import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from hashlib import sha256
from select import select

import pytest

from dataplane.cases import (
    CORE,
    HELLO,
    IP,
    LCP,
    NODE,
    OTHER,
    OURS,
    PEER,
    SUBSCRIBER,
    THEIRS,
    UP,
    entry,
    packet,
    sum16,
    with_ttl,
)
from dataplane.programs import missing
from dataplane.wire import (
    GATEWAY,
    LIMIT_S,
    MTU,
    Wire,
    awaited,
    echo_request,
    is_icmp,
    offload_off,
    pumped,
    wired,
)
from holdfast.dataplane.ebpf.abi import Reason
from holdfast.dataplane.trace import Seen, decapsulated
from holdfast.lab.netns import entered
from holdfast.records import Counters, session_key

REASON = missing()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

ENTRIES = [
    entry(mtu=MTU, echo=True, magic=7),
    entry(session=4, address=OTHER, peer_session=5, mtu=MTU),
    entry(session=5, address="100.64.0.9", peer_session=6, mtu=1000),
    entry(session=6, address="100.64.0.10", peer_session=7, mtu=MTU, sequenced=True),
]
DEVICE_MTU = 1280
"""The least that a session with a small MRU, one of these, makes it."""
KEYS = [session_key(7, session) for session in (3, 4, 5, 6)]


@pytest.fixture(scope="module", params=["tc", "xdp"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with wired(request.param, ENTRIES) as made:
        made.warm()
        yield made


@pytest.fixture(autouse=True)
def fresh(wire: Wire) -> None:
    wire.mark()


def test_pings_go_there_and_back_on_the_fast_path_and_count(wire: Wire) -> None:
    before = wire.plane.counters(KEYS[0])
    for number in range(20):
        wire.up(echo_request(SUBSCRIBER, CORE, number=number, size=1000))
        reply = wire.at_lac(lambda data: is_icmp(data, 0))
        assert reply[26:28] == struct.pack(">H", number)
        assert (sum16(reply[:20]), sum16(reply[20:])) == (0, 0)
    assert wire.moved() == {Reason.RX_FORWARDED: 20, Reason.TX_FORWARDED: 20}
    after = wire.plane.counters(KEYS[0])
    assert after == Counters(
        before.up_packets + 20,
        before.up_bytes + 20 * 1028,
        before.down_packets + 20,
        before.down_bytes + 20 * 1028,
    )


def test_a_ping_to_the_lns_itself_is_answered_by_way_of_the_device(wire: Wire) -> None:
    for address in (GATEWAY, NODE[0]):
        wire.mark()
        wire.up(echo_request(SUBSCRIBER, address))
        assert wire.at_lac(lambda data: is_icmp(data, 0))[12:16] == socket.inet_aton(address)
        assert wire.moved() == {Reason.RX_KERNEL_LOCAL: 1, Reason.SLOW_FORWARDED: 1}


def test_a_trace_has_each_packet_once_whoever_finishes_it(wire: Wire) -> None:
    seen: list[Seen] = []
    wire.plane.trace(KEYS[0], seen.append)
    try:
        on_the_fast_path, answered_here = echo_request(SUBSCRIBER, CORE), echo_request(SUBSCRIBER, GATEWAY)
        in_fragments = packet(SUBSCRIBER, CORE, payload=bytes(1470), identification=10)
        for request in (on_the_fast_path, answered_here):
            wire.up(request)
            wire.at_lac(lambda data: is_icmp(data, 0))
        wire.lac.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: IP_PMTUDISC_DONT
        wire.up(in_fragments)
        wire.serve()
        wire.at_core(lambda data: data[4:6] == b"\0\x0a")
        wire.plane.show_traced()
    finally:
        wire.plane.trace(KEYS[0], None)
    seen.sort(key=lambda shown: shown.at_ns)
    found = [inner for inner in map(decapsulated, seen) if inner is not None]
    assert [(inner.to_peer, inner.packet) for inner in found if not inner.to_peer] == [
        (False, on_the_fast_path),
        (False, answered_here),
        (False, in_fragments),
    ]
    replies = [inner.packet for inner in found if inner.to_peer]
    assert len(replies) == 2 and all(is_icmp(reply, 0) for reply in replies)
    assert all(sum16(shown.packet[:20]) == 0 for shown in seen)
    assert wire.moved()[Reason.SLOW_FORWARDED] == 1


def test_a_ttl_that_ends_on_the_way_up_is_answered_by_the_kernel(wire: Wire) -> None:
    wire.up(echo_request(SUBSCRIBER, CORE, ttl=1))
    assert wire.at_lac(lambda data: is_icmp(data, 11))[48:56] == echo_request(SUBSCRIBER, CORE, ttl=1)[20:28]
    assert wire.moved() == {Reason.RX_KERNEL_TTL: 1, Reason.SLOW_FORWARDED: 1}


def test_a_ttl_that_ends_on_the_way_down_is_answered_by_the_kernel(wire: Wire) -> None:
    wire.down(echo_request(CORE, SUBSCRIBER, ttl=1))
    answer = wire.at_core(lambda data: is_icmp(data, 11))
    assert answer[12:16] == socket.inet_aton(GATEWAY)
    assert wire.moved() == {Reason.TX_TTL: 1}


def test_too_big_with_df_draws_fragmentation_needed_without_a_daemon(wire: Wire) -> None:
    wire.down(packet(CORE, SUBSCRIBER, payload=bytes(MTU - 19), identification=1, fragment=0x4000))
    answer = wire.at_core(lambda data: is_icmp(data, 3, 4))
    assert answer[26:28] == struct.pack(">H", DEVICE_MTU)
    assert wire.moved() == {Reason.TX_TOO_BIG: 1}


def test_too_big_without_df_arrives_in_fragments_from_the_device(wire: Wire) -> None:
    wire.down(packet(CORE, SUBSCRIBER, payload=bytes(MTU - 19), identification=2))
    pieces = [wire.at_lac(lambda data: data[9] == 17) for _ in range(2)]
    assert [len(piece) > 20 for piece in pieces] == [True, True]
    assert sum(len(piece) - 20 for piece in pieces) == MTU - 19
    assert wire.moved() == {Reason.TX_TOO_BIG: 1, Reason.SLOW_FORWARDED: 2}


def test_options_of_a_packet_are_the_kernels(wire: Wire) -> None:
    data = packet(CORE, SUBSCRIBER, options=bytes((1, 1, 1, 0)), identification=3)
    wire.down(data)
    assert wire.at_lac(lambda found: found[0] == 0x46) == with_ttl(data, 63)
    assert wire.moved() == {Reason.TX_OPTIONS: 1, Reason.SLOW_FORWARDED: 1}


def test_what_a_session_with_a_small_mru_cannot_take_is_left_to_the_daemon(wire: Wire) -> None:
    data = packet(CORE, "100.64.0.9", payload=bytes(1200), identification=4)
    wire.core.sendto(data, ("100.64.0.9", 0))
    until_readable(wire.plane.fileno())
    wire.plane.on_readable()
    pieces = [wire.at_lac(lambda found: found[9] == 17) for _ in range(2)]
    assert sum(len(piece) - 20 for piece in pieces) == 1200
    assert wire.moved() == {Reason.TX_TOO_BIG: 1, Reason.SLOW_TOO_BIG: 1}


def test_a_sequenced_session_is_the_daemons_both_ways(wire: Wire) -> None:
    wire.core.sendto(packet(CORE, "100.64.0.10", identification=5), ("100.64.0.10", 0))
    until_readable(wire.plane.fileno())
    wire.plane.on_readable()
    assert wire.at_lac(lambda data: data[:1] == b"\x45", size=14)
    wire.up(packet("100.64.0.10", CORE), head=bytes.fromhex("0802 0007 0006 0000 0000") + IP)
    wire.serve()
    assert wire.at_core(lambda data: data[12:16] == socket.inet_aton("100.64.0.10"))
    assert wire.moved() == {Reason.TX_TO_DAEMON: 1, Reason.SLOW_TO_DAEMON: 1, Reason.RX_TO_DAEMON: 1}


def test_no_packet_is_lost_while_neighbours_are_unknown(wire: Wire) -> None:
    for number in range(3):
        wire.forget_neighbours()
        wire.up(echo_request(SUBSCRIBER, CORE, number=number))
        assert wire.at_lac(lambda data: is_icmp(data, 0))[26:28] == struct.pack(">H", number)
    wire.warm()


def test_outer_fragments_are_put_together_and_finished_by_the_daemon(wire: Wire) -> None:
    data = packet(SUBSCRIBER, CORE, payload=bytes(range(256)) * 5 + bytes(190), identification=6)
    wire.lac.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: IP_PMTUDISC_DONT
    wire.up(data)
    wire.serve()
    assert wire.at_core(lambda found: found[4:6] == b"\0\6") == with_ttl(data, 63)
    assert wire.moved() == {Reason.RX_FRAGMENT: 2}


def test_one_subscriber_reaches_another_and_is_who_he_is(wire: Wire) -> None:
    there = packet(SUBSCRIBER, OTHER, identification=7)
    wire.up(there)
    found = awaited(wire.lac, lambda data: data[:6] == b"\0\2\1\2\0\5")
    assert found[10:] in (with_ttl(there, 63), with_ttl(there, 62))
    forged = packet(OTHER, CORE, identification=8)
    wire.up(forged)
    wire.up(packet(SUBSCRIBER, CORE, identification=9))
    assert wire.at_core(lambda data: data[9] == 17)[4:6] == b"\0\x09", "the forged one came before it"
    assert wire.moved()[Reason.RX_SPOOFED] == 1


def test_an_echo_request_is_answered_where_it_arrives(wire: Wire) -> None:
    wire.up(LCP, head=OURS)
    assert awaited(wire.lac, lambda data: True) == THEIRS + LCP[:4] + b"\x0a" + LCP[5:8] + struct.pack(
        ">I", 7
    )
    assert wire.moved() == {Reason.RX_ECHO: 1}


def test_a_frame_with_a_vlan_tag_is_taken_and_sent_on_without(wire: Wire) -> None:
    with entered(wire.names["lac"]):
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        link.bind(("eth0", 0))
        source = link.getsockname()[4]
    to = next(
        bytes.fromhex(line.split("lladdr ")[1].split()[0].replace(":", ""))
        for line in shown("neigh", "show", NODE[0], namespace=wire.names["lac"]).splitlines()
        if "lladdr" in line
    )
    inner = packet(SUBSCRIBER, CORE, identification=10)
    datagram = struct.pack(">HHHH", PEER[1], NODE[1], 18 + len(inner), 0) + OURS + IP + inner
    outer = packet(PEER[0], NODE[0], payload=datagram)
    link.send(to + source + b"\x81\x00\x00\x05\x08\x00" + outer)
    link.close()
    assert wire.at_core(lambda data: data[4:6] == b"\0\x0a") == with_ttl(inner, 63)
    assert wire.moved() == {Reason.RX_FORWARDED: 1}


def test_while_nobody_listens_data_flow_and_no_icmp_tells_the_peer(wire: Wire) -> None:
    wire.udp.close()
    try:
        with entered(wire.names["lac"]):
            nobody = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        nobody.connect((NODE[0], 1999))
        nobody.settimeout(LIMIT_S)
        nobody.send(HELLO)
        with pytest.raises(ConnectionRefusedError):  # so this host does answer for other ports
            nobody.recv(100)
        nobody.close()
        wire.lac.connect(NODE)
        wire.lac.send(HELLO)
        wire.lac.send(OURS + bytes.fromhex("c021 0101 0004"))
        wire.lac.send(b"\0\2\0\7\0\x63" + IP + UP)
        wire.lac.send(OURS + IP + echo_request(SUBSCRIBER, CORE, number=99))
        assert wire.at_lac(lambda data: is_icmp(data, 0)), "an ICMP error would have come before it"
        assert wire.moved() == {Reason.RX_UNHEARD: 3, Reason.RX_FORWARDED: 1, Reason.TX_FORWARDED: 1}
    finally:
        disconnect(wire.lac)
        wire.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        wire.udp.bind(NODE)
        wire.udp.setblocking(False)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_tcp_carries_what_was_sent(direction: str, wire: Wire, request: pytest.FixtureRequest) -> None:
    """In tc with all offloads on at the sender; the LNS's link to the LAC has none, as a plain NIC, so the kernel must
    cut bursts and finish checksums behind our headers. XDP knows no unfinished checksums: there the host in the core
    makes them itself, like every host behind a wire.
    """
    mode = request.node.callspec.params["wire"]
    data = os.urandom(1 << 20) * 3
    offload_off(
        "lac", "tx", *(("tso", "gso") if mode == "tc" else ())
    )  # with XDP it has these two off already
    if mode == "xdp":
        with entered(wire.names["core"]):
            offload_off("eth0", "tx")
    with pumped(wire):
        with entered(wire.names["core"]):
            server = socket.create_server((CORE, 5001))
        with entered(wire.names["lac"]):
            client = socket.socket()
        client.settimeout(LIMIT_S)
        client.connect((CORE, 5001))
        accepted, _ = server.accept()
        accepted.settimeout(LIMIT_S)
        sender, receiver = (client, accepted) if direction == "up" else (accepted, client)
        writer = threading.Thread(target=send_all, args=(sender, data))
        writer.start()
        digest, size = sha256(), 0
        while chunk := receiver.recv(1 << 16):
            digest.update(chunk)
            size += len(chunk)
        writer.join()
        for sock in (server, client, accepted):
            sock.close()
    assert (size, digest.digest()) == (len(data), sha256(data).digest())
    moved = wire.moved()
    assert moved.keys() <= {Reason.RX_FORWARDED, Reason.TX_FORWARDED}, moved
    counted = wire.plane.counters(KEYS[0])
    assert (counted.up_bytes if direction == "up" else counted.down_bytes) > len(data)


def send_all(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def until_readable(fd: int) -> None:
    assert select([fd], [], [], LIMIT_S)[0], "nothing came to the device"


def disconnect(sock: socket.socket) -> None:
    """Take datagrams from anybody again (connect(2) to AF_UNSPEC)."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(sock.fileno(), ctypes.create_string_buffer(16), 16) == 0


def shown(*arguments: str, namespace: str) -> str:
    done = subprocess.run(["ip", "-n", namespace, *arguments], text=True, capture_output=True, check=True)
    return done.stdout
