"""The options of IPCP (RFC 1332, RFC 1877): one address per side, two name servers.

A server gives the address and keeps to it, so that a peer that renegotiates gets the same one (P-46). Van Jacobson
compression (P-43), the old IP-Addresses option (P-41), WINS servers and anything else are rejected.
"""

from typing import Final

from holdfast.ppp.packet import Code, octets, quad, split_options

ADDRESS: Final = 3
DNS: Final = (129, 131)
"""Primary and secondary name server."""

_NO_ADDRESS: Final = bytes(4)


def _option(kind: int, address: bytes) -> bytes:
    return bytes((kind, 6)) + address


class ServerOptions:
    """IPCP of the side that gives addresses."""

    __slots__ = ("_dns", "_local", "_peer")

    def __init__(self, local: str, peer: str, dns: tuple[str, ...]) -> None:
        """`local` is our own address, `peer` the subscriber's, `dns` up to two name servers for it."""
        self._local = _option(ADDRESS, octets(local)) if local else b""
        self._peer = _option(ADDRESS, octets(peer))
        self._dns = {kind: _option(kind, octets(server)) for kind, server in zip(DNS, dns, strict=False)}

    def request(self) -> bytes:
        """Our own address."""
        return self._local

    def judge(self, options: bytes, final: bool) -> tuple[Code, bytes]:
        """The peer's address is the one assigned, named by it or else appended to a Nak (P-40)."""
        rejects: list[bytes] = []
        naks: list[bytes] = []
        named = False
        for option in split_options(options):
            kind = option[0]
            if kind == ADDRESS:
                named = True
                wanted = self._peer
            elif kind in self._dns:
                wanted = self._dns[kind]
            else:
                rejects.append(option)
                continue
            if option == wanted:
                continue
            if final:
                rejects.append(option)
            else:
                naks.append(wanted)
        if not named and not final:
            naks.append(self._peer)
        if rejects:
            return Code.CONFIGURE_REJECT, b"".join(rejects)
        if naks:
            return Code.CONFIGURE_NAK, b"".join(naks)
        return Code.CONFIGURE_ACK, options

    def naked(self, options: list[bytes]) -> bool:
        """Our address is not up for discussion: it is asked for again, within the bound on Naks."""
        return True

    def rejected(self, options: list[bytes]) -> bool:
        """The peer need not know our address."""
        self._local = b""
        return True


class ClientOptions:
    """IPCP of the side that asks for an address. `local`, `peer` and `dns` are what it has learned."""

    __slots__ = ("_asked", "peer")

    def __init__(self, local: str, dns: tuple[str, ...] = ()) -> None:
        """`local` and `dns` are what to ask for: "" and () for anything, or what the session had before."""
        self._asked = {ADDRESS: octets(local)}
        for i, kind in enumerate(DNS):
            self._asked[kind] = octets(dns[i]) if i < len(dns) else _NO_ADDRESS
        self.peer = ""

    @property
    def local(self) -> str:
        """Our address; "" while there is none."""
        address = self._asked.get(ADDRESS, _NO_ADDRESS)
        return quad(address) if address != _NO_ADDRESS else ""

    @property
    def dns(self) -> tuple[str, ...]:
        """The name servers given to us."""
        given = (self._asked.get(kind, _NO_ADDRESS) for kind in DNS)
        return tuple(quad(address) for address in given if address != _NO_ADDRESS)

    def request(self) -> bytes:
        """An address and name servers; 0.0.0.0 asks for whatever the server has."""
        return b"".join(_option(kind, address) for kind, address in self._asked.items())

    def judge(self, options: bytes, final: bool) -> tuple[Code, bytes]:
        """Any address of the server's own is good."""
        rejects: list[bytes] = []
        peer = ""
        for option in split_options(options):
            if option[0] == ADDRESS and len(option) == 6 and option[2:] != _NO_ADDRESS:
                peer = quad(option[2:])
            else:
                rejects.append(option)
        if rejects:
            return Code.CONFIGURE_REJECT, b"".join(rejects)
        self.peer = peer
        return Code.CONFIGURE_ACK, options

    def naked(self, options: list[bytes]) -> bool:
        """Take the addresses that the server suggests."""
        for option in options:
            if option[0] in self._asked and len(option) == 6:
                self._asked[option[0]] = option[2:]
        return True

    def rejected(self, options: list[bytes]) -> bool:
        """Name servers can be done without, an address cannot."""
        for option in options:
            self._asked.pop(option[0], None)
        return ADDRESS in self._asked
