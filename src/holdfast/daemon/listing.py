"""Long lists in pages: the keys are taken at once, the rows when their page is asked for.

So a list of 50,000 sessions never holds the event loop, and a row that has gone in the meantime is left out
instead of shifting the others. Cursors are only good while their list is kept.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from holdfast.core.errors import LocalError
from holdfast.daemon.views import Page

Row = TypeVar("Row")
Key = TypeVar("Key")

KEPT = 16
"""Lists that are being read at once; the one that was idle longest goes first."""


class ListGone(LocalError):
    """The cursor's list is no longer kept, or never was: the reading has to begin again."""


class Listings:
    """The lists that clients are in the middle of reading."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, list[Any]] = OrderedDict()
        self._last = 0

    def page(
        self, after: str, limit: int, keys: Callable[[], Iterable[Key]], row: Callable[[Key], Row | None]
    ) -> Page[Row]:
        """The first page for `after` == "", else the page after that cursor. Raises ListGone."""
        if after:
            number, start = _parse(after)
            if (listed := self._kept.get(number)) is None:
                raise ListGone("this list is no longer kept: read it from its beginning")
            self._kept.move_to_end(number)
        else:
            listed, number, start = list(keys()), 0, 0
        end = start + limit
        rows = [found for key in listed[start:end] if (found := row(key)) is not None]
        if end >= len(listed):
            self._kept.pop(number, None)
            return Page(rows)
        return Page(rows, f"{number or self._keep(listed)}.{end}")

    def _keep(self, listed: list[Any]) -> int:
        self._last += 1
        self._kept[self._last] = listed
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._last


def _parse(cursor: str) -> tuple[int, int]:
    number, _, start = cursor.partition(".")
    if not (number.isdecimal() and start.isdecimal()):
        raise ListGone("this is no cursor of this node: read the list from its beginning")
    return int(number), int(start)
