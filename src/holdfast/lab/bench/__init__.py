"""The benchmark suite: `python -m holdfast.lab.bench` measures a node in network namespaces, prints
Markdown rows.

The node has one core to itself and the generators share the rest, so that a figure is that of one core.
Every row says what it was held against and whether the generator was the limit.
"""
