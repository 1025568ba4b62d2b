"""What the planes of this process have in common: `Flows` has their entries and counts for them.

Such a plane forwards from its first entry on, keeps nothing of a session that is removed, and needs no looking after.
"""

from collections.abc import Iterable, Mapping

from holdfast.dataplane.contract import Entry, Plan, Verdict
from holdfast.dataplane.flows import Flows
from holdfast.dataplane.reconcile import plan
from holdfast.dataplane.trace import Sink
from holdfast.records import Counters


class UserspacePlane:
    """The part of a plane that does not depend on where packets go. `_flows` are its entries."""

    def __init__(self, flows: Flows) -> None:
        self._flows = flows

    def resume(self, totals: Mapping[int, Counters]) -> None:
        """Go on counting from there (DataPlane.resume)."""
        self._flows.earlier = dict(totals)

    def begin(self) -> None:
        """It forwards already (DataPlane.begin)."""
        self._flows.earlier.clear()

    def tend(self) -> None:
        """There is nothing to look after (DataPlane.tend)."""

    def reasons(self) -> Mapping[str, int]:
        """Verdicts say it all (DataPlane.reasons)."""
        return {}

    def forget(self, keys: Iterable[int]) -> None:
        """Nothing was kept (DataPlane.forget)."""

    def enumerate(self) -> Mapping[int, Entry]:
        """What is installed (DataPlane.enumerate)."""
        return self._flows.enumerate()

    def differences(self, want: Mapping[int, Entry]) -> Plan:
        """What to change (DataPlane.differences)."""
        return plan(want, self.enumerate())

    def counters(self, key: int) -> Counters:
        """One session's traffic (DataPlane.counters). Raises UnknownSession."""
        return self._flows.counters(key)

    def all_counters(self) -> dict[int, Counters]:
        """Every session's traffic (DataPlane.all_counters)."""
        return self._flows.all_counters()

    def verdicts(self) -> Mapping[Verdict, int]:
        """Packets by verdict (DataPlane.verdicts)."""
        return self._flows.totals()

    def trace(self, key: int, sink: Sink | None) -> None:
        """Show a session's packets (DataPlane.trace)."""
        self._flows.trace(key, sink)

    def traces_fileno(self) -> int:
        """Packets are shown as they pass: -1 (DataPlane.traces_fileno)."""
        return -1

    def show_traced(self) -> None:
        """None wait (DataPlane.show_traced)."""

    def traced_missed(self) -> int:
        """None are missed (DataPlane.traced_missed)."""
        return 0
