"""Cells of the tables that people open in a spreadsheet."""

from typing import Any


def inert(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula (OWASP: CSV injection)."""
    if isinstance(value, str) and value.lstrip()[:1] in {"=", "+", "-", "@"}:
        return f"'{value}"
    if isinstance(value, str) and value[:1] in {"\t", "\r", "\n"}:
        return f"'{value}"
    return value
