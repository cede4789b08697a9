"""The heads of a list's columns."""

from typing import Any


def column_head(name: str | None, label: Any, order: str) -> dict[str, Any]:
    """Return a column's head: what a click on it sorts by, and how it is sorted now."""
    is_sorted = name is not None and order.removeprefix("-") == name
    return {
        "label": label,
        "order": f"-{name}" if order == name else name,
        "aria_sort": ("descending" if order.startswith("-") else "ascending") if is_sorted else "",
    }
