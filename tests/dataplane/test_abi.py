"""Python's view of the maps is that of bpf/abi.h: every field, size and number, as a C compiler sees them."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from msgspec import structs

from dataplane.cases import entry
from holdfast.dataplane.contract import BadEntry, Verdict
from holdfast.dataplane.ebpf import abi
from holdfast.dataplane.ebpf.advice import ADVICE
from holdfast.records import Counters

HEADER = Path(__file__).parents[2] / "bpf" / "abi.h"
COMPILER = shutil.which("clang") or shutil.which("cc")


def fields(layout: abi.Layout) -> list[tuple[str, int, int]]:
    """Name, offset and size of every field, as Python packs them."""
    found, at = [], 0
    for half, codec in zip((layout.network, layout.host), layout.codecs(), strict=True):
        for name, code in half:
            size = codec.__class__(f"={code}").size
            found.append((name, at, size))
            at += size
    return found


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (clang or cc) to read bpf/abi.h with")
def test_every_field_and_number_is_that_of_the_header(tmp_path: Path) -> None:
    lines, expected = [], []
    for layout in abi.LAYOUTS:
        kind = f"struct {layout.name}"
        lines.append(f'printf("{kind} %zu\\n", sizeof({kind}));')
        expected.append(f"{kind} {sum(codec.size for codec in layout.codecs())}")
        for name, at, size in fields(layout):
            member = f"offsetof({kind}, {name}), sizeof((({kind} *)0)->{name})"
            lines.append(f'printf("{kind} {name} %zu %zu\\n", {member});')
            expected.append(f"{kind} {name} {at} {size}")
    numbers = {f"HF_{member.name}": member.value for enum in (abi.Reason, abi.Flag) for member in enum}
    numbers |= {"HF_REASONS": len(abi.Reason), "HF_LAYOUT": abi.LAYOUT, "HF_PORTS": abi.PORTS}
    numbers |= {"HF_SNAP": abi.SNAP, "HF_CAPTURES": abi.CAPTURES}
    for name, value in numbers.items():
        lines.append(f'printf("{name} %d\\n", (int){name});')
        expected.append(f"{name} {value}")
    declared = re.findall(r"^struct (\w+) \{", HEADER.read_text(), re.MULTILINE)
    # Where no size is asked for, clang looks for no padding.
    lines += [f"(void)sizeof(struct {name});" for name in declared]
    source, program = tmp_path / "abi.c", tmp_path / "abi"
    body = "\n\t".join(lines)
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\nint main(void)\n{{\n\t{body}\n}}\n'
    )
    strictly = ("-Wall", "-Wpadded", "-Werror")
    subprocess.run([str(COMPILER), *strictly, "-o", str(program), str(source)], check=True)
    shown = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.splitlines()
    assert shown == expected


def test_a_final_reason_has_a_verdict_and_every_verdict_but_the_daemons_has_a_reason() -> None:
    dropped = {r for r in abi.Reason if r.name.endswith("REFUSED")}
    assert dropped <= abi.VERDICTS.keys()
    of_the_daemon = {
        Verdict.RX_CONTROL,
        Verdict.RX_PPP,
        Verdict.RX_NO_SESSION,
        Verdict.TX_NOT_IPV4,
        Verdict.TX_NO_SESSION,
        Verdict.TX_TOO_BIG,
    }
    assert set(abi.VERDICTS.values()) == set(Verdict) - of_the_daemon


def test_every_reason_comes_with_advice() -> None:
    assert list(ADVICE) == list(abi.Reason)


def test_an_entry_becomes_elements_with_addresses_and_ids_in_network_order() -> None:
    keyed = abi.elements(
        entry(echo=True, magic=0x01020304, prefix="2001:db8:7::/56", mtu=1460),
        9,
        clamp_mss=True,
    )
    assert keyed.ids == bytes.fromhex("0007 0003")
    assert keyed.address == bytes((100, 64, 0, 7))
    network = "c0000201 c0000202 06a5 06a5 0102 0304 64400007 01020304 20010db800070000"
    assert keyed.session[:32] == bytes.fromhex(network)
    assert keyed.session[32:36] == (9).to_bytes(4, "little") or keyed.session[32:36] == (9).to_bytes(4, "big")
    assert keyed.session[38:] == bytes((56, abi.Flag.CLAMP_MSS | abi.Flag.ANSWER_ECHO))
    assert keyed.prefix[4:] == bytes.fromhex("20010db800070000") + bytes(8)
    assert keyed.subscriber[:20] == bytes.fromhex("c0000202 c0000201 06a5 06a5 0102 0304 0007 0003")


@pytest.mark.parametrize(
    "wrong",
    [{"local": ("", 0)}, {"prefix": "2001:db8::/96"}, {"prefix": "ten"}, {"magic": 1 << 32}],
    ids=str,
)
def test_what_a_map_cannot_hold_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadEntry):
        abi.elements(structs.replace(entry(), **wrong), 0)


def test_counters_are_the_sum_over_the_processors() -> None:
    rows = struct.pack("=8Q", 1, 100, 2, 200, 10, 1000, 20, 2000)
    assert abi.counted(b"pad-here" + rows, 8, 2) == Counters(11, 1100, 22, 2200)
