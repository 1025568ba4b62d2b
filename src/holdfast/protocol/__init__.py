"""The L2TP control protocol: control channel, tunnels, sessions, RFC 4951 failover. No I/O, no clock, no chance.

`endpoint.Endpoint` is the way in: datagrams, timers and commands go in with `now`, effects come out.
"""
