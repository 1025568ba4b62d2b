"""docs/conformance.md tells the truth: every requirement has a row, every row a test that exists, or a reason."""

import re

import pytest

from conformance import DOCUMENT, Requirement, by_requirement, ids_of, requirements

ROWS = {m[1]: m[3] for m in re.finditer(r"^\| ([FTV]\S*) \| (.*?) \| (.*) \|$", DOCUMENT.read_text(), re.M)}
NAMED = by_requirement()


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.id)
def test_a_requirement_has_a_test_or_a_reason(requirement: Requirement) -> None:
    assert bool(NAMED.get(requirement.id)) != bool(requirement.exception)


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.id)
def test_its_row_names_tests_that_exist(requirement: Requirement) -> None:
    named = re.findall(r"`(.+?)`", ROWS[requirement.id])
    assert set(named) <= set(NAMED.get(requirement.id, ()))
    assert named or ROWS[requirement.id] == f"none: {requirement.exception}"


def test_there_are_no_other_rows() -> None:
    assert list(ROWS) == [r.id for r in requirements()]
    assert len(ROWS) == len({r.id for r in requirements()})


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("test_F_60_a_query", ["F-60"]),
        ("test_T_2_and_F_S4_and_V2_10_x", ["T-2", "F-S4", "V2-10"]),
        ("test_F_80_to_F_82_x", ["F-80", "F-81", "F-82"]),
        ("test_F_57a_x", ["F-57a"]),
        ("test_F_7_we_say", ["F-7"]),
        ("test_the_end", []),
    ],
)
def test_ids_are_read_from_the_beginning_of_a_name(name: str, ids: list[str]) -> None:
    assert ids_of(name) == ids
