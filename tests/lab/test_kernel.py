"""Throw-away kernels, where there can be none; `make test-interop` is their test where there can."""

from pathlib import Path

import pytest

from holdfast.lab.kernel import uml
from holdfast.lab.kernel.__main__ import main
from holdfast.lab.peers import PeerFailed, xl2tpd


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no program installed."""
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.usefixtures("bare")
def test_what_is_missing_is_named_with_its_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(uml.KernelFailed, match="user-mode-linux"):
        uml.run(["true"], tmp_path, uml.Kernel(), lambda said: None)
    assert main(["--output", str(tmp_path), "--", "true"]) == 125
    assert "user-mode-linux" in capsys.readouterr().err


def test_pppd_of_this_machine_is_left_alone() -> None:
    with pytest.raises(PeerFailed):
        xl2tpd.prepare([])
