"""The generated page holds everything that is declared."""

from holdfast.wire.codes import Cdn, General, PppCause, StopCcn
from holdfast.wire.describe import avps_markdown
from holdfast.wire.dictionary import ENTRIES
from holdfast.wire.messages import Msg


def test_page_names_every_avp_message_and_code() -> None:
    page = avps_markdown()
    for entry in ENTRIES:
        assert f" {entry.name}" in page and f"| {entry.rfc} |" in page
    for msg in Msg:
        assert f"| {msg.value} | {msg.name} |" in page
    for kind in (StopCcn, Cdn, General, PppCause):
        for code in kind:
            assert f"| {code.value} | {code.name} | {code.text} |" in page


def test_rows_have_as_many_cells_as_their_titles() -> None:
    width = 0
    for line in avps_markdown().splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or line.count(" |")
        assert line.count(" |") == width


def test_page_is_the_same_every_time() -> None:
    assert avps_markdown() == avps_markdown()
