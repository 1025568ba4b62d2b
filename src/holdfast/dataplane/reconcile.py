"""Making a plane agree with what is wanted, by what it says it has: start, repair and change are one code
path.
"""

from collections.abc import Mapping

from holdfast.dataplane.contract import DataPlane, Entry, Plan


def plan(want: Mapping[int, Entry], have: Mapping[int, Entry]) -> Plan:
    """How to get from `have` to `want`, both by session key."""
    return Plan(
        put=[entry for key, entry in want.items() if have.get(key) != entry],
        delete=[key for key in have if key not in want],
    )


def reconcile(plane: DataPlane, want: Mapping[int, Entry]) -> tuple[Plan, Plan]:
    """Carry out the plan, removals first, and read back: what was changed, and what is still wrong (empty if
    all went well). Raises BadEntry.
    """
    changes = plane.differences(want)
    if not changes:
        return changes, changes
    plane.remove(changes.delete)
    plane.install(changes.put)
    return changes, plane.differences(want)
