"""`holdfast doctor`: what it finds, how bad that is, and what it does not touch."""

from pathlib import Path

import pytest

from holdfast.daemon import planes
from holdfast.daemon.config import Config, ConfigError, parse
from holdfast.daemon.doctor import Check, examine, examine_machine

CAPABLE = "CapEff:\t000001ffffffffff\n"
INCAPABLE = "CapEff:\t0000000000000000\n"


def config(kind: str, *, role: str = "lns", address: str = "127.0.0.1", run_dir: str = "/nowhere") -> Config:
    text = f"""
[node]
name = "node"
role = "{role}"
[paths]
run_dir = "{run_dir}"
[listen]
address = "{address}"
[dataplane]
kind = "{kind}"
interfaces = ["lo", "missing"]
"""
    return parse(text, "test")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of our own: forwarding on, strict reverse-path filter on lo."""
    for path, value in {
        "self/status": CAPABLE,
        "sys/net/ipv4/ip_forward": "1",
        "sys/net/ipv4/conf/all/rp_filter": "0",
        "sys/net/ipv4/conf/lo/rp_filter": "1",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(value)
    return tmp_path


def found(checks: list[Check], name: str) -> Check:
    (check,) = (check for check in checks if check.name == name)
    return check


def test_what_is_not_well_has_a_remedy(proc: Path) -> None:
    (proc / "self/status").write_text(INCAPABLE)
    (proc / "sys/net/ipv4/ip_forward").write_text("0")
    checks = examine(config("ebpf"), proc)
    assert found(checks, "ip_forward").remedy == "sysctl -w net.ipv4.ip_forward=1"
    assert found(checks, "rp_filter").remedy == "sysctl -w net.ipv4.conf.lo.rp_filter=2"
    assert found(checks, "interface missing").state == "warning"
    assert all(check.remedy or check.state == "ok" or check.name == "bpf" for check in checks)


@pytest.mark.parametrize(("kind", "state"), [("ebpf", "error"), ("auto", "warning"), ("tun", "ok")])
def test_a_lack_is_as_bad_as_the_configuration_insists(kind: str, state: str, proc: Path) -> None:
    (proc / "self/status").write_text(INCAPABLE)
    checks = examine(config(kind), proc)
    assert found(checks, "CAP_BPF").state == state
    assert found(checks, "CAP_NET_ADMIN").state == "error"


def test_a_node_that_forwards_nothing_needs_nothing(proc: Path) -> None:
    (proc / "self/status").write_text(INCAPABLE)
    assert all(check.state == "ok" for check in examine(config("null"), proc))


def test_of_reverse_path_filters_it_says_only_what_is_so_and_matters(proc: Path) -> None:
    assert found(examine(config("auto"), proc), "rp_filter").state == "warning"
    assert "rp_filter" not in {check.name for check in examine(config("tun"), proc)}
    (proc / "sys/net/ipv4/conf/lo/rp_filter").write_text("2")
    assert found(examine(config("auto"), proc), "rp_filter").state == "ok"


def test_without_a_configuration_it_looks_at_the_machine_and_says_where_it_looked(proc: Path) -> None:
    first, *rest = examine_machine(("a.toml", "/etc/b.toml"), proc)
    assert (first.name, first.state) == ("configuration", "warning")
    assert "no a.toml and no /etc/b.toml" in first.text and "holdfast init" in first.remedy
    assert found(rest, "ip_forward").state == "ok"
    assert {"dataplane", "kernel", "libbpf"} <= {check.name for check in rest}


def test_it_makes_nothing(proc: Path, tmp_path: Path) -> None:
    examine(config("ebpf", run_dir=f"{tmp_path}/run"), proc)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("role", "address", "key"), [("lac", "127.0.0.1", "node.role"), ("lns", "0.0.0.0", "listen")]
)
def test_what_ebpf_is_not_for_is_refused_and_auto_says_why(role: str, address: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        config("ebpf", role=role, address=address)
    choice = planes.choose(config("auto", role=role, address=address))
    assert choice.kind == "tun"
    assert key in choice.why
