"""States of indexing, asked of the app that indexes: cases itself does not know it."""

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import QuerySet

IdsIn = Callable[[Any, str], QuerySet[Any]]
"""(user, state) -> the ids of the slide images in it, as far as the user sees them."""

_known: dict[str, Any] = {"choices": (), "ids_in": None}


def use(choices: Sequence[tuple[str, Any]], ids_in: IdsIn) -> None:
    """Take the states with their labels, and what finds the slide images in one of them."""
    _known.update(choices=tuple(choices), ids_in=ids_in)


def choices() -> tuple[tuple[str, Any], ...]:
    """Return (state, label) of each state."""
    return _known["choices"]


def slide_image_ids(user: Any, state: str) -> QuerySet[Any]:
    """Return the ids of the user's slide images in that state."""
    return _known["ids_in"](user, state)
