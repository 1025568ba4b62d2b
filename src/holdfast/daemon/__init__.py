"""The node as a process: sockets, clock, effects, configuration, API. It decides nothing."""
