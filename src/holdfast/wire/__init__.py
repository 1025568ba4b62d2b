"""L2TP on the wire: headers, AVPs, messages, hiding, authentication digests, result codes, PPP frames.

Bytes to values and back, and which of them belong together; nothing here remembers anything. A decoder raises
`Malformed` and nothing else, whatever it is given.
"""
