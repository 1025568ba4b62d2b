"""`holdfast drill restart`: kill a node under traffic, start it again, and say what became of every session.
`holdfast drill upgrade`: the same, from an installation with other eBPF programs.

A round: traffic flows on every session; a few more sessions are being set up and torn down, where both sides are ours;
SIGKILL; start again at once; wait until the node is synchronised and every session has data; compare both sides'
sessions with what they were. Exit status: 0 only if every round's result is "ok"; 1 if not; 2 if there can be no
drill here.

`command` is the command line, `laboratory` the place (`elsewhere` finds another) with its `wires`, `sides` who takes
part, `installation` what an upgrade brings, `scene` all of them up, `round` what happens to them.
"""

from holdfast.lab.drill.command import main

__all__ = ["main"]
