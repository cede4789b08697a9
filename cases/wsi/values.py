"""Types and small value rules that the readers share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
"""uint8 (height, width, 3), RGB."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_PLACEHOLDERS = frozenset(("?", "-", "unknown", "unk", "none", "n/a", "na", "not available"))


def clean_text(value: object, limit: int) -> str:
    """Return a header's value as one line of at most `limit` characters.

    Placeholders such as `Unknown` or `?` count as empty: they would match each other.
    """
    text = " ".join(_CONTROL.sub(" ", str(value if value is not None else "")).split())
    return "" if text.casefold() in _PLACEHOLDERS else text[:limit].strip()


def iso_date(value: object) -> str:
    """Return a DICOM date (YYYYMMDD) as YYYY-MM-DD, empty when it is none."""
    digits = clean_text(value, 10).replace(".", "").replace("-", "")
    try:
        return datetime.strptime(digits[:8], "%Y%m%d").date().isoformat()
    except ValueError:
        return ""


def iso_time(text: str, *formats: str) -> str:
    """Return a date and time in ISO form by the first format that fits, or empty."""
    for form in formats:
        try:
            return datetime.strptime(text, form).isoformat()
        except ValueError:
            continue
    return ""


def sha256_of_file(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """Return the file's sha256 in hex; `tick` is called every 64 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 26):
            digest.update(chunk)
            tick()
    return digest.hexdigest()


def sha256_of_set(hashes: Iterable[str]) -> str:
    """Return the sha256 over the sorted hex hashes of a slide's files, in whatever order."""
    return hashlib.sha256("".join(sorted(hashes)).encode("ascii")).hexdigest()
