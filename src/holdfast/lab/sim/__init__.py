"""The simulator: two nodes, a bad network and crashes in virtual time, repeatable from a seed.

`world.simulate(seed)` runs one history of the control protocol and returns what is wrong at its end;
`node_world.simulate_nodes(seed)` does so with whole nodes, and `sweep` crashes them at every effect boundary.
`python -m holdfast.lab.sim [--nodes]` runs many histories.
"""
