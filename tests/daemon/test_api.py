"""The control API over its real socket, with a node that is made up, through the client that the command uses."""

import asyncio
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import uvloop

from holdfast.cli.client import Client, CommandRefused, NodeUnreachable
from holdfast.daemon.api import SCHEMA_PATH, Server, bind, server
from holdfast.daemon.views import (
    NodeView,
    RecoveryView,
    SessionDetail,
    SessionView,
    SubscriberView,
    TunnelView,
)
from holdfast.records import session_key


class PretendNode:
    """1,234 sessions in one tunnel, one subscriber called `ann@example.net`; notes every command."""

    def __init__(self) -> None:
        self.keys = [session_key(17, i) for i in range(1, 1235)]
        self.commands: list[tuple[object, ...]] = []

    def node(self) -> NodeView:
        return NodeView(
            name="lns1", role="lns", version="0", pid=1, address="0.0.0.0", port=1701,
            started_utc_us=0, tunnels=1, sessions=len(self.keys), recovering=0, journal="writable",
        )  # fmt: skip

    def counters(self) -> dict[str, int]:
        return {"rx_control": 7}

    def tunnel_ids(self) -> Iterable[int]:
        return [17]

    def tunnel(self, tunnel_id: int) -> TunnelView | None:
        return TunnelView(
            id=tunnel_id, peer_id=9, peer_name="lac1", peer_host_name="lac1", peer_address="192.0.2.1",
            peer_port=1701, side="lns", state="established", initiator=False, sessions=len(self.keys),
        )  # fmt: skip

    def session_keys(self) -> Iterable[int]:
        return self.keys

    def session(self, key: int) -> SessionView | None:
        if key not in self.keys:
            return None
        return SessionView(
            key=key, tunnel_id=17, id=key & 0xFFFF, peer_id=1, peer_name="lac1", side="lns", state="established"
        )  # fmt: skip

    def session_detail(self, key: int) -> SessionDetail | None:
        view = self.session(key)
        return None if view is None else SessionDetail(session=view, tunnel=self.tunnel(17))

    def subscriber_names(self) -> Iterable[str]:
        return ["ann@example.net"]

    def subscriber(self, name: str) -> SubscriberView | None:
        return SubscriberView(name=name, tunnel="lns1", auto=True, state="up")

    def recoveries(self) -> Iterable[RecoveryView]:
        return [
            RecoveryView(
                tunnel_id=17, peer_name="lac1", role="remote-endpoint", method="rfc4951",
                state="synchronised", started_utc_us=1,
            )
        ]  # fmt: skip

    def clear_session(self, key: int) -> bool:
        self.commands.append(("clear_session", key))
        return key in self.keys

    def clear_tunnel(self, tunnel_id: int) -> bool:
        self.commands.append(("clear_tunnel", tunnel_id))
        return tunnel_id == 17

    def subscriber_up(self, name: str) -> bool:
        self.commands.append(("subscriber_up", name))
        return name == "ann@example.net"

    def subscriber_down(self, name: str) -> bool:
        self.commands.append(("subscriber_down", name))
        return name == "ann@example.net"

    def stop(self, teardown: bool) -> None:
        self.commands.append(("stop", teardown))


class Host:
    """Serves a node's API from an event loop in a thread of its own, as the daemon does from its one loop."""

    def __init__(self, node: PretendNode, path: Path) -> None:
        self._path = path
        self._server: Server = server(node)
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._listening.wait(10)

    def _run(self) -> None:
        async def serve() -> None:
            sock = bind(str(self._path))
            self._listening.set()
            await self._server.serve(sockets=[sock])

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture
def node() -> PretendNode:
    return PretendNode()


@pytest.fixture
def path(tmp_path: Path, node: PretendNode) -> Iterator[Path]:
    host = Host(node, tmp_path / "control.sock")
    yield tmp_path / "control.sock"
    host.stop()


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    client = Client(str(path))
    yield client
    client.close()


def test_the_socket_is_its_owners_only(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_long_list_comes_in_pages_and_complete(client: Client, node: PretendNode) -> None:
    assert len(client.call("GET", "sessions", limit=1000)["items"]) == 1000
    assert [row["key"] for row in client.rows("sessions")] == node.keys


def test_rows_that_go_while_a_list_is_read_shift_no_others(client: Client, node: PretendNode) -> None:
    rows = client.rows("sessions", limit=100)
    read = [next(rows)["key"] for _ in range(100)]
    gone = node.keys.pop(150)
    node.keys.pop(0)
    read += [row["key"] for row in rows]
    assert read == [session_key(17, 1), *(k for k in node.keys if k != gone)]


def test_an_unknown_cursor_is_refused(client: Client) -> None:
    with pytest.raises(CommandRefused, match="from its beginning") as refused:
        client.call("GET", "sessions", after="99.500")
    assert refused.value.status == 410


def test_every_list_and_the_counters(client: Client) -> None:
    assert client.call("GET", "node")["name"] == "lns1"
    assert [row["id"] for row in client.rows("tunnels")] == [17]
    assert [row["name"] for row in client.rows("subscribers")] == ["ann@example.net"]
    assert [row["state"] for row in client.rows("recoveries")] == ["synchronised"]
    assert client.call("GET", "counters") == {"rx_control": 7}


def test_one_session_in_full(client: Client, node: PretendNode) -> None:
    detail = client.call("GET", "sessions", str(node.keys[0]))
    assert detail["session"]["id"] == 1
    assert detail["tunnel"]["peer_name"] == "lac1"


def test_commands_reach_the_node(client: Client, node: PretendNode) -> None:
    client.call("DELETE", "sessions", str(node.keys[0]))
    client.call("DELETE", "tunnels", "17")
    client.call("POST", "subscribers", "ann@example.net", "up")
    client.call("POST", "subscribers", "ann@example.net", "down")
    client.call("POST", "stop", teardown="true")
    assert node.commands == [
        ("clear_session", node.keys[0]),
        ("clear_tunnel", 17),
        ("subscriber_up", "ann@example.net"),
        ("subscriber_down", "ann@example.net"),
        ("stop", True),
    ]


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("GET", ("sessions", "5")),
        ("DELETE", ("sessions", "5")),
        ("DELETE", ("tunnels", "5")),
        ("POST", ("subscribers", "nobody", "up")),
        ("GET", ("nonsense",)),
    ],
)
def test_what_does_not_exist_is_404(client: Client, method: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(CommandRefused) as refused:
        client.call(method, *parts)
    assert refused.value.status == 404


def test_it_describes_itself(client: Client) -> None:
    described = client.call("GET", *SCHEMA_PATH.removeprefix("/v1/").split("/"), "openapi.json")
    assert {"/v1/sessions", "/v1/tunnels", "/v1/stop"} <= set(described["paths"])


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    bind(str(tmp_path / "s")).close()
    with pytest.raises(NodeUnreachable, match="no node is running"):
        Client(str(tmp_path / "s")).call("GET", "node")
    sock = bind(str(tmp_path / "s"))
    sock.close()
