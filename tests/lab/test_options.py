"""The drills' command lines."""

import pytest

from holdfast.lab.options import parse


def test_defaults_are_the_demo() -> None:
    options = parse([])
    assert (options.sessions, options.tunnels, options.kill, options.repeat) == (100, 4, "lns", 1)
    assert options.pps == 2000


def test_a_peer_brings_its_own_defaults() -> None:
    wanted = {"holdfast": ("lns", 100, 4, 5), "xl2tpd": ("lns", 1, 1, 0), "l2tpns": ("lac", 20, 1, 0)}
    for peer, values in wanted.items():
        options = parse(["--peer", peer])
        assert (options.kill, options.sessions, options.tunnels, options.in_flight) == values
    assert parse(["--peer", "xl2tpd", "--kill", "lac"]).kill == "lac"
    assert parse(["--peer", "holdfast", "--in-flight", "0"]).in_flight == 0


def test_a_data_plane_in_the_kernel_brings_its_own_defaults() -> None:
    for plane in ("tc", "xdp"):
        options = parse(["--dataplane", plane])
        assert (options.dataplane, options.kill, options.sessions, options.pps) == (
            plane,
            "lns",
            1000,
            20_000,
        )
        assert options.in_kernel and options.in_flight == 5
    assert parse(["--dataplane", "xdp", "--sessions", "50", "--traffic-pps", "2000"]).pps == 2000
    tun = parse(["--dataplane", "tun"])
    assert (tun.sessions, tun.pps, tun.in_kernel) == (100, 2000, False)
    assert not parse([]).in_kernel
    silent = parse(["--dataplane", "tc", "--peer", "holdfast"])
    assert (silent.sessions, silent.in_kernel) == (1000, True)
    assert silent.cast == "LNS and LAC, LAC without RFC 4951, the LNS's data plane in the kernel (tc)"


def test_an_upgrade_is_a_planned_stop_at_tc_unless_it_is_said_otherwise() -> None:
    options = parse([], "upgrade")
    assert (options.drill, options.dataplane, options.by, options.kill) == ("upgrade", "tc", "stop", "lns")
    assert (options.sessions, options.pps, options.kills) == (1000, 20_000, 1)
    assert parse(["--by", "kill", "--dataplane", "xdp"], "upgrade").by == "kill"
    assert parse([]).by == "kill"


@pytest.mark.parametrize("argv", [["--dataplane", "tun"], ["--peer", "xl2tpd"], ["--kills", "2"]])
def test_what_is_no_upgrade_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(argv, "upgrade")
    assert refused.value.code == 2
    assert argv[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--dataplane", "tc", "--peer", "xl2tpd"], "not with --peer xl2tpd"),
        (["--dataplane", "tc", "--kill", "lac"], "it is the LNS's, so --kill lns"),
        (["--dataplane", "ebpf"], "xdp"),
        (["--kills", "2", "--kill", "both"], "not with --kill both"),
        (["--dataplane", "tc", "--traffic-pps", "1000"], "at least 2000"),
        (["--peer", "l2tpns", "--kill", "lns"], "can be lac"),
        (["--peer", "xl2tpd", "--kill", "both"], "can be lns or lac"),
        (["--peer", "holdfast", "--kill", "both"], "can be lns or lac"),
        (["--peer", "xl2tpd", "--sessions", "2"], "at most 1 with --peer xl2tpd"),
        (["--peer", "l2tpns", "--sessions", "300"], "at most 200"),
        (["--peer", "l2tpns", "--tunnels", "2"], "one with --peer l2tpns"),
        (["--peer", "l2tpns", "--in-flight", "1"], "none with --peer l2tpns"),
        (["--peer", "accel-ppp"], "xl2tpd"),
        (["--json", "/nowhere/report"], "/nowhere/report: there is no such directory"),
        (["--pcap", "/nowhere/pcap"], "/nowhere/pcap: there is no such directory"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(argv)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_traffic_of_many_sessions_has_a_ceiling() -> None:
    assert parse(["--sessions", "10000", "--tunnels", "100"]).pps == 20_000


@pytest.mark.parametrize(
    "argv",
    [
        ["--sessions", "0"],
        ["--sessions", "3", "--tunnels", "4"],
        ["--sessions", "70000"],
        ["--traffic-pps", "100"],
        ["--kill", "core"],
        ["--in-flight", "-1"],
        ["--stagger", "50"],
        ["--stagger", "50", "--kill", "lns"],
    ],
)
def test_what_makes_no_drill_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(argv)
    assert refused.value.code == 2
    assert argv[0] in capsys.readouterr().err or "--stagger" in argv
