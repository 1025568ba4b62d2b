"""The benchmark of the data planes, as small as can be: every variant forwards, every figure is there."""

import msgspec
import pytest

from holdfast.dataplane.ebpf.features import unavailable as bpf_unavailable
from holdfast.lab.bench.dataplane import traffic
from holdfast.lab.bench.dataplane.__main__ import main
from holdfast.lab.bench.dataplane.result import Result, markdown, tables
from holdfast.lab.netns import unavailable


def missing() -> str | None:
    """Why it cannot run here; None if it can."""
    if not traffic.OBJECT.exists():
        return "the programs of the benchmark are not built: scripts/build-bpf (clang, libbpf-dev)"
    return unavailable() or bpf_unavailable()


REASON = missing()


@pytest.mark.netns
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_every_variant_forwards_and_every_figure_is_there(capfd: pytest.CaptureFixture[str]) -> None:
    small = ["--sizes", "64", "--sessions", "3", "--entries", "100", "--rounds", "1", "--packets", "20480"]
    status = main(
        [*small, "--repeat", "100", "--map-rounds", "1", "--only", "rates", "alone", "maps", "--json"]
    )
    out, err = capfd.readouterr()
    assert (status, err) == (0, "")
    result = msgspec.json.decode(out, type=Result)
    assert {(row.direction, row.variant) for row in result.rates} == {
        (direction, variant)
        for direction in ("up", "down")
        for variant in ("floor", "xdp", "xdp, no cache", "tc", "kernel")
    }
    assert all(row.arrived >= 0.99 for row in result.rates)
    assert len(result.figures) == 14
    assert [table.row_count for table in tables(result)] == [10, 14]
    text = markdown(result)
    assert text.count("\n| up, 64, 3 | ") == 1
    assert all(f"\n| {figure.what} | " in text for figure in result.figures)
