"""What a link does in each phase of RFC 1661 3.2, as functions on its state.

A phase knows those that follow it: Establish, Authenticate, Network; every one knows Terminate, which knows none.
"""
