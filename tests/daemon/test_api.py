"""The control API over its real socket, with a node that is made up, through the client that the command uses."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.pretend import Host, PretendNode
from holdfast.cli.client import Client, CommandRefused, NodeUnreachable
from holdfast.daemon.api import SCHEMA_PATH, bind
from holdfast.records import session_key


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
    assert [row["vendor"] for row in client.rows("peers")] == ["ven\x1b[31mdor"] * 2
    assert client.call("GET", "counters") == {"rx_control": 7}


def test_why_has_the_facts_and_the_words(client: Client) -> None:
    why = client.call("GET", "tunnels", "17", "why")
    assert why["state"] == "established" and why["recovery"] is None
    assert why["text"][0].startswith("Tunnel 17")
    with pytest.raises(CommandRefused, match="`holdfast show tunnels`") as refused:
        client.call("GET", "tunnels", "5", "why")
    assert refused.value.status == 404


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
    paths = {"/v1/sessions", "/v1/tunnels", "/v1/peers", "/v1/tunnels/{tunnel_id}/why", "/v1/stop"}
    assert paths <= set(described["paths"])
    assert {"PeerView", "WhyView", "ChoiceView", "StepView"} <= set(described["components"]["schemas"])


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    bind(str(tmp_path / "s")).close()
    with pytest.raises(NodeUnreachable, match="no node is running"):
        Client(str(tmp_path / "s")).call("GET", "node")
    sock = bind(str(tmp_path / "s"))
    sock.close()
