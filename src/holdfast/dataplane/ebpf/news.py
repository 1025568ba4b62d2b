"""What a plane has done by itself and an operator should hear of."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec


class News(msgspec.Struct, frozen=True, gc=False):
    """An event with its fields; `warning` if somebody should act on it."""

    event: str
    fields: dict[str, Any]
    warning: bool = False


Tell: TypeAlias = Callable[[News], None]
