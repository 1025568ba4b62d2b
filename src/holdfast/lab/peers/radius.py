"""A RADIUS server that says yes (RFC 2865, 2866): just enough for a daemon that authenticates nowhere else.

PAP and CHAP are checked for real; accounting is acknowledged and forgotten. It is a process of its own and no thread,
so that its caller may fork.
"""

import hmac
import socket
import struct
from collections.abc import Iterator, Mapping
from hashlib import md5
from pathlib import Path
from typing import NoReturn

from holdfast.lab.process import fork, stop

_REQUEST, _ACCEPT, _REJECT, _ACCOUNTING, _ACCOUNTED = 1, 2, 3, 4, 5
_USER_NAME, _USER_PASSWORD, _CHAP_PASSWORD, _FRAMED_IP, _CHAP_CHALLENGE = 1, 2, 3, 8, 60
_HEADER = struct.Struct(">BBH16s")


class User:
    """Who may connect, and with which address."""

    def __init__(self, password: str, address: str) -> None:
        self.password = password.encode()
        self.address = socket.inet_aton(address)


class RadiusServer:
    """Answers on one UDP port of a namespace from soon after construction until `close`."""

    def __init__(
        self, namespace: str, address: tuple[str, int], secret: str, users: Mapping[str, User], log: Path
    ) -> None:
        """What should not have happened is appended to `log`."""
        self._address = address
        self._secret = secret.encode()
        self._users = {name.encode(): user for name, user in users.items()}
        self._process = fork(self._serve, namespace, log)

    def close(self) -> None:
        """Stop answering."""
        stop(self._process)

    def _serve(self) -> NoReturn:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(self._address)
            while True:
                request, client = sock.recvfrom(4096)
                if answer := self._answer(request):
                    sock.sendto(answer, client)

    def _answer(self, request: bytes) -> bytes:
        code, number, length, authenticator = _HEADER.unpack_from(request)
        if code == _ACCOUNTING:
            return self._reply(_ACCOUNTED, number, authenticator, b"")
        if code != _REQUEST:
            return b""
        attributes = dict(_attributes(request[_HEADER.size : length]))
        user = self._users.get(attributes.get(_USER_NAME, b""))
        if user is None or not self._proves(user, attributes, authenticator):
            return self._reply(_REJECT, number, authenticator, b"")
        return self._reply(_ACCEPT, number, authenticator, bytes((_FRAMED_IP, 6)) + user.address)

    def _proves(self, user: User, attributes: Mapping[int, bytes], authenticator: bytes) -> bool:
        """PAP (RFC 2865 5.2) or CHAP (5.3): whether the request holds the user's password."""
        chap = attributes.get(_CHAP_PASSWORD)
        if chap is None:
            return self._open(attributes.get(_USER_PASSWORD, b""), authenticator) == user.password
        challenge = attributes.get(_CHAP_CHALLENGE, authenticator)
        return hmac.compare_digest(chap[1:], md5(chap[:1] + user.password + challenge).digest())

    def _open(self, hidden: bytes, authenticator: bytes) -> bytes:
        plain, previous = b"", authenticator
        for at in range(0, len(hidden), 16):
            block = hidden[at : at + 16]
            key = md5(self._secret + previous).digest()
            plain += bytes(a ^ b for a, b in zip(block, key, strict=False))
            previous = block
        return plain.rstrip(b"\0")

    def _reply(self, code: int, number: int, authenticator: bytes, attributes: bytes) -> bytes:
        head = struct.pack(">BBH", code, number, _HEADER.size + len(attributes))
        digest = md5(head + authenticator + attributes + self._secret).digest()
        return head + digest + attributes


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 2 and data[1] >= 2:
        yield data[0], data[2 : data[1]]
        data = data[data[1] :]
