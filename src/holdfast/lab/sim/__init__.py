"""The simulator: two nodes, a bad network and crashes in virtual time, repeatable from a seed.

`world.simulate(seed)` runs one history and returns what is wrong at its end; `python -m holdfast.lab.sim` runs many.
"""
