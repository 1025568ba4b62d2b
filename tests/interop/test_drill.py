"""The drill in front of other people's daemons: nobody notices, the download is complete, ids and pppd are the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import pytest

from holdfast.lab import drill, netns
from holdfast.lab.peers import l2tpns
from holdfast.lab.report import SCHEMA_FILE
from interop.rig import OUTSIDE

NO_L2TPNS = l2tpns.unavailable() or netns.unavailable()
pytestmark = pytest.mark.drill
in_the_kernel = pytest.mark.skipif(OUTSIDE is not None, reason=str(OUTSIDE))


def assert_unnoticed(file: Path, peer: str, kill: str) -> Any:
    report = json.loads(file.read_bytes())
    jsonschema.validate(report, json.loads(SCHEMA_FILE.read_bytes()))
    assert report["result"] == "ok"
    assert (report["peer"], report["kill"], report["peer_offers_rfc4951"]) == (peer, kill, False)
    assert report["recovered_by"] == {"silent": 1}
    assert all(s["before"] == s["after"] for s in report["subscribers"])
    assert report["tcp"]["complete"] and report["ping"]["received"]
    assert report["noticed"]["lines"] == []
    return report


@in_the_kernel
def test_our_lac_is_killed_in_front_of_xl2tpd(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert drill.main(["--peer", "xl2tpd", "--kill", "lac", "--json", str(file)]) == 0
    assert assert_unnoticed(file, "xl2tpd", "lac")["subscribers"][0]["before"]["pppd"]


@in_the_kernel
def test_our_lns_is_killed_in_front_of_xl2tpd_in_a_kernel_that_passes_for_the_machines_own() -> None:
    namespaces = sorted(os.listdir("/run/netns"))
    environment = {name: value for name, value in os.environ.items() if name != "holdfast_output"}
    with TemporaryDirectory() as directory:  # not below /run, where the drill has its own
        file = Path(directory) / "report.json"
        argv = ["--peer", "xl2tpd", "--json", str(file)]
        subprocess.run(
            [sys.executable, "-m", "holdfast", "drill", "restart", *argv],
            env=environment,
            check=True,
            timeout=120,
        )
        report = assert_unnoticed(file, "xl2tpd", "lns")
    assert report["kernel"] == "host"
    assert sorted(os.listdir("/run/netns")) == namespaces


@pytest.mark.skipif(NO_L2TPNS is not None, reason=str(NO_L2TPNS))
def test_our_lac_is_killed_in_front_of_l2tpns(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert drill.main(["--peer", "l2tpns", "--sessions", "5", "--json", str(file)]) == 0
    assert_unnoticed(file, "l2tpns", "lac")
