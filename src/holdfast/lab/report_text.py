"""The drill's report for people: a label and a value in each line."""

from collections.abc import Iterator

from holdfast.lab.report import Ms, Noticed, Outcome, Place, Report, Subscriber, Transfer

_LINES = 5
"""So many subscribers, or lines of a peer's log, are shown."""


def text(r: Report) -> str:
    """The report for people, in lines."""
    return "\n".join(f"{label:<22}{value}" for label, value in rows(r))


def rows(r: Report) -> Iterator[tuple[str, str]]:
    """Label and value of each line of the report."""
    yield "killed" if r.by == "kill" else "stopped", _killed(r)
    if r.packets_by == "lab":
        yield "data plane", _plane(r)
    yield "sessions", f"{r.sessions_before} before, {r.sessions_after} after, with data both ways"
    for subscriber in r.subscribers[:_LINES]:
        yield f"  {subscriber.name}", _places(subscriber)
    if len(r.subscribers) > _LINES:
        yield "  …", f"{len(r.subscribers) - _LINES} more, with --json"
    yield "dialled again", str(r.sessions_redialled)
    yield "PPP renegotiated", str(r.ppp_renegotiated)
    yield "addresses changed", str(r.addresses_changed)
    yield "session ids changed", str(r.session_ids_changed)
    if not r.subscribers:
        yield "set-ups in flight", _outcome(r.in_flight.setups)
        yield "teardowns in flight", _outcome(r.in_flight.teardowns)
    yield "recovered by", _by_method(r.recovered_by)
    yield "dead for", _ms(r.down_ms)
    if r.dataplane == "tun":
        yield "data back", f"{_ms(r.data_back_ms.first)} first, {_ms(r.data_back_ms.all)} all (from start)"
    yield "longest gap", f"{_ms(r.data_gap_ms.p50)} median, {_ms(r.data_gap_ms.max)} worst session"
    for direction, p in (("up", r.packets.up), ("down", r.packets.down)):
        yield f"packets {direction}", f"{p.sent:,} sent, {p.received:,} received, {p.lost:,} lost"
    if r.dataplane == "tun":
        yield (
            "lost",
            f"{r.lost_where.while_down:,} while no data flowed, {r.lost_where.otherwise:,} otherwise",
        )
    else:
        yield "lost", f"{r.packets.up.lost:,} up, {r.packets.down.lost:,} down"
    for namespace, counters in r.lost_where.kernel.items():
        yield f"  kernel of {namespace}", ", ".join(f"{name} {count:,}" for name, count in counters.items())
    for place, end in (("LAC", r.lost_where.lac_end), ("core", r.lost_where.core_end)):
        if end.no_room or end.unsent:
            yield (
                f"  lab's own {place}",
                f"{end.unsent:,} never sent, {end.no_room:,} datagrams not taken for want of room",
            )
    if r.packets_by == "lab":
        yield (
            "sent late",
            f"up to {_ms(r.lost_where.lac_end.late_ms)} up, {_ms(r.lost_where.core_end.late_ms)} down",
        )
    if r.echoes:
        yield "LCP echoes", f"{r.echoes.sent} asked for while it was dead, {r.echoes.answered} answered"
    if r.ping:
        yield "ping", f"{r.ping.sent} sent, {r.ping.received} answered"
    if r.tcp:
        yield "TCP transfer", _transfer(r.tcp)
    yield from _recovery(r)
    if r.noticed:
        yield f"{r.peer} noticed", _noticed(r.noticed)
    if r.kernel != "host":
        yield "times", "of a User-Mode Linux kernel: far slower than this machine's own"
    if len(r.nodes) > 1:
        for role, node in r.nodes.items():
            yield (
                f"  {role}",
                f"dead {_ms(node.down_ms)}, synchronised {_ms(node.synchronised_ms)} after start",
            )
    if r.result == "ok":
        yield "result", "ok"
    else:
        for reason in r.result:
            yield "FAILED", reason


def _plane(r: Report) -> str:
    where = "in user space (tun)" if r.dataplane == "tun" else f"in the kernel ({r.dataplane})"
    return f"{where}, its programs replaced by others" if r.programs_replaced else where


def _killed(r: Report) -> str:
    times = f", {r.kills} times" if r.kills > 1 else ""
    if r.kill != "both":
        return r.kill + times + ("" if r.peer_offers_rfc4951 else f", in front of {r.peer} without RFC 4951")
    return f"lns, then lac {r.stagger_ms:g} ms after its restart" if r.stagger_ms else "lns and lac at once"


def _places(s: Subscriber) -> str:
    if s.before == s.after:
        return f"{_place(s.before)}, the same after"
    return f"{_place(s.before)}; after: {_place(s.after)}"


def _place(p: Place | None) -> str:
    if p is None:
        return "not whole"
    lac, lns = f"{p.lac_tunnel}/{p.lac_session}", f"{p.lns_tunnel}/{p.lns_session}"
    return f"{p.address}, LAC {lac}, LNS {lns}" + (f", pppd {p.pppd}" if p.pppd else "")


def _noticed(n: Noticed) -> str:
    s = "" if n.of_duplicates == 1 else "s"
    of_duplicates = (
        f", {n.of_duplicates} log line{s} about a duplicate (our probe)" if n.of_duplicates else ""
    )
    return (" / ".join(n.lines[:_LINES]) or "nothing") + of_duplicates


def _transfer(t: Transfer) -> str:
    how = "complete" if t.complete else t.error or "WRONG OR MISSING OCTETS"
    return f"{t.octets:,} octets, {how}, longest stall {_ms(t.longest_stall_ms)}"


def _recovery(r: Report) -> Iterator[tuple[str, str]]:
    cleared = f"{r.stale_cleared} stale sessions cleared"
    if r.peer_offers_rfc4951:
        yield "control recovered", f"{_ms(r.control_recovered_ms)} after start"
        yield "synchronised", f"{_ms(r.synchronised_ms)} after start, {cleared}"
    else:
        yield "send side", f"resynchronised {_ms(r.control_recovered_ms)} after start"
        yield "receive side", f"settled {_ms(r.synchronised_ms)} after start, {cleared}"


def _outcome(o: Outcome) -> str:
    return f"{o.survived} survived, {o.ended_clean} ended clean, {o.half_open} half open"


def _by_method(counts: dict[str, int]) -> str:
    return (
        ", ".join(f"{method} ({n} tunnel{'' if n == 1 else 's'})" for method, n in counts.items())
        or "nothing"
    )


def _ms(value: Ms | None) -> str:
    return "never" if value is None else f"{value:,.1f} ms"
