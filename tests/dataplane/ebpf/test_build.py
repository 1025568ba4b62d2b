"""The objects that the package ships are made from the sources that are here."""

import tomllib
from hashlib import sha256
from pathlib import Path

import pytest

from holdfast.core.errors import LocalError
from holdfast.dataplane.ebpf.shipped import OBJECT, NotBuilt, shipped
from holdfast.lab.bench.dataplane import traffic

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("directory", "made"), [("bpf", OBJECT), ("bpf/bench", traffic.OBJECT)])
def test_the_object_is_made_from_these_sources(directory: str, made: Path) -> None:
    try:
        made_from = shipped(made).sources
    except LocalError as error:
        pytest.skip(str(error))
    sources = sorted((ROOT / directory).glob("*.[ch]"), key=lambda path: path.name)
    lines = (f"{sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sources)
    expected = sha256("".join(lines).encode()).hexdigest()
    assert made_from == expected, "the sources have changed since: scripts/build-bpf"


def test_the_package_takes_along_what_is_built() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = declared["tool"]["setuptools"]["package-data"]["holdfast"]
    package = ROOT / "src" / "holdfast"
    taken = {path for pattern in patterns for path in package.glob(pattern)}
    assert taken >= {*package.rglob("*.bpf.o"), *(package / "dataplane").rglob("*.sums")}


def test_an_installation_without_programs_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NotBuilt, match="clang"):
        shipped(tmp_path / "holdfast.bpf.o")
