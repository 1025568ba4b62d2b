"""The systemd unit in packaging/."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "packaging" / "holdfast.service"


class UnitFile(configparser.RawConfigParser):
    """systemd's keys are as they are written."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = UNIT.read_text().replace("/opt/holdfast/bin/holdfast run", "/bin/true run")
    text = text.replace("User=holdfast", "User=root").replace("Group=holdfast", "Group=root")
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert [line for line in verdict.stderr.splitlines() if str(unit) in line] == []
    assert verdict.returncode == 0, verdict.stderr


def test_the_unit_keeps_what_a_restart_needs() -> None:
    unit = UnitFile(strict=False)
    unit.read(UNIT)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert int(service["FileDescriptorStoreMax"]) >= 1
    assert service["StateDirectory"] == service["RuntimeDirectory"] == "holdfast"
    assert service["KillSignal"] == "SIGTERM"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
