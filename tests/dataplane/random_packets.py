"""Packets that are nearly right, for comparing two planes."""

from hypothesis import strategies as st

from dataplane.cases import (
    CORE,
    DOWN,
    IP,
    LCP,
    OTHER,
    OURS,
    PEER,
    STRANGER,
    SUBSCRIBER,
    UP,
    FromDevice,
    FromPeer,
    packet,
    syn,
)


def sized(size: int, *, to: str = SUBSCRIBER, number: int = 0) -> bytes:
    return packet(CORE, to, payload=bytes(size - 20), identification=number)


SEEDS = st.sampled_from(
    [
        OURS + IP + UP,
        bytes.fromhex("4002 0028 0007 0003") + IP + UP,
        bytes.fromhex("0202 0007 0003 0002 aaaa 21") + UP,
        OURS + IP + syn(SUBSCRIBER, CORE, bytes.fromhex("020405b4")),
        OURS + LCP,
    ]
)
PACKETS = st.sampled_from(
    [
        DOWN,
        sized(700, to=OTHER),
        packet(CORE, OTHER, payload=bytes(700), fragment=0x4000),
        packet(CORE, "100.64.0.9", payload=b"five", options=bytes(8)),
        syn(CORE, OTHER, bytes.fromhex("0101020405b40000")),
    ]
)


@st.composite
def mutated(draw: st.DrawFn, seeds: st.SearchStrategy[bytes]) -> bytes:
    """A valid packet with a few octets changed, and perhaps cut or prolonged."""
    data = bytearray(draw(seeds))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, min(len(data), 40) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(data))) if draw(st.booleans()) else len(data)
    return bytes(data[:cut]) + draw(st.binary(max_size=4))


ARRIVALS = st.one_of(
    st.builds(FromPeer, mutated(SEEDS), st.sampled_from([PEER, PEER, STRANGER])),
    st.builds(FromPeer, st.binary(max_size=60)),
    st.builds(FromDevice, mutated(PACKETS).filter(bool)),
    st.builds(FromDevice, st.binary(min_size=1, max_size=60)),
)
