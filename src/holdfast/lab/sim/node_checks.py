"""What must be true of a node at rest: its tables, its records, its data plane and its pools agree."""

from collections import Counter as Tally
from collections.abc import Iterator

from holdfast.core.auth import PAP, Accept, Credentials
from holdfast.daemon.config import Config
from holdfast.daemon.node import Node
from holdfast.dataplane.contract import Entry
from holdfast.lab.sim.host import Disk
from holdfast.lab.sim.machine import unsettled as endpoint_unsettled
from holdfast.lab.sim.process import Process
from holdfast.records import Side, session_key
from holdfast.subscriber.subscriber import State


def unsettled(process: Process, config: Config, disk: Disk) -> list[str]:
    """What is wrong or not at rest. Uses up the address pools: for the end of a history."""
    return [
        *endpoint_unsettled(process.node.endpoint),
        *_lanes(process),
        *_lines(process, disk),
        *_records(process.node, disk),
        *_ledger(process.node),
        *(_trunks(process.node, config) if config.role_is_lac else ()),
        *(_subscribers(process, config) if config.role_is_lac else ()),
        *(_addresses(process.node, config) if config.role_is_lns else ()),
    ]


def _lanes(process: Process) -> Iterator[str]:
    runner = process.runner
    if waiting := runner.counters()["lanes_waiting"]:
        yield f"{waiting} lanes wait for a commit"
    if runner.faults:
        yield f"{runner.faults} faults in the runner"
    if not runner.settled or not process.journal.at_rest:
        yield "the journal is not at rest"
    if process.node.recoveries.running:
        yield f"{process.node.recoveries.running} recoveries are shown as running"


def _lines(process: Process, disk: Disk) -> Iterator[str]:
    """Every session has an opened link, a record that says the same, and an entry made of both."""
    node = process.node
    entries = process.plane.enumerate()
    keys = {session_key(t.local_id, i) for t in node.endpoint.tunnels.values() for i in t.sessions}
    if keys != set(node.lines) or keys != set(entries):
        yield f"sessions {sorted(keys)}, links {sorted(node.lines)}, entries {sorted(entries)}"
    for key, line in node.lines.items():
        record = disk.sessions.get(key)
        if not line.link.opened:
            yield f"link {key:#x} is in {line.link.phase.name}"
        elif line.deadline is None:
            yield f"link {key:#x} sends no echoes"
        if record is None or record.ppp != line.link.record or record.peer_id != line.session.peer_id:
            yield f"session {key:#x} is recorded as {record}, its link is {line.link.record}"
            continue
        if record.ppp is None or record.aaa != line.aaa() or record.subscriber != line.subscriber:
            yield f"session {key:#x} is recorded as {record}"
            continue
        lac = line.session.side is Side.LAC
        wanted = Entry(
            key=key,
            side=line.session.side,
            local_tunnel=line.tunnel_id,
            local_session=line.session_id,
            peer_tunnel=line.tunnel.peer_id,
            peer_session=line.session.peer_id,
            peer=line.tunnel.peer_address,
            address=record.ppp.local_ip if lac else record.ppp.peer_ip,
            mtu=min(record.ppp.peer_lcp.mru, node.config.ppp.mru),
            local=(node.config.listen.address, node.config.listen.port),
            echo=True,
            magic=record.ppp.local_lcp.magic,
        )
        if entries.get(key) != wanted:
            yield f"session {key:#x} is forwarded as {entries.get(key)}, not {wanted}"
    shared = [a for a, n in Tally(entry.address for entry in entries.values()).items() if n > 1]
    if shared:
        yield f"several sessions have {shared}"


def _ledger(node: Node) -> Iterator[str]:
    """Every tunnel counts for its peer, no recovery is open, and no outcome is counted twice."""
    ledger, ctx = node.ledger, node.endpoint.ctx
    if ledger.attempts or ctx.fell_back:
        yield f"{ledger.attempts} attempts are open, and {dict(ctx.fell_back)} waits"
    known = {tunnel_id for key in ledger.known() for tunnel_id in ledger.tunnels(key)}
    if known != {tunnel.local_id for tunnel in ctx.established()}:
        yield f"the ledger knows tunnels {sorted(known)}"
    for key in ledger.known():
        record = ledger.entry(key)
        for method in (record.rfc4951, record.silent) if record is not None else ():
            if method.successes + method.failures > method.attempts:
                yield f"{key} has more outcomes than attempts: {method}"


def _records(node: Node, disk: Disk) -> Iterator[str]:
    tunnels = {t.local_id for t in node.endpoint.ctx.established()}
    if tunnels != set(disk.tunnels) or set(node.lines) != set(disk.sessions):
        yield (
            f"tunnels {sorted(tunnels)} are recorded as {sorted(disk.tunnels)},"
            f" sessions {sorted(node.lines)} as {sorted(disk.sessions)}"
        )


def _trunks(node: Node, config: Config) -> Iterator[str]:
    """A LAC has the tunnels that it was told to have."""
    have = Tally(t.peer.name for t in node.endpoint.ctx.established())
    wanted = Tally({peer.name: peer.tunnels for peer in config.peer if peer.connect})
    if have != wanted:
        yield f"has {dict(have)} tunnels, not {dict(wanted)}"


def _subscribers(process: Process, config: Config) -> Iterator[str]:
    """Who should be online is, and has a link; who should not is idle."""
    node = process.node
    linked = Tally(line.subscriber for line in node.lines.values())
    for settings in config.subscriber:
        name = settings.name
        subscriber = node.dialler.subscribers[name]
        told = settings.auto and name not in process.hung_up
        if told and subscriber.state is not State.ONLINE:
            yield f"{name} should be online and {subscriber.state.value}: {subscriber.last_error}"
        if name in process.hung_up and subscriber.state is not State.IDLE:
            yield f"{name} should be offline and {subscriber.state.value}"
        if linked[name] != (subscriber.state is State.ONLINE) or subscriber.deadline is not None:
            yield f"{name} is {subscriber.state.value} with {linked[name]} links"


def _addresses(node: Node, config: Config) -> Iterator[str]:
    """The free addresses are those that no session has: found by asking for all of them."""
    held = {line.address for line in node.lines.values()}
    fixed = {user.address for user in config.user if user.address}
    free: set[str] = set()
    for user in config.user:
        credentials = Credentials(method=PAP, name=user.name, password=user.secret.encode())
        while isinstance(answer := node.aaa.authenticate(credentials), Accept):
            if answer.address in held or answer.address in free:
                yield f"{answer.address} would be given out twice"
                return
            free.add(answer.address)
    drawn = {user.pool or config.pool[0].name for user in config.user if not user.address}
    every = fixed | {
        str(pool.bounds[0] + i)
        for pool in config.pool
        if pool.name in drawn
        for i in range(int(pool.bounds[1]) - int(pool.bounds[0]) + 1)
    }
    if leaked := every - held - free:
        yield f"addresses that nobody has and nobody can get: {sorted(leaked)}"
