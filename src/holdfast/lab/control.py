"""The lab's client of a node's control API: HTTP over its UNIX socket, blocking, one connection per request."""

import http.client
import socket
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from holdfast.core.errors import LocalError
from holdfast.daemon.views import SessionDetail, SessionView, SubscriberView, TunnelView

T = TypeVar("T")

_PAGE = 1000


class ControlError(LocalError):
    """A node's control API refused a request or did not answer."""


class NotThere(ControlError):
    """What was asked for does not exist, or no longer."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Control:
    """One node's control API, by the path of its socket. Methods raise ControlError."""

    def __init__(self, path: str, timeout_s: float = 10.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def tunnels(self) -> list[TunnelView]:
        """All tunnels."""
        return self._list("tunnels", TunnelView)

    def sessions(self) -> list[SessionView]:
        """All sessions."""
        return self._list("sessions", SessionView)

    def session(self, key: int) -> SessionDetail | None:
        """All about one session, by its session key; None if there is none."""
        try:
            return msgspec.convert(self._request("GET", f"/v1/sessions/{key}"), SessionDetail)
        except NotThere:
            return None

    def subscribers(self) -> list[SubscriberView]:
        """All subscribers that the node runs."""
        return self._list("subscribers", SubscriberView)

    def counters(self) -> dict[str, int]:
        """The node's counters, by name."""
        return msgspec.convert(self._request("GET", "/v1/counters"), dict[str, int])

    def subscriber(self, name: str, command: str) -> None:
        """Bring a subscriber "up" or "down"."""
        self._request("POST", f"/v1/subscribers/{quote(name)}/{command}")

    def clear_session(self, key: int) -> None:
        """End a session, by its session key."""
        self._request("DELETE", f"/v1/sessions/{key}")

    def clear_tunnel(self, tunnel_id: int) -> None:
        """End a tunnel and its sessions."""
        self._request("DELETE", f"/v1/tunnels/{tunnel_id}")

    def stop(self, *, teardown: bool = False) -> None:
        """Stop the node; with `teardown` its sessions and all it has set up go with it."""
        self._request("POST", f"/v1/stop?teardown={str(teardown).lower()}")

    def prepare(self, name: str, command: str) -> "Shot":
        """The same command, connected but not yet sent: for the last moment before a kill."""
        return Shot(self._path, f"POST /v1/subscribers/{quote(name)}/{command}")

    def _list(self, what: str, row: type[T]) -> list[T]:
        rows: list[T] = []
        query: Mapping[str, object] = {"limit": _PAGE}
        while True:
            page = self._request("GET", f"/v1/{what}?{urlencode(query)}")
            rows += [msgspec.convert(item, row) for item in page["items"]]
            if not (after := page.get("next")):
                return rows
            query = {"limit": _PAGE, "after": after}

    def _request(self, method: str, path: str) -> Any:
        connection = _Connection(self._path, self._timeout_s)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as e:
            raise ControlError(f"{method} {path}: {e!r}") from e
        finally:
            connection.close()
        if answer.status >= 400:
            error = NotThere if answer.status == 404 else ControlError
            raise error(f"{method} {path}: {answer.status} {body[:300].decode(errors='replace')}")
        return msgspec.json.decode(body) if body else None


class Shot:
    """A request whose answer nobody waits for."""

    def __init__(self, path: str, request: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.connect(path)
        self._request = f"{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()

    def fire(self) -> None:
        """Send it."""
        self._sock.sendall(self._request)

    def close(self) -> None:
        """Hang up."""
        self._sock.close()
