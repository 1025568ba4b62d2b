"""SCCRQs from many sources at a fixed rate: memory stays bounded, no session is lost, the gap is stated.

`python -m holdfast.lab.bench.flood SECONDS RATE` is the flooder: it sends from every address of a network
that the LAC's namespace holds as its own, each SCCRQ from a new address and with a new Assigned Tunnel ID.
"""

import socket
import struct
import sys
import time
from collections.abc import Iterator

from holdfast.lab import netns, topology
from holdfast.lab.bench.rig import Rig
from holdfast.lab.bench.rows import Row
from holdfast.lab.blast.result import MIB
from holdfast.wire import dictionary as avps
from holdfast.wire.codes import Msg
from holdfast.wire.header import control_header
from holdfast.wire.messages import encode

RATE = 10_000
NETWORK = "10.66.0.0/16"
SESSIONS = 100
GROWTH_MIB = 64
_PPS = 2000
_IP_PKTINFO = 8  # linux/in.h; not in the socket module
_SOURCE = struct.Struct("=I4s4s")


def flood(rig: Rig, seconds: int) -> Iterator[Row]:
    """Established sessions with traffic, a flood beside them, and what it cost."""
    netns.ip(f"route add local {NETWORK} dev lo", namespace=rig.net.lac)
    netns.ip(f"route add {NETWORK} via {topology.LAC_ADDRESS}", namespace=rig.net.lns)
    peer = f'[[peer]]\nname = "crowd"\naddress = "{NETWORK}"\nsecret = "not-the-secret-of-anyone"\n'
    with rig.lns(users=SESSIONS, extra=peer) as lns:
        blast = rig.start_blast(
            lns,
            *("--sessions", str(SESSIONS), "--tunnels", "4", "--duration", str(seconds + 4)),
            *("--core-address", topology.CORE_ADDRESS, "--core-netns", rig.net.core),
            *("--up", str(_PPS), "--down", str(_PPS)),
        )
        lns.wait(lambda: lns.control.counters().get("sessions_opened", 0) >= SESSIONS, "its sessions")
        time.sleep(1)
        before = lns.rss
        argv = [sys.executable, "-m", "holdfast.lab.bench.flood", str(seconds), str(RATE)]
        cpu, start = lns.cpu_s, time.monotonic()
        flooder = rig.spawn(argv, rig.net.lac, rig.work("flood.log"), rig.other_cores, piped=True)
        peak = before
        while flooder.poll() is None:
            peak = max(peak, lns.rss)
            time.sleep(0.5)
        share = (lns.cpu_s - cpu) / (time.monotonic() - start)
        sent = int(flooder.communicate()[0] or 0)
        result = rig.blast_result(blast)
    kept = result.sessions.up_at_end == SESSIONS and not result.sessions.lost
    gaps = {
        name: d.longest_session_gap_ms
        for name, d in (("up", result.up), ("down", result.down))
        if d is not None
    }
    yield Row(
        what=f"{RATE:,} SCCRQ/s from {min(sent, 65_000):,} sources for {seconds} s",
        measured=f"{result.sessions.up_at_end} of {SESSIONS} sessions kept, memory {(peak - before) / MIB:+.1f} MiB",
        target=f"all kept, ≤ {GROWTH_MIB} MiB",
        met=kept and peak - before <= GROWTH_MIB * MIB,
        node=share,
        generator=result.generator.traffic_cpu_share,
        limited=sent < 0.9 * RATE * seconds,
        remarks=(
            f"{sent / seconds:,.0f} SCCRQ/s sent",
            "longest gap of a session " + ", ".join(f"{name} {gap:.0f} ms" for name, gap in gaps.items()),
        ),
    )


def _flooder(seconds: int, rate: int) -> int:
    """Send on schedule for a while; returns how many were sent."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 0))
    body = encode(
        Msg.SCCRQ,
        avps.PROTOCOL_VERSION(avps.VERSION_1_0),
        avps.HOST_NAME("crowd"),
        avps.FRAMING_CAPABILITIES(avps.SYNC_FRAMING),
        avps.CHALLENGE(bytes(16)),
        avps.ASSIGNED_TUNNEL_ID(1),
    )
    head, tail = control_header(0, 0, 0, 0, len(body)) + body[:-2], (topology.LNS_ADDRESS, 1701)
    network = int.from_bytes(socket.inet_aton(NETWORK.partition("/")[0]), "big")
    start = time.monotonic()
    sent = 0
    while (now := time.monotonic() - start) < seconds:
        for _ in range(min(int(now * rate) - sent, 200)):
            host = sent % 65_000 + 2
            source = _SOURCE.pack(0, (network + host).to_bytes(4, "big"), b"\0\0\0\0")
            control = [(socket.IPPROTO_IP, _IP_PKTINFO, source)]
            sock.sendmsg([head, (sent % 0xFFFF + 1).to_bytes(2, "big")], control, 0, tail)
            sent += 1
        time.sleep(0.0005)
    return sent


if __name__ == "__main__":
    print(_flooder(int(sys.argv[1]), int(sys.argv[2])))
