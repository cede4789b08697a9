"""What must not be found in an export: every value of the source that points at somebody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, UID_dictionary

from cases.wsi.deidentify.rules import TABLE, listed
from cases.wsi.deidentify.vocabulary import words

_TEXT = frozenset(("AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "TM"))
_DATES = frozenset(("DA", "DT"))
_PRINTABLE = re.compile(rb"[\x20-\x7e\x80-\xff]{6,400}")
ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "shift_jis", "gb18030", "euc_kr")
# Shorter ones would be met by chance: in a header of a megabyte, in pixels of gigabytes.
HEADER_MIN, PIXELS_MIN = 5, 8
_WORDS_OF_RULES = frozenset(word.casefold() for _path, rule in listed(TABLE) for word in rule.words)


def is_harmless(text: str) -> bool:
    """Return whether a value is a word of the standard or of `vocabulary`."""
    folded = text.strip().casefold()
    return folded in words() or folded in _WORDS_OF_RULES


class Identifiers:
    """The identifying values of one slide, its case and its patient."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self.uids: set[str] = set()

    def add(self, *values: str, always: bool = False) -> None:
        """Add names, numbers, labels. always: also where it is a word of the standard."""
        for value in values:
            text = " ".join(str(value).split())
            if text and (always or not is_harmless(text)):
                self.texts.add(text)

    def add_date(self, day: date | None) -> None:
        """Add a date in the forms in which people and files write it."""
        if day is not None:
            forms = ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d")
            self.add(*(day.strftime(form) for form in forms), always=True)

    def add_header(self, dataset: Dataset) -> None:
        """Add every text, name, date and UID of a header, private and nested ones too."""
        for element in dataset.iterall():
            if element.VR == "SQ" or element.value is None:
                continue
            value = element.value
            for part in value if isinstance(value, MultiValue | list) else [value]:
                self._add_value(element.VR, part)

    def _add_value(self, vr: str, value: object) -> None:
        if vr == "PN":
            whole = str(value)
            parts = [part for group in whole.split("=") for part in group.split("^")]
            self.add(whole, *(part for part in parts if len(part) > 1))
        elif vr == "UI":
            text = str(value).strip()
            if text and text not in UID_dictionary and UID(text).is_valid:
                self.uids.add(text)
        elif vr in _DATES:
            text = str(value).strip()
            if len(text) >= 8:
                self.add(text, text[:8])
        elif vr in _TEXT:
            self.add(str(value))
        elif vr == "UN" and isinstance(value, bytes):
            for found in _PRINTABLE.findall(value[:100_000]):
                self.add(found.decode("latin-1"))

    def __iter__(self) -> Iterator[str]:
        yield from self.texts
        yield from self.uids

    def patterns(self, at_least: int) -> frozenset[bytes]:
        """Return the values as bytes in every encoding, ASCII letters small, none shorter."""
        found = set()
        for text in self:
            for encoding in ENCODINGS:
                try:
                    coded = text.encode(encoding).lower()
                except UnicodeEncodeError:
                    continue
                # "00000000" is an accession number, and black in an uncompressed picture.
                if len(coded) >= at_least and len(text) >= 4 and len(set(text)) > 2:
                    found.add(coded)
        return frozenset(found)


class ByteSearch:
    """Looks for many byte strings of eight and more at once, without case (ASCII).

    A table of 65,536 bits on the first two bytes leaves few places to look closer at.
    """

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self.patterns = sorted({pattern for pattern in patterns if len(pattern) >= PIXELS_MIN})
        self.longest = max(map(len, self.patterns), default=0)
        self._starts: dict[int, list[bytes]] = {}
        table = np.zeros(65536, np.bool_)
        for pattern in self.patterns:
            start = int.from_bytes(pattern[:8], "little")
            self._starts.setdefault(start, []).append(pattern)
            table[start & 0xFFFF] = True
        self._table = table

    def found_in(self, data: bytes) -> bytes | None:
        """Return a pattern that lies whole in the data, or None."""
        if not self.patterns or len(data) < PIXELS_MIN:
            return None
        small = data.lower()
        octets = np.frombuffer(small, np.uint8).astype(np.uint16)
        pairs = octets[:-1] | (octets[1:] << np.uint16(8))
        for at in np.flatnonzero(self._table[pairs]).tolist():
            start = int.from_bytes(small[at : at + 8], "little")
            for pattern in self._starts.get(start, ()):
                if small.startswith(pattern, at):
                    return pattern
        return None
