"""The client of the control API: JSON over HTTP over the node's UNIX socket, with the standard library only."""

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from holdfast.core.errors import LocalError

TIMEOUT_S = 10.0
_PIECE = 1 << 16
_UCRED = struct.Struct("3i")


class NodeUnreachable(LocalError):
    """Nobody answers at the control socket."""


class CommandRefused(LocalError):
    """The node answered with an error: its HTTP `status` and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason

    def __str__(self) -> str:
        return self.reason


class _UnixConnection(HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """One node, found by the path of its control socket."""

    def __init__(self, path: str, timeout_s: float = TIMEOUT_S) -> None:
        self.path = path
        self._connection = _UnixConnection(path, timeout_s)

    def call(self, method: str, *path: str, **query: str | int) -> Any:
        """One request: `path` in parts, which are quoted. Returns the decoded JSON, None for an empty answer.

        Raises NodeUnreachable, CommandRefused.
        """
        try:
            self._connection.request(method, _target(path, query))
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as e:
            self._connection.close()
            raise NodeUnreachable(self._why(e)) from None
        if response.status >= 400:
            raise CommandRefused(response.status, _reason(body, response.reason))
        return msgspec.json.decode(body) if body else None

    def stream(self, *path: str, **query: str | int) -> Iterator[bytes]:
        """A long answer in pieces, as they come, without an end of its own. Raises as `call` does."""
        try:
            self._connection.request("GET", _target(path, query))
            response = self._connection.getresponse()
            if response.status >= 400:
                raise CommandRefused(response.status, _reason(response.read(), response.reason))
            while piece := response.read1(_PIECE):
                yield piece
        except (OSError, HTTPException) as e:
            raise NodeUnreachable(self._why(e)) from None
        finally:
            self._connection.close()

    def rows(self, *path: str, limit: int = 500) -> Iterator[dict[str, Any]]:
        """Every row of a list, page by page. Raises as `call` does."""
        after = ""
        while True:
            page = self.call("GET", *path, after=after, limit=limit)
            yield from page["items"]
            after = page["next"]
            if not after:
                return

    def process(self) -> int | None:
        """A pidfd of the node's process, which is readable once it has ended; None if we cannot see the process.

        Raises NodeUnreachable.
        """
        try:
            self._connection.connect()
            credentials = self._connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        except OSError as e:
            raise NodeUnreachable(self._why(e)) from None
        pid, _, _ = _UCRED.unpack(credentials)
        try:
            return os.pidfd_open(pid)
        except OSError:  # in another PID namespace it has the number 0
            return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _why(self, error: Exception) -> str:
        match error:
            case FileNotFoundError() | ConnectionRefusedError():
                return (
                    f"no node is running at {self.path}: start it with `holdfast run` (it answers some seconds after its"
                    " start), or give -c or --socket"
                )
            case PermissionError():
                return f"{self.path} belongs to another user: run this as the user of the node"
            case TimeoutError():
                return f"the node at {self.path} does not answer: see its log"
            case _:
                return f"the node at {self.path} broke off the connection: {error}"


def _target(path: tuple[str, ...], query: Mapping[str, str | int]) -> str:
    target = "/v1/" + "/".join(quote(part, safe="") for part in path)
    return f"{target}?{urlencode(query)}" if query else target


def _reason(body: bytes, fallback: str) -> str:
    try:
        return str(msgspec.json.decode(body)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return fallback
