"""What the node keeps about itself in the journal: its boots, and the ids that it has used of late (F-70)."""

from holdfast.core.clock import SECOND, Duration
from holdfast.daemon.effects import Effect, Persist
from holdfast.protocol.endpoint import Endpoint
from holdfast.records import EndpointRecord
from holdfast.records.writes import Save

INTERVAL: Duration = 5 * SECOND
"""How often the endpoint's own record follows the recently used ids; nobody waits for it."""


class Identity:
    """The endpoint's record: what the last process left, and what this one leaves to the next. `boot_epoch` counts the
    processes.
    """

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self._name = name
        self._endpoint = endpoint
        self.boot_epoch = 0
        self._record: EndpointRecord | None = None

    def remember(self, record: EndpointRecord | None) -> None:
        """What the record says of the node and its tunnel ids, before any is given out."""
        self.boot_epoch = (record.boot_epoch if record is not None else 0) + 1
        if record is not None:
            self._endpoint.ctx.tunnel_ids.remember(record.recent_tunnel_ids)

    def remember_sessions(self, record: EndpointRecord | None) -> None:
        """What the record says of the session ids of the tunnels that have been restored."""
        for tunnel_id, ids in (record.recent_session_ids if record is not None else {}).items():
            tunnel = self._endpoint.tunnels.get(int(tunnel_id))
            if tunnel is not None:
                tunnel.ids.remember(ids)

    def save(self, out: list[Effect]) -> None:
        """Keep the recently used ids on disk, so that a restart does not give them out again soon."""
        ctx = self._endpoint.ctx
        record = EndpointRecord(
            name=self._name,
            boot_epoch=self.boot_epoch,
            recent_tunnel_ids=tuple(ctx.tunnel_ids.recent),
            recent_session_ids={
                str(t.local_id): tuple(t.ids.recent) for t in ctx.established() if t.ids.recent
            },
        )
        if record != self._record:
            self._record = record
            out.append(Persist(0, (Save(record),)))
