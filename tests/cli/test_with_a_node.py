"""The command with a real node: stopping it, and looking into what it recorded."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.processes import NodeProcess, config_text
from holdfast.cli.main import main


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "holdfast.toml"
    file.write_text(config_text(tmp_path, 0).replace("port = 0", "port = 21799"))
    return file


@pytest.fixture
def node(config: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(config)
    node.wait_for("node.api")
    yield node
    node.close()


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code if isinstance(ended.value.code, int) else 0


@pytest.mark.parametrize("options", [(), ("--teardown",)])
def test_stop_returns_when_the_node_has_ended(
    node: NodeProcess, config: Path, options: tuple[str, ...]
) -> None:
    assert status("stop", *options, "-c", str(config)) == 0
    assert node.end()[0] == 0
    assert status("show", "node", "-c", str(config)) == 3


def test_the_journal_can_be_seen_beside_a_running_node(
    node: NodeProcess, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert status("state", "show", "--json", "-c", str(config)) == 0
    assert json.loads(capfd.readouterr().out)["owner_pid"] == node.pid
    assert status("state", "verify", "-c", str(config)) == 0
    assert "all is well" in capfd.readouterr().out
    assert status("state", "export", "-c", str(config)) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[0])["kind"] == "journal"


def test_without_a_journal_state_says_so(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert status("state", "show", "-c", str(config)) == 1
    assert "journal.db" in capfd.readouterr().err
