"""docs/generated says what the code declares."""

from pathlib import Path

import pytest

from holdfast.lab.gendocs import PAGES

GENERATED = Path(__file__).parent.parent / "docs" / "generated"


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    assert (GENERATED / name).read_text() == PAGES[name](), "run `make docs`"
