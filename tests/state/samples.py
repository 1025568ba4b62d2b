"""Records, and a way to wait for the journal's answers."""

from collections.abc import Callable
from queue import Queue

from msgspec.structs import replace

from holdfast.records import (
    AaaRecord,
    Counters,
    FailoverCapability,
    LcpRecord,
    PppRecord,
    SessionRecord,
    Side,
    TunnelRecord,
)
from holdfast.records.ledger import MethodRecord, Outcome, PeerRecord
from holdfast.state.journal import JournalError, Pace

PATIENCE_S = 20.0
"""How long a test waits for an answer before it fails."""

BRISK = Pace(gather_s=0.0, lazy_s=0.01, probe_s=0.01)


def tunnel(local_id: int, **changes: object) -> TunnelRecord:
    """A tunnel's record, in which `changes` differ."""
    record = TunnelRecord(
        local_id=local_id,
        peer_id=local_id ^ 0x5555,
        local_address="192.0.2.1",
        local_port=1701,
        peer_address="198.51.100.7",
        peer_port=1701,
        initiator=False,
        side=Side.LNS,
        local_host_name="lns1.example.net",
        peer_host_name="lac1.example.net",
        peer_name="lac1",
        secret="s3cret",
        local_failover=FailoverCapability(True, False, 60_000),
        peer_failover=FailoverCapability(True, True, 45_000),
        peer_window=16,
        peer_framing=3,
        peer_bearer=0,
        established_utc_us=1_700_000_000_000_000,
        acked=1,
        nr=2,
    )
    return replace(record, **changes)


def session(tunnel_id: int, local_id: int, *, serial: int = 0) -> SessionRecord:
    return SessionRecord(
        tunnel_id=tunnel_id,
        local_id=local_id,
        peer_id=local_id ^ 0x3333,
        side=Side.LNS,
        call_serial=serial or local_id,
        established_utc_us=1_700_000_000_000_000 + local_id,
        ppp=PppRecord(
            local_lcp=LcpRecord(mru=1460, magic=0x0102_0304 + local_id, auth=0xC223),
            peer_lcp=LcpRecord(mru=1460, magic=0x0A0B_0C0D, pfc=True, acfc=True),
            auth_method=0xC223,
            auth_name=f"user{local_id}@example.net",
            auth_id=7,
            auth_message="Welcome",
            local_ip="100.64.0.1",
            peer_ip=f"100.{64 + tunnel_id % 64}.{local_id >> 8}.{local_id & 0xFF}",
            dns=("192.0.2.53", "192.0.2.54"),
        ),
        aaa=AaaRecord(
            user=f"user{local_id}@example.net",
            pool="default",
            acct_session_id=f"{tunnel_id:08x}{local_id:08x}",
            class_attributes=(b"\x00gold",),
        ),
        calling_number="0815",
        called_number="4711",
        counter_base=Counters(1, 2, 3, 4),
    )


def peer(name: str = "lac1", host_name: str = "lac1.example.net", *, attempts: int = 2) -> PeerRecord:
    return PeerRecord(
        name=name,
        host_name=host_name,
        seen_utc_us=1_700_000_000_000_000,
        offered=FailoverCapability(True, False, 45_000),
        vendor="example",
        firmware=0x0690,
        window=4,
        rfc4951=MethodRecord(
            attempts=attempts, failures=1, last=Outcome.FAILURE, last_utc_us=5, last_reason="no answer"
        ),
        silent=MethodRecord(successes=1, send_last_ms=3, send_worst_ms=7, receive_last_ms=3),
        contradictions=1,
        contradicted_boot=3,
        contradicted_utc_us=1_700_000_000_000_000,
        kept_ms=42_000,
    )


class Answers:
    """What the journal said, in the order in which it said it."""

    def __init__(self) -> None:
        self._queue: Queue[tuple[str, JournalError | None]] = Queue()

    def about(self, name: str) -> Callable[[JournalError | None], None]:
        """A `done` whose answer can be waited for."""
        return lambda error: self._queue.put((name, error))

    def health(self, error: JournalError | None) -> None:
        """An `on_health`."""
        self._queue.put(("health", error))

    def next(self) -> tuple[str, JournalError | None]:
        """The next answer; fails the test if there is none."""
        return self._queue.get(timeout=PATIENCE_S)
