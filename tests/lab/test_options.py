"""The drill's command line."""

import pytest

from holdfast.lab.options import parse


def test_defaults_are_the_demo() -> None:
    options = parse([])
    assert (options.sessions, options.tunnels, options.kill, options.repeat) == (100, 4, "lns", 1)
    assert options.pps == 2000


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
        ["--stagger", "50"],
        ["--stagger", "50", "--kill", "lns"],
    ],
)
def test_what_makes_no_drill_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(argv)
    assert refused.value.code == 2
    assert argv[0] in capsys.readouterr().err or "--stagger" in argv
