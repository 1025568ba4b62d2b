"""The control API: HTTP and JSON over a UNIX socket, described by OpenAPI. The `holdfast` command is its client.

Handlers run in the event loop's thread and answer at once from what the node holds; lists come in pages, so that
none holds the loop for long. This module is imported in a thread after data flows, since its imports are slow.
"""

import os
import socket
from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol, TypeAlias

import uvicorn
from litestar import Litestar, Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from holdfast import __version__
from holdfast.core.errors import LocalError
from holdfast.daemon.listing import ListGone, Listings
from holdfast.daemon.traces import TooManyTraces, Trace
from holdfast.daemon.views import (
    NodeView,
    Page,
    PeerView,
    RecoveryView,
    SessionDetail,
    SessionView,
    SubscriberView,
    TunnelView,
    WhyView,
)
from holdfast.records.ledger import PeerKey

SCHEMA_PATH = "/v1/schema"
"""The OpenAPI description is at this path, as openapi.json."""


class Control(Protocol):
    """What the API needs of a node. Commands return False if there is no such thing."""

    def node(self) -> NodeView: ...
    def counters(self) -> dict[str, int]: ...
    def tunnel_ids(self) -> Iterable[int]: ...
    def tunnel(self, tunnel_id: int) -> TunnelView | None: ...
    def why_tunnel(self, tunnel_id: int) -> WhyView | None: ...
    def peer_keys(self) -> Iterable[PeerKey]: ...
    def peer(self, key: PeerKey) -> PeerView | None: ...
    def session_keys(self) -> Iterable[int]: ...
    def session(self, key: int) -> SessionView | None: ...
    def session_detail(self, key: int) -> SessionDetail | None: ...
    def subscriber_names(self) -> Iterable[str]: ...
    def subscriber(self, name: str) -> SubscriberView | None: ...
    def recoveries(self) -> Iterable[RecoveryView]: ...
    def trace(self, key: int, raw: bool, snaplen: int) -> Trace | None: ...
    def clear_session(self, key: int) -> bool: ...
    def clear_tunnel(self, tunnel_id: int) -> bool: ...
    def subscriber_up(self, name: str) -> bool: ...
    def subscriber_down(self, name: str) -> bool: ...
    def stop(self, teardown: bool) -> None: ...


class Held(State):
    """What handlers work on: the node, and the lists that clients are reading."""

    node: Control
    lists: Listings


After: TypeAlias = Annotated[str, QueryParameter(description='`next` of the page before, "" to begin')]
SnapLength: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=65535, description="octets of each packet at most")
]
Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=1000, description="rows of a page")]


@get("/v1/node", sync_to_thread=False)
def show_node(state: Held) -> NodeView:
    """The node as a whole."""
    return state.node.node()


@get("/v1/counters", sync_to_thread=False)
def show_counters(state: Held) -> dict[str, int]:
    """Every counter of the node, its socket, data plane and journal."""
    return state.node.counters()


@get("/v1/tunnels", sync_to_thread=False)
def list_tunnels(state: Held, after: After = "", limit: Limit = 500) -> Page[TunnelView]:
    """Control connections."""
    return state.lists.page(after, limit, state.node.tunnel_ids, state.node.tunnel)


@get("/v1/tunnels/{tunnel_id:int}/why", sync_to_thread=False)
def why_tunnel(state: Held, tunnel_id: FromPath[int]) -> WhyView:
    """How a tunnel would be recovered and why, and what its last recovery did, step by step."""
    why = state.node.why_tunnel(tunnel_id)
    if why is None:
        raise NotFoundException(
            detail=f"there is no tunnel {tunnel_id}, and no recovery of one is remembered:"
            " `holdfast show tunnels` and `holdfast show recoveries` have the ids"
        )
    return why


@get("/v1/peers", sync_to_thread=False)
def list_peers(state: Held, after: After = "", limit: Limit = 500) -> Page[PeerView]:
    """The ledger: every peer that was met, what it offers, and what experience says of it."""
    return state.lists.page(after, limit, state.node.peer_keys, state.node.peer)


@get("/v1/sessions", sync_to_thread=False)
def list_sessions(state: Held, after: After = "", limit: Limit = 500) -> Page[SessionView]:
    """Sessions."""
    return state.lists.page(after, limit, state.node.session_keys, state.node.session)


@get("/v1/sessions/{key:int}", sync_to_thread=False)
def show_session(state: Held, key: FromPath[int]) -> SessionDetail:
    """Everything known about one session, by its session key."""
    return _found(state.node.session_detail(key), "session")


@get("/v1/sessions/{key:int}/trace", media_type="application/x-ndjson")
async def trace_session(
    state: Held, key: FromPath[int], raw: FromQuery[bool] = False, snaplen: SnapLength = 65535
) -> Stream:
    """A session's packets as they pass, until the client leaves: a TracedPacket or TraceNews in JSON a line.

    They are the inner IP packets, or with `raw` the outer ones, among which are those of PPP itself.
    """
    trace = state.node.trace(key, raw, snaplen)
    if trace is None:
        raise NotFoundException(detail="there is no such session")
    return Stream(_lines(trace), media_type="application/x-ndjson")


async def _lines(trace: Trace) -> AsyncIterator[bytes]:
    try:
        while not trace.over:
            yield await trace.take()
    finally:
        trace.close()


@get("/v1/subscribers", sync_to_thread=False)
def list_subscribers(state: Held, after: After = "", limit: Limit = 500) -> Page[SubscriberView]:
    """The PPP clients that this node runs."""
    return state.lists.page(after, limit, state.node.subscriber_names, state.node.subscriber)


@get("/v1/recoveries", sync_to_thread=False)
def list_recoveries(state: Held, after: After = "", limit: Limit = 500) -> Page[RecoveryView]:
    """Recoveries that run, and the last ones that ended."""
    return state.lists.page(after, limit, state.node.recoveries, _itself)


@delete("/v1/sessions/{key:int}", sync_to_thread=False)
def clear_session(state: Held, key: FromPath[int]) -> None:
    """End one session."""
    _done(state.node.clear_session(key), "session")


@delete("/v1/tunnels/{tunnel_id:int}", sync_to_thread=False)
def clear_tunnel(state: Held, tunnel_id: FromPath[int]) -> None:
    """End a tunnel and its sessions."""
    _done(state.node.clear_tunnel(tunnel_id), "tunnel")


@post("/v1/subscribers/{name:str}/up", status_code=202, sync_to_thread=False)
def subscriber_up(state: Held, name: FromPath[str]) -> None:
    """Connect a subscriber, and keep it connected."""
    _done(state.node.subscriber_up(name), "subscriber")


@post("/v1/subscribers/{name:str}/down", status_code=202, sync_to_thread=False)
def subscriber_down(state: Held, name: FromPath[str]) -> None:
    """Disconnect a subscriber, and leave it so."""
    _done(state.node.subscriber_down(name), "subscriber")


@post("/v1/stop", status_code=202, sync_to_thread=False)
def stop(state: Held, teardown: FromQuery[bool] = False) -> None:
    """End the process. Sessions stay recorded and come back, unless `teardown` ends them with CDN and StopCCN."""
    state.node.stop(teardown)


def application(control: Control) -> Litestar:
    """The API of one node."""
    return Litestar(
        route_handlers=[
            show_node,
            show_counters,
            list_tunnels,
            why_tunnel,
            list_peers,
            list_sessions,
            show_session,
            trace_session,
            list_subscribers,
            list_recoveries,
            clear_session,
            clear_tunnel,
            subscriber_up,
            subscriber_down,
            stop,
        ],
        state=Held({"node": control, "lists": Listings()}),
        logging_config=None,
        exception_handlers={ListGone: _list_gone, TooManyTraces: _too_many_traces, LocalError: _failed},
        openapi_config=OpenAPIConfig(
            title="holdfast", version=__version__, path=SCHEMA_PATH, render_plugins=[JsonRenderPlugin()]
        ),
    )


class Server(uvicorn.Server):
    """An HTTP server that leaves signals to the process that it is part of."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are handled by the node."""
        yield


def server(control: Control) -> Server:
    """The server of a node's API, ready for `serve(sockets=[bind(path)])` on the node's event loop."""
    config = uvicorn.Config(
        application(control),
        log_config=None,
        log_level="critical",  # the node's log has a form of its own
        access_log=False,
        lifespan="off",
        http="h11",
        ws="none",
        timeout_graceful_shutdown=1,  # a client that does not read its answer must not keep the node from stopping
    )
    config.load()
    return Server(config)


def bind(path: str) -> socket.socket:
    """The listening control socket, for the owner only. One that was left behind is replaced.

    The journal's lock has already shown that no other node lives here. Raises OSError.
    """
    Path(path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    umask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(umask)
    sock.listen(64)
    return sock


def _found(row: SessionDetail | None, what: str) -> SessionDetail:
    if row is None:
        raise NotFoundException(detail=f"there is no such {what}")
    return row


def _done(done: bool, what: str) -> None:
    if not done:
        raise NotFoundException(detail=f"there is no such {what}")


def _itself(row: RecoveryView) -> RecoveryView:
    return row


def _list_gone(_: Request[object, object, State], error: ListGone) -> Response[dict[str, object]]:
    return Response({"status_code": 410, "detail": str(error)}, status_code=410)


def _too_many_traces(_: Request[object, object, State], error: TooManyTraces) -> Response[dict[str, object]]:
    return Response({"status_code": 409, "detail": str(error)}, status_code=409)


def _failed(_: Request[object, object, State], error: LocalError) -> Response[dict[str, object]]:
    return Response({"status_code": 500, "detail": str(error)}, status_code=500)
