"""The object that the package ships is made from the sources that are here."""

import subprocess
from pathlib import Path

import pytest

from holdfast.core.errors import LocalError
from holdfast.dataplane.ebpf.shipped import NotBuilt, shipped

ROOT = Path(__file__).parents[3]


def test_the_object_is_made_from_these_sources() -> None:
    try:
        made_from = shipped().sources
    except LocalError as error:
        pytest.skip(str(error))
    script = "cd bpf && sha256sum -- *.c *.h | sha256sum | cut -d' ' -f1"
    sources = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert made_from == sources.strip(), "the sources have changed since: scripts/build-bpf"


def test_an_installation_without_programs_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NotBuilt, match="clang"):
        shipped(tmp_path / "holdfast.bpf.o")
