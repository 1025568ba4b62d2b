"""PPP for one session, server or client: LCP, authentication, IPCP. No tunnel, no I/O, no clock in here.

`link.Link` is the way in; `config`, `effects` and `core.auth` are what it is told and what it says. What a link is, is
in `state`; what it does, in `phases`.
"""
