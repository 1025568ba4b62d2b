"""The drills as end-to-end tests, small: 20 sessions, each node killed, both killed; the capture read by tshark; an LNS
whose data plane is in the kernel, killed and upgraded.
"""

import errno
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from holdfast.dataplane.ebpf import features, syscall
from holdfast.lab import drill, netns
from holdfast.lab.options import Drill
from holdfast.lab.report import SCHEMA_FILE

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(netns.unavailable() is not None, reason=str(netns.unavailable())),
]

Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs a drill of 20 sessions in 2 tunnels; returns its exit status and its JSON report."""

    def call(*argv: str, which: Drill = "restart") -> tuple[int, Any]:
        file = tmp_path / "report.json"
        status = drill.main(["--sessions", "20", "--tunnels", "2", "--json", str(file), *argv], which)
        document = json.loads(file.read_bytes())
        jsonschema.validate(document, json.loads(SCHEMA_FILE.read_bytes()))
        return status, document

    yield call


def assert_same_sessions(report: Any) -> None:
    assert report["result"] == "ok"
    assert report["sessions_before"] == report["sessions_after"] == 20
    for changed in ("sessions_redialled", "ppp_renegotiated", "addresses_changed", "session_ids_changed"):
        assert report[changed] == 0, changed


def assert_held(report: Any) -> None:
    assert_same_sessions(report)
    for kind in ("setups", "teardowns"):
        outcome = report["in_flight"][kind]
        assert outcome["half_open"] == 0
        assert outcome["survived"] + outcome["ended_clean"] == 5
    assert report["recovered_by"] == {"rfc4951": 2}
    assert 0 < report["data_back_ms"]["first"] <= report["data_back_ms"]["all"]
    assert 0 < report["control_recovered_ms"] <= report["synchronised_ms"]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is missing")
def test_lns_killed_under_traffic_keeps_every_session_and_the_capture_is_clean(
    run: Run, tmp_path: Path
) -> None:
    pcap = tmp_path / "drill.pcap"
    status, report = run("--pcap", str(pcap))
    assert status == 0
    assert_held(report)
    assert list(report["nodes"]) == ["lns"]
    assert count(pcap, "l2tp.avp.message_type == 1") >= 4, "SCCRQ of 2 tunnels and of their recoveries"
    assert count(pcap, "_ws.malformed") == 0


def count(pcap: Path, display_filter: str) -> int:
    argv = ["tshark", "-r", str(pcap), "-Y", display_filter]
    return len(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())


def test_lac_killed_under_traffic_keeps_every_session(run: Run) -> None:
    status, report = run("--kill", "lac")
    assert status == 0
    assert_held(report)


def test_both_killed_at_once_keep_every_session(run: Run) -> None:
    status, report = run("--kill", "both")
    assert status == 0
    assert_held(report)
    assert sorted(report["nodes"]) == ["lac", "lns"]


def test_both_killed_one_during_the_others_recovery_and_again(run: Run) -> None:
    status, document = run("--kill", "both", "--stagger", "100", "--repeat", "2")
    assert status == 0
    assert document["passed"] == 2
    for report in document["rounds"]:
        assert_held(report)


@pytest.mark.parametrize("kill", ["lns", "lac"])
def test_in_front_of_a_holdfast_without_rfc4951_every_session_is_kept_silently(run: Run, kill: str) -> None:
    status, report = run("--peer", "holdfast", "--kill", kill, "--in-flight", "0")
    assert status == 0
    assert_same_sessions(report)
    assert (report["peer"], report["peer_offers_rfc4951"]) == ("holdfast", False)
    assert report["recovered_by"] == {"silent": 2}
    assert 0 < report["control_recovered_ms"] <= report["synchronised_ms"]


NO_BPF = features.unavailable()
in_the_kernel = pytest.mark.skipif(NO_BPF is not None, reason=str(NO_BPF))


def assert_nothing_lost(report: Any, dataplane: str, method: str = "rfc4951") -> None:
    assert_same_sessions(report)
    assert (report["dataplane"], report["packets_by"]) == (dataplane, "lab")
    for direction in ("up", "down"):
        packets = report["packets"][direction]
        assert packets["sent"] == packets["received"] and packets["lost"] == 0, direction
    for end in ("lac_end", "core_end"):
        assert (report["lost_where"][end]["no_room"], report["lost_where"][end]["unsent"]) == (0, 0), end
    assert report["echoes"]["sent"] == report["echoes"]["answered"] > 0
    assert report["plane"]["rx_forwarded"] > 0 and report["plane"]["tx_forwarded"] > 0
    assert report["recovered_by"] == {method: 2}


@in_the_kernel
def test_a_plane_in_the_kernel_loses_nothing_in_front_of_a_holdfast_without_rfc4951(run: Run) -> None:
    status, report = run(
        "--dataplane", "tc", "--peer", "holdfast", "--traffic-pps", "2000", "--in-flight", "0"
    )
    assert status == 0
    assert_nothing_lost(report, "tc", "silent")


@in_the_kernel
@pytest.mark.parametrize("dataplane", ["tc", "xdp"])
def test_a_plane_in_the_kernel_loses_nothing_while_its_daemon_is_killed_again_and_again(
    run: Run, dataplane: str
) -> None:
    status, report = run("--dataplane", dataplane, "--traffic-pps", "2000", "--kills", "3")
    assert status == 0
    assert_nothing_lost(report, dataplane)
    assert (report["drill"], report["by"], report["kills"]) == ("restart", "kill", 3)
    assert not report["programs_replaced"]


@in_the_kernel
@pytest.mark.parametrize(("dataplane", "by"), [("tc", "stop"), ("xdp", "kill")])
def test_an_upgrade_replaces_the_programs_there_and_back_and_loses_nothing(
    run: Run, dataplane: str, by: str
) -> None:
    status, document = run(
        "--dataplane", dataplane, "--by", by, "--traffic-pps", "2000", "--repeat", "2", which="upgrade"
    )
    assert status == 0
    for report in document["rounds"]:
        assert_nothing_lost(report, dataplane)
        assert (report["drill"], report["by"], report["programs_replaced"]) == ("upgrade", by, True)


def test_a_plane_in_user_space_is_judged_as_ever(run: Run) -> None:
    status, report = run("--dataplane", "tun")
    assert status == 0
    assert_held(report)
    assert (report["dataplane"], report["packets_by"], report["plane"]) == ("tun", "lab", {})
    assert report["packets"]["up"]["lost"] > 0
    assert report["echoes"]["answered"] < report["echoes"]["sent"]


def test_without_bpf_a_plane_in_the_kernel_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(features, "unavailable", lambda: "no bpf(2) here")
    assert drill.main(["--dataplane", "tc"]) == 2
    said = capsys.readouterr().err
    assert "--dataplane tc: no bpf(2) here" in said and "holdfast doctor" in said


@in_the_kernel
def test_a_kernel_without_tcx_links_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise syscall.BpfError("LINK_CREATE", "tcx", errno.EINVAL)

    monkeypatch.setattr(syscall, "create_link", refuse)
    assert drill.main([], "upgrade") == 2
    assert "--dataplane tc: LINK_CREATE tcx: EINVAL" in capsys.readouterr().err


def test_without_namespaces_the_drill_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(netns, "unavailable", lambda: "no namespaces here")
    assert drill.main([]) == 2
    assert "no namespaces here" in capsys.readouterr().err
