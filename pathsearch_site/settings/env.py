"""Typed readers of environment variables that also know how to print their table.

Each setting is declared once, with its help; `docs/settings.md` is checked against this list.
A secret may be given as NAME_FILE, the path of a file that holds it.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """One documented environment variable."""

    name: str
    default: str
    help: str


REGISTRY: dict[str, Setting] = {}


class SettingError(ValueError):
    """An environment variable holds a value that cannot be used."""


def _read(name: str, default: str, help: str) -> str:
    REGISTRY[name] = Setting(name, default, help)
    file = os.environ.get(f"{name}_FILE")
    if file:
        return Path(file).read_text(encoding="utf-8").strip()
    return os.environ.get(name, default)


def string(name: str, default: str, help: str) -> str:
    """Return the variable as text."""
    return _read(name, default, help)


def integer(name: str, default: int, help: str) -> int:
    """Return the variable as a whole number."""
    value = _read(name, str(default), help)
    try:
        return int(value)
    except ValueError as error:
        raise SettingError(f"{name} must be a whole number, not {value!r}") from error


def number(name: str, default: float, help: str) -> float:
    """Return the variable as a number."""
    value = _read(name, str(default), help)
    try:
        return float(value)
    except ValueError as error:
        raise SettingError(f"{name} must be a number, not {value!r}") from error


def boolean(name: str, default: bool, help: str) -> bool:
    """Return the variable as true or false."""
    value = _read(name, "true" if default else "false", help).strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off", ""}:
        return False
    raise SettingError(f"{name} must be true or false, not {value!r}")


def words(name: str, default: str, help: str) -> list[str]:
    """Return the comma-separated variable as a list."""
    return [word.strip() for word in _read(name, default, help).split(",") if word.strip()]
