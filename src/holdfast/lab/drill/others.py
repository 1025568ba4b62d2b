"""Other people's daemons as the other side of a drill: what they hold, and whether they have noticed anything."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from holdfast.lab.kernel import pppol2tp
from holdfast.lab.netns import LabUnavailable
from holdfast.lab.options import Options
from holdfast.lab.peers import l2tpns, xl2tpd
from holdfast.lab.peers.radius import RadiusServer, User
from holdfast.lab.probes import address_of
from holdfast.lab.report import Noticed
from holdfast.lab.snapshot import Ids, Seen
from holdfast.lab.topology import LAC_ADDRESS, LNS_ADDRESS, LNS_CORE_ADDRESS, POOL, TUN, Topology

_RADIUS = ("127.0.0.1", 1812)


class Words(msgspec.Struct, frozen=True):
    """What to look for in a daemon's log lines: of its routine, and of a duplicate that it was sent.

    Our probe is a duplicate on purpose, which a peer acknowledges (RFC 2661 5.8) and drops; some say so.
    """

    routine: tuple[str, ...]
    duplicate: tuple[str, ...]


class LogReader:
    """Reads what is new in some logs."""

    def __init__(self, words: Words, *logs: Path) -> None:
        self._words = words
        self._offsets = dict.fromkeys(logs, 0)

    def read(self) -> Noticed:
        """From the lines that were completed since the last time."""
        lines = [line for line in self._lines() if line.strip() and not _has(line, self._words.routine)]
        duplicates = [line for line in lines if _has(line, self._words.duplicate)]
        return Noticed(
            lines=[line for line in lines if line not in duplicates], of_duplicates=len(duplicates)
        )

    def _lines(self) -> Iterator[str]:
        for log, offset in self._offsets.items():
            if log.exists():
                with open(log, "rb") as f:
                    f.seek(offset)
                    said = f.read()
                whole = said[: said.rfind(b"\n") + 1]
                self._offsets[log] += len(whole)
                yield from whole.decode(errors="replace").splitlines()


def _has(line: str, words: Sequence[str]) -> bool:
    return any(word in line for word in words)


class Xl2tpd:
    """xl2tpd and the pppd of its one session. It has no list of sessions: pppd and its device tell."""

    def __init__(self, daemon: xl2tpd.Xl2tpd, net: Topology, *, is_lac: bool) -> None:
        self.device = daemon.device if is_lac else TUN
        self._daemon = daemon
        self._is_lac = is_lac
        self._namespace = net.lac if is_lac else net.lns
        self.start, self.close = daemon.start, daemon.close
        self.noticed = LogReader(_OF_XL2TPD, daemon.log, daemon.ppp_log).read

    def ready(self) -> bool:
        """Whether it takes commands."""
        return self._daemon.ready

    def dial(self) -> bool:
        """A LAC calls."""
        return not self._is_lac or self._daemon.connect()

    def sees(self, ours: Mapping[Ids, Seen]) -> Mapping[Ids, Seen]:
        """Our session, with the process and the address at the other end of its link."""
        pppd = self._daemon.pppd or 0
        address = address_of(self._namespace, self._daemon.device, far=not self._is_lac)
        return {
            ids: msgspec.structs.replace(
                one, address=address, established=bool(pppd and address), established_utc_us=0, pppd=pppd
            )
            for ids, one in ours.items()
        }


_OF_XL2TPD = Words(
    routine=("LCP EchoReq", "LCP EchoRep"),
    duplicate=("Received out of order control packet", "bad control packet"),
)
"""xl2tpd and pppd: its debug log has every keepalive."""


class L2tpns:
    """l2tpns, which lists its sessions at its command line."""

    device = TUN

    def __init__(self, daemon: l2tpns.L2tpns) -> None:
        self._daemon = daemon
        self.start, self.close = daemon.start, daemon.close
        self.noticed = LogReader(_OF_L2TPNS, daemon.log).read

    def ready(self) -> bool:
        """Whether it is master of its cluster of one."""
        return self._daemon.ready

    def dial(self) -> bool:
        """It never calls."""
        return True

    def sees(self, ours: Mapping[Ids, Seen]) -> Mapping[Ids, Seen]:
        """Its list. The user's name is empty until RADIUS has agreed, and 0.0.0.0 is no address."""
        by_peer = {ids[2:]: one for ids, one in ours.items()}
        held: dict[Ids, Seen] = {}
        for row in self._daemon.sessions():
            one = by_peer.get((row.tunnel, row.session))
            ids = one.ids if one else (0, 0, row.tunnel, row.session)
            held[ids] = Seen(
                name=row.user,
                ids=ids,
                address=row.address,
                established=row.address != _NO_ADDRESS,
                established_utc_us=0,
            )
        return held


_NO_ADDRESS = "0.0.0.0"
_OF_L2TPNS = Words(
    routine=("Control message (", "Received HELLO", "multi_read_count"),
    duplicate=("Out of sequence tunnel",),
)
"""Its debug log has every message, and when there was much to read at once."""

Peer = Xl2tpd | L2tpns


@contextmanager
def peer(
    options: Options, net: Topology, work: Path, names: Sequence[str], secret: str
) -> Iterator[Peer | None]:
    """The other side of a drill, not yet started; None if that is ours. Raises LabUnavailable."""
    match options.peer:
        case "xl2tpd":
            yield from _running(_xl2tpd(options, net, work, names, secret))
        case "l2tpns":
            if reason := l2tpns.unavailable():
                raise LabUnavailable(reason)
            pool = map(str, IPv4Network(POOL).hosts())
            users = {name: User(secret, address) for name, address in zip(names, pool, strict=False)}
            radius = RadiusServer(net.lns, _RADIUS, secret, users, work / "radius.log")
            try:
                yield from _running(_l2tpns(net, work, secret))
            finally:
                radius.close()
        case _:
            yield None


def _running(peer: Peer) -> Iterator[Peer]:
    try:
        yield peer
    finally:
        peer.close()


def _l2tpns(net: Topology, work: Path, secret: str) -> L2tpns:
    directory = work / "l2tpns"
    directory.mkdir()
    return L2tpns(
        l2tpns.L2tpns(
            net.lns,
            directory,
            address=LNS_ADDRESS,
            inside_address=LNS_CORE_ADDRESS,
            radius=_RADIUS,
            radius_secret=secret,
            secret=secret,
            authentication="chap",
        )
    )


def _xl2tpd(options: Options, net: Topology, work: Path, names: Sequence[str], secret: str) -> Xl2tpd:
    if reason := pppol2tp.unavailable() or xl2tpd.unavailable():
        raise LabUnavailable(reason)
    directory = work / "xl2tpd"
    directory.mkdir()
    xl2tpd.prepare((name, secret) for name in names)
    is_lac = options.kill == "lns"
    if is_lac:
        daemon = xl2tpd.lac(
            "lac",
            net.lac,
            directory,
            address=LAC_ADDRESS,
            lns=LNS_ADDRESS,
            user=names[0],
            password=secret,
            secret=secret,
        )
    else:
        pool = IPv4Network(POOL)
        daemon = xl2tpd.lns(
            "lns",
            net.lns,
            directory,
            address=LNS_ADDRESS,
            local_ip=LNS_CORE_ADDRESS,
            pool=f"{IPv4Address(int(pool[0]) + 1)}-{IPv4Address(int(pool[0]) + 9)}",
            secret=secret,
        )
    return Xl2tpd(daemon, net, is_lac=is_lac)
