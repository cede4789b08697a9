"""The query of a QIDO-RS search (PS3.18 8.3.4): keys by keyword or tag, and how each matches.

Matching is PS3.4 C.2.2.2's: single value, list of UIDs, universal, wildcard, range, sequence.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

MAX_KEYS = 64
MAX_VALUE_CHARS = 8192
MAX_DEPTH = 8
MAX_NUMBER = 10**9
RESERVED = frozenset(("limit", "offset", "fuzzymatching", "includefield", "accept"))
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_UID = re.compile(r"[0-9.]{1,64}")
_RANGES = {
    "DA": re.compile(r"\d{4}(\d{2}(\d{2})?)?"),
    "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    "DT": re.compile(r"\d{4}(\d{2}){0,5}(\.\d{1,6})?([+-]\d{4})?"),
}
_NUMBERS = frozenset(("DS", "IS", "US", "UL", "SS", "SL", "FD", "FL", "UV", "SV"))
# What Python and the database both read as a number.
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
_NO_WILDCARDS = frozenset(("UI", *_RANGES, *_NUMBERS))


class QueryError(ValueError):
    """A query that cannot be answered; `code` names why."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


@dataclass(frozen=True)
class Key:
    """One matching key.

    Attributes
    ----------
    path
        Tags from the dataset to the attribute, `GGGGEEEE`; more than one goes through sequences.
    vr
        Of the attribute.
    values
        Any of these; a UID list has several, a range none.
    low, high
        Of a range, both inclusive; empty where it is open.
    """

    path: tuple[str, ...]
    vr: str
    values: tuple[str, ...] = ()
    low: str = ""
    high: str = ""

    @property
    def tag(self) -> str:
        """Return the tag of a key that goes through no sequence, else an empty text."""
        return self.path[0] if len(self.path) == 1 else ""

    @property
    def is_range(self) -> bool:
        """Return whether the key is a range of dates or times."""
        return bool(self.low or self.high)

    @property
    def has_wildcards(self) -> bool:
        """Return whether `*` and `?` of its value stand for anything."""
        return self.vr not in _NO_WILDCARDS and any(c in v for v in self.values for c in "*?")

    @property
    def ignores_case(self) -> bool:
        """Return whether capitals do not count: in names of people (PS3.4 C.2.2.2.1)."""
        return self.vr == "PN"

    def like(self) -> str:
        r"""Return the value as a pattern of SQL's LIKE, escaped by `\`."""
        text = re.sub(r"([\\%_])", r"\\\1", self.values[0])
        return text.replace("*", "%").replace("?", "_")


@dataclass(frozen=True)
class Query:
    """A search.

    Attributes
    ----------
    limit
        None when not said.
    fields
        Tags to include besides the standard's; `all_fields` for everything.
    """

    keys: tuple[Key, ...] = ()
    limit: int | None = None
    offset: int = 0
    fields: frozenset[str] = frozenset()
    all_fields: bool = False
    asks_fuzzy: bool = False


def parse_query(parameters: Iterable[tuple[str, str]]) -> Query:
    """Return the search that the query parameters mean.

    Raises
    ------
    QueryError
        `unknown_attribute`, `bad_value` or `too_many_keys`.
    """
    keys: list[Key] = []
    fields: set[str] = set()
    told: dict[str, Any] = {}
    for name, value in parameters:
        if len(value) > MAX_VALUE_CHARS or len(keys) + len(fields) > MAX_KEYS:
            raise QueryError("too_many_keys", "The search has too many keys, or too long ones.")
        if name == "includefield":
            for part in filter(None, (part.strip() for part in value.split(","))):
                if part.lower() == "all":
                    told["all_fields"] = True
                else:
                    fields.add(attribute_path(part)[0][0])
        elif name in ("limit", "offset"):
            told[name] = _number(name, value)
        elif name == "fuzzymatching":
            told["asks_fuzzy"] = value.strip().lower() == "true"
        elif name not in RESERVED:
            path, vr = attribute_path(name)
            key = _key(path, vr, value.strip())
            fields.add(path[0])
            if key is not None:
                keys.append(key)
    return Query(keys=tuple(keys), fields=frozenset(fields), **told)


def attribute_path(name: str) -> tuple[tuple[str, ...], str]:
    """Return tags and VR of an attribute by keyword, by tag, or by a path of these with dots."""
    tags: list[str] = []
    parts = name.split(".")
    if len(parts) > MAX_DEPTH:
        raise QueryError("unknown_attribute", "The path of an attribute is too deep.")
    vr = "SQ"
    for part in parts:
        number = int(part, 16) if _TAG.fullmatch(part) else tag_for_keyword(part)
        try:
            if number is None or vr != "SQ":
                raise KeyError
            vr = dictionary_VR(number).split()[0]
        except KeyError as error:
            shown = re.sub(r"[^\w.]", "", name)[:80]
            raise QueryError(
                "unknown_attribute",
                f"{shown} is no attribute of the DICOM dictionary (keyword or GGGGEEEE).",
            ) from error
        tags.append(f"{number:08X}")
    return tuple(tags), vr


def keyword(tag: str) -> str:
    """Return the keyword of a tag."""
    return keyword_for_tag(tag)


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 12:
        raise QueryError("bad_value", f"{name} must be a whole number.")
    return min(int(value), MAX_NUMBER)


def _key(path: tuple[str, ...], vr: str, value: str) -> Key | None:
    """Return the key, None for one that matches everything."""
    if not value.replace("*", ""):
        return None
    if "\x00" in value:
        raise QueryError("bad_value", "A value holds a character that no attribute holds.")
    if vr == "SQ":
        raise QueryError("bad_value", "A sequence is matched by a path to an attribute in it.")
    if vr == "UI":
        uids = tuple(uid.strip() for uid in re.split(r"[,\\]", value) if uid.strip())
        if not all(_UID.fullmatch(uid) for uid in uids):
            raise QueryError("bad_value", "A UID is made of digits and dots.")
        return Key(path, vr, uids) if uids else None
    if vr in _RANGES:
        return _range_key(path, vr, value)
    if vr in _NUMBERS and not _NUMBER.fullmatch(value):
        raise QueryError("bad_value", f"{keyword(path[-1])} must be a number.")
    return Key(path, vr, (value,))


def _range_key(path: tuple[str, ...], vr: str, value: str) -> Key:
    form = _RANGES[vr]
    # One value alone is everything that begins so: a day of a DT, an hour of a TM.
    low, dash, high = (value, "-", value) if form.fullmatch(value) else value.partition("-")
    if not dash or not all(not text or form.fullmatch(text) for text in (low, high)):
        raise QueryError("bad_value", f"{keyword(path[-1])} is no date or time, or range of them.")
    if vr != "DA":
        # "~" sorts after every character of a time.
        return Key(path, vr, low=low, high=high and f"{high}~")
    try:
        low, high = _whole_day(low, is_last=False), _whole_day(high, is_last=True)
    except ValueError as error:
        raise QueryError("bad_value", f"{keyword(path[-1])} is no day of the calendar.") from error
    return Key(path, vr, low=low, high=high)


def _whole_day(text: str, *, is_last: bool) -> str:
    """Return a date as YYYYMMDD; of a year or month alone its first or last day."""
    if not text:
        return ""
    year, month = int(text[:4]), int(text[4:6] or (12 if is_last else 1))
    last = calendar.monthrange(year, month)[1]
    day = int(text[6:8] or (last if is_last else 1))
    return date(year, month, day).strftime("%Y%m%d").rjust(8, "0")


def matches(key: Key, told: Mapping[str, Any]) -> bool:
    """Return whether a dataset in the DICOM JSON model matches the key."""
    return any(_matches_value(key, value) for value in _values(key.path, told))


def _values(path: Sequence[str], told: Mapping[str, Any]) -> Iterable[str]:
    values = told.get(path[0], {}).get("Value", ())
    if len(path) > 1:
        for item in values:
            yield from _values(path[1:], item or {})
        return
    for value in values:
        yield str(value.get("Alphabetic", "")) if isinstance(value, Mapping) else str(value)


def _matches_value(key: Key, value: str) -> bool:
    if key.is_range:
        return bool(value) and value >= key.low and (not key.high or value <= key.high)
    if key.vr in _NUMBERS:
        return _as_number(value) == float(key.values[0])
    if key.has_wildcards:
        pattern = re.escape(key.values[0]).replace(r"\*", ".*").replace(r"\?", ".")
        flags = re.DOTALL | (re.IGNORECASE if key.ignores_case else 0)
        return re.fullmatch(pattern, value, flags) is not None
    if key.ignores_case:
        return value.casefold() == key.values[0].casefold()
    return value in key.values


def _as_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
