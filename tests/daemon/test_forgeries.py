"""Two nodes that are killed and started again while somebody between them damages, repeats, cuts and renumbers what they
have said: it may cost tunnels, and never an error of ours, nor a recovery that does not end.
"""

from random import Random

import pytest

from daemon.hosts import Host, Network

FAILOVER = (
    "",
    "advertise = false",
    'method = "silent"',
    'method = "rfc4951"',
    "strict_discard = true",
    "additive = true\nrecovery_time_ms = 0",
)
CONTROL = 0x80
LENGTH = 0x40
REMEMBERED = 400
"""Datagrams of the recent past that are taken for models."""


@pytest.mark.parametrize("seed", range(24))
def test_whatever_is_forged_costs_no_fault_and_leaves_no_recovery_open(seed: int) -> None:
    random = Random(seed)
    settings = [f"[failover]\n{random.choice(FAILOVER)}\n" for _ in range(2)]
    network = Network(4, 2, *settings)
    network.up()
    faults: list[object] = []
    for _ in range(random.randrange(10, 40)):
        match random.randrange(6):
            case 0:
                host = random.choice((network.lns, network.lac))
                faults += _faults(host)
                network.kill(host)
                network.run(random.choice((0, 0.1, 2, 15, 40)))
                network.start(host)
            case 1:
                network.run(random.choice((0.01, 0.3, 1, 5, 20)))
            case 2:
                host = random.choice((network.lns, network.lac))
                key = random.choice([0, *host.node.lines])
                network.carry(host, host.node.clear_session(key, network.now) or [])
            case _:
                for _ in range(random.randrange(1, 15)):
                    _forge(network, random)
    network.run(400)
    for host in (network.lns, network.lac):
        faults += _faults(host)
        assert host.node.recoveries.running == host.node.ledger.attempts == 0
    assert not faults


def _faults(host: Host) -> list[object]:
    return [log.fields for log in host.logs if "fault" in log.event]


def _forge(network: Network, random: Random) -> None:
    source, model = random.choice(list(network.wire)[-REMEMBERED:])
    data = _changed(bytearray(model), random)
    target = network.lac if source is network.lns else network.lns
    if data[0] & CONTROL:
        network.carry(target, target.node.control(data, source.address, network.now))
    elif len(data) >= 8:
        at = 4 if data[0] & LENGTH else 2
        key = int.from_bytes(data[at : at + 2], "big") << 32 | int.from_bytes(data[at + 2 : at + 4], "big")
        network.carry(target, target.node.ppp(key, data[at + 4 :], source.address, network.now))


def _changed(data: bytearray, random: Random) -> bytes:
    match random.randrange(4):
        case 0:
            for _ in range(random.choice((1, 2, 8))):
                data[random.randrange(len(data))] = random.randrange(256)
        case 1 if data[0] & CONTROL and len(data) >= 12:
            for at in (8, 10):  # Ns and Nr
                number = int.from_bytes(data[at : at + 2], "big") + random.randrange(-5, 20)
                data[at : at + 2] = (number % 65536).to_bytes(2, "big")
        case 2:
            del data[random.randrange(1, len(data) + 1) :]
        case _:
            pass
    return bytes(data)
