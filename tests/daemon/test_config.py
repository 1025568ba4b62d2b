"""Configuration: read, refused with the key and what is valid, checked, written."""

import re
import stat
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from holdfast.daemon.config import Config, ConfigError, load, parse, template
from holdfast.daemon.config_advice import check
from holdfast.daemon.declared import fields_of, parse_range

MINIMAL = '[node]\nname = "x"\nrole = "both"\n'
SECRET = "a secret that is long"


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        parse(text, "holdfast.toml")
    return refused.value


def test_what_is_left_out_has_its_default() -> None:
    config = parse(MINIMAL, "f")
    assert config.listen.port == 1701
    assert config.failover.recovery_time_ms == 60_000
    assert config.failover.require_secret
    assert config.paths.control_socket == "/run/holdfast/control.sock"
    assert config.paths.journal == "/var/lib/holdfast/journal.db"


@pytest.mark.parametrize("role", ["lns", "lac"])
def test_the_template_is_valid_has_no_weakness_and_shows_every_key(role: Literal["lns", "lac"]) -> None:
    text = template(role, tunnel_secret=SECRET, user_secret=SECRET)
    config = parse(text, "f")
    assert config.node.role == role
    assert check(config) == []
    for table in fields_of(Config):
        assert f"[{table.name}]" in text, table.name


def test_the_template_shows_each_default_as_it_is() -> None:
    tables = template("lac", tunnel_secret=SECRET, user_secret=SECRET).partition("[[")[0]
    spelled_out = re.sub(r"^# (\w+ = .*)$", r"\1", tables, flags=re.MULTILINE)
    assert spelled_out != tables
    assert parse(spelled_out, "f") == parse(tables, "f")


@pytest.mark.parametrize(
    ("text", "key", "valid"),
    [
        ("", "node", "is missing"),
        ('[node]\nname = "x"\n', "node.role", 'one of "both", "lac", "lns"'),
        ('[node]\nname = "x"\nrole = "lsn"\n', "node.role", 'one of "both", "lac", "lns"'),
        ('[node]\nname = ""\nrole = "lns"\n', "node.name", "1 to 64 characters"),
        (MINIMAL + "[listen]\nport = 0\n", "listen.port", "an integer from 1 to 65535"),
        (MINIMAL + '[listen]\nport = "1701"\n', "listen.port", "an integer from 1 to 65535"),
        (MINIMAL + "[listen]\nport = true\n", "listen.port", "an integer from 1 to 65535"),
        (MINIMAL + '[listen]\naddress = "localhost"\n', "listen.address", "an IPv4 address"),
        (MINIMAL + "[listen]\nprot = 1701\n", "listen.prot", "did you mean listen.port?"),
        (MINIMAL + "[listn]\n", "listn", "did you mean listen?"),
        (MINIMAL + "[failover]\nadvertise = 1\n", "failover.advertise", "true or false"),
        (MINIMAL + '[ppp]\nauth = ["eap"]\n', "ppp.auth", 'one of "chap", "pap"'),
        (MINIMAL + '[ppp]\nauth = "chap"\n', "ppp.auth", "a list"),
        (MINIMAL + '[ppp]\ndns = ["192.0.2.300"]\n', "ppp.dns", "an IPv4 address"),
        (MINIMAL + '[tunnel]\nretransmit_cap_ms = 4000\n', "tunnel.retransmit_cap_ms", "8000"),
        (MINIMAL + '[peer]\nname = "a"\n', "peer", "write [[peer]]"),
        (MINIMAL + 'peer = [1]\n', "node.peer", "is not known"),
        (MINIMAL + '[[peer]]\nname = "a"\n', "peer[a].address", "is missing"),
        (MINIMAL + '[[peer]]\naddress = "192.0.2.1"\n', "peer[number 1].name", "is missing"),
        (MINIMAL + '[[peer]]\nname = "a"\naddress = "192.0.2.1/24"\n', "peer[a].address", "network"),
        (MINIMAL + '[[pool]]\nname = "p"\nrange = "10.0.0.9-10.0.0.1"\n', "pool[p].range", "a range"),
        (MINIMAL + 'x = \n', "", "is not TOML"),
    ],
)  # fmt: skip
def test_a_refusal_names_file_key_and_what_is_valid(text: str, key: str, valid: str) -> None:
    error = refusal(text)
    assert error.key == key
    assert valid in str(error)
    assert str(error).startswith("holdfast.toml: ")


@pytest.mark.parametrize("secret", ["77777", f'"{"7" * 300}"'])
def test_a_refused_secret_is_not_shown(secret: str) -> None:
    error = refusal(MINIMAL + f'[[peer]]\nname = "a"\naddress = "192.0.2.1"\nsecret = {secret}\n')
    assert error.key == "peer[a].secret"
    assert "777" not in str(error)


def peer(name: str, address: str, more: str = "") -> str:
    return f'[[peer]]\nname = "{name}"\naddress = "{address}"\nsecret = "{SECRET}"\n{more}\n'


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (peer("a", "192.0.2.1") + peer("a", "192.0.2.2"), "peer[a].name"),
        (peer("a", "192.0.2.0/24", "connect = true"), "peer[a].address"),
        ('[[user]]\nname = "u"\nsecret = "s"\n', "user[u].address"),
        ('[[user]]\nname = "u"\nsecret = "s"\npool = "p"\n', "user[u].pool"),
        (
            '[[pool]]\nname="p"\nrange="10.0.0.0/8"\n[[pool]]\nname="q"\nrange="10.1.0.0/16"\n',
            "pool[q].range",
        ),
        ('[[subscriber]]\nname = "s"\nsecret = "s"\ntunnel = "a"\n', "subscriber[s].tunnel"),
        (
            peer("a", "192.0.2.1", "connect = true")
            + '[[subscriber]]\nname = "s/t"\nsecret = "s"\ntunnel = "a"\n',
            "subscriber[s/t].name",
        ),
        (
            "".join(f'[[user]]\nname = "{u}"\nsecret = "s"\naddress = "192.0.2.9"\n' for u in "uv"),
            "user address 192.0.2.9",
        ),
    ],
)
def test_what_only_shows_in_several_keys_is_refused_too(text: str, key: str) -> None:
    assert refusal(MINIMAL + text).key == key


def test_an_lns_opens_no_tunnels() -> None:
    text = '[node]\nname = "x"\nrole = "lns"\n' + peer("a", "192.0.2.1", "connect = true")
    assert refusal(text).key == "peer[a].connect"


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holdfast init"):
        load(tmp_path / "none.toml")


def test_the_peer_of_an_address_is_the_one_with_the_longest_network() -> None:
    config = parse(
        MINIMAL + peer("all", "192.0.0.0/16") + peer("near", "192.0.2.0/24") + peer("one", "192.0.2.9"), "f"
    )
    names = [
        found.name if (found := config.peer_for(address)) else None
        for address in ("192.0.2.9", "192.0.2.8", "192.0.3.1", "198.51.100.1")
    ]
    assert names == ["one", "near", "all", None]
    assert config.peer_named("near") == config.peer_for("192.0.2.8")


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("100.64.0.0/16", "100.64.0.1", "100.64.255.254"),
        ("192.0.2.4/31", "192.0.2.4", "192.0.2.5"),
        ("192.0.2.4/32", "192.0.2.4", "192.0.2.4"),
        ("192.0.2.4 - 192.0.2.9", "192.0.2.4", "192.0.2.9"),
    ],
)
def test_a_range_is_a_network_or_two_ends(text: str, first: str, last: str) -> None:
    assert tuple(map(str, parse_range(text))) == (first, last)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[[peer]]\nname = "a"\naddress = "192.0.2.1"\n', "peer[a].secret"),
        ('[[peer]]\nname = "a"\naddress = "192.0.2.1"\nsecret = "short"\n', "peer[a].secret"),
        (peer("a", "0.0.0.0/0"), "peer[a].address"),
        ("[failover]\nrequire_secret = false\n", "failover.require_secret"),
        ("[failover]\nadvertise = false\n", "failover.advertise"),
        ("[failover]\nrecovery_time_ms = 1000\n", "failover.recovery_time_ms"),
        ('[failover]\nmethod = "off"\n', "failover.method"),
        (peer("a", "192.0.2.1") + 'method = "off"\n', "peer[a].method"),
        ('[failover]\nmethod = "rfc4951"\nadvertise = false\n' + peer("a", "192.0.2.1"), "failover.method"),
        ('[[peer]]\nname = "a"\naddress = "192.0.2.1"\nmethod = "rfc4951"\n', "peer[a].method"),
        ("[ppp]\necho_interval_s = 0\n", "ppp.echo_interval_s"),
        ("[failover]\nstrict_discard = true\n", "failover.strict_discard"),
        ('[journal]\nsynchronous = "normal"\n', "journal.synchronous"),
        ('[dataplane]\nkind = "null"\n', "dataplane.kind"),
        ("[ppp]\nmru = 1500\n", "ppp.mru"),
        ("[ppp]\nauth = []\n", "ppp.auth"),
        ("", "ppp.auth"),
        ("", "user"),
        ("", "peer"),
        ('[paths]\nstate_dir = "state"\n', "paths.state_dir"),
    ],
)
def test_a_weak_choice_is_warned_of(text: str, key: str) -> None:
    assert key in [weak.key for weak in check(parse(MINIMAL + text, "f"))]


@pytest.mark.parametrize("more", ["", "require_secret = false\n"])
def test_rfc4951_alone_is_no_weak_choice_where_it_is_offered(more: str) -> None:
    secret = "" if more else f'secret = "{SECRET}"\n'
    text = f'[failover]\nmethod = "rfc4951"\n{more}[[peer]]\nname = "a"\naddress = "192.0.2.1"\n{secret}'
    assert not {"failover.method", "peer[a].method"} & {
        weak.key for weak in check(parse(MINIMAL + text, "f"))
    }


@pytest.mark.parametrize(("text", "key"), [(peer("a", "192.0.2.1"), "peer"), ("", "subscriber")])
def test_a_lac_that_can_do_nothing_is_warned_of(text: str, key: str) -> None:
    config = parse('[node]\nname = "x"\nrole = "lac"\n' + text, "f")
    assert key in [weak.key for weak in check(config)]


@pytest.mark.parametrize("name", ["a/b", "hf%d", "h f", ".."])
def test_a_device_has_a_name_that_the_kernel_takes(name: str) -> None:
    assert refusal(MINIMAL + f'[dataplane]\ndevice = "{name}"\n').key == "dataplane.device"


def test_a_file_that_others_may_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.toml"
    file.write_text(template("lns", tunnel_secret=SECRET, user_secret=SECRET))
    file.chmod(0o644)
    assert [weak.key for weak in check(load(file), file)] == [str(file)]
    file.chmod(0o640)  # root's, and readable for the node that runs as another user
    assert check(load(file), file) == []
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert check(load(file), file) == []


def test_every_key_has_its_meaning() -> None:
    described = msgspec.json.schema(Config)["$defs"]
    for table in described.values():
        for name, key in table["properties"].items():
            text = key.get("description") or key.get("items", {}).get("description")
            assert text, name
