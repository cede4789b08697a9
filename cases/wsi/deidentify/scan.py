"""Proves of a written file that no identifier is left; trusts nothing of what wrote it.

Three looks, each of which is enough to stop an export: every attribute against the allowlist
with its value; every frame for anything but the picture; all bytes for every identifying value
of the source in every encoding. What is found is named by its place, never by its value.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID_dictionary

from cases.wsi.deidentify.frames import ENCAPSULATED, clean_frame
from cases.wsi.deidentify.icc import is_clean
from cases.wsi.deidentify.identifiers import (
    HEADER_MIN,
    PIXELS_MIN,
    ByteSearch,
    Identifiers,
    is_harmless,
)
from cases.wsi.deidentify.rebuild import SPECIMEN_IDENTIFIER, STEP_NAMES
from cases.wsi.deidentify.rules import OPTIONS, TABLE, Rule
from cases.wsi.deidentify.source import NATIVE
from cases.wsi.deidentify.vocabulary import MANUFACTURERS, MODELS, concept_of, is_concept
from cases.wsi.deidentify.write import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from cases.wsi.errors import WsiError

_CHUNK = 4 * 2**20
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_SHIFTED = re.compile(r"\d{8}(000000)?")
_META = {
    "FileMetaInformationGroupLength",
    "FileMetaInformationVersion",
    "MediaStorageSOPClassUID",
    "MediaStorageSOPInstanceUID",
    "TransferSyntaxUID",
    "ImplementationClassUID",
    "ImplementationVersionName",
}
_TABLES = {"ExtendedOffsetTable", "ExtendedOffsetTableLengths"}


class LeakError(WsiError):
    """The written file holds something that points, or could point, at a person."""

    code = "identifier_left"
    message = "An identifying value was found in what was to be exported. Nothing was exported."

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(f"{type(self).message} Place: {place}.")


def scan_file(
    path: Path,
    identifiers: Identifiers,
    issued: set[str],
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Read a written instance anew and raise LeakError unless it holds only what it may.

    Parameters
    ----------
    identifiers
        The identifying values of the source.
    issued
        The pseudonyms, new UIDs and moved dates that the file may hold.
    tick
        Called every few MiB; it may raise to stop.
    """
    _scan_issued(identifiers, issued)
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if file.read(132) != bytes(128) + b"DICM":
            raise LeakError("preamble")
        file.seek(0)
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        pixels_at = file.tell()
        _scan_meta(dataset)
        _Attributes(issued).check(dataset, TABLE, "")
        _scan_pixels(file, dataset, path.stat().st_size, tick)
        file.seek(0)
        header = _masked(file.read(pixels_at), dataset, issued)
        _search_header(header, identifiers)
        _search_all(file, header, ByteSearch(identifiers.patterns(PIXELS_MIN)), tick)


def scan_words(
    values: Iterable[str], name: str, identifiers: Identifiers, allowed: set[str]
) -> None:
    """Raise LeakError unless every value of a text file, read anew, is one that it may hold.

    Parameters
    ----------
    values
        All cells, or all keys and values; each is looked up once, however many there are.
    allowed
        Pseudonyms, hashes, counts, codes and the file's own words.
    """
    texts = {text.casefold() for text in identifiers.texts}
    for value in values:
        if value not in allowed:
            raise LeakError(name)
        if value in identifiers.uids or (len(value) > 12 and value.casefold() in texts):
            raise LeakError(name)


def _scan_issued(identifiers: Identifiers, issued: set[str]) -> None:
    """Raise when a pseudonym is an original. A moved date can be another date of the source."""
    texts = {text.casefold() for text in identifiers.texts}
    for value in issued:
        if value in identifiers.uids or (
            value.casefold() in texts and not _SHIFTED.fullmatch(value)
        ):
            raise LeakError("a pseudonym that is an original value")


def _scan_meta(dataset: Dataset) -> None:
    meta = dataset.file_meta
    names = {element.keyword for element in meta}
    if names != _META:
        raise LeakError("file meta information")
    if (
        meta.MediaStorageSOPClassUID != dataset.get("SOPClassUID")
        or meta.MediaStorageSOPInstanceUID != dataset.get("SOPInstanceUID")
        or meta.ImplementationClassUID != IMPLEMENTATION_UID
        or meta.ImplementationVersionName != IMPLEMENTATION_NAME
        or str(meta.TransferSyntaxUID) not in NATIVE | ENCAPSULATED
        or meta.FileMetaInformationVersion != b"\0\1"
    ):
        raise LeakError("file meta information")


class _Attributes:
    """Checks attributes against their rules."""

    def __init__(self, issued: set[str]) -> None:
        self.issued = issued

    def check(self, dataset: Dataset, table: Mapping[str, Rule], inside: str) -> None:
        """Raise LeakError at the first attribute that is not allowed or says what it may not."""
        for element in dataset:
            keyword = element.keyword
            if keyword in _TABLES and not inside:
                continue
            place = f"{inside}{keyword or element.tag}"
            rule = table.get(keyword)
            if element.tag.is_private or rule is None:
                raise LeakError(place)
            if not self._holds(rule, element, place):
                raise LeakError(place)

    def _holds(self, rule: Rule, element: DataElement, place: str) -> bool:
        if rule.kind == "items":
            for item in element.value or ():
                self.check(item, rule.items, f"{place} > ")
            return element.VR == "SQ"
        if place == "DeidentificationMethodCodeSequence":
            pairs = tuple((item.CodeValue, item.CodeMeaning) for item in element.value)
            return pairs == OPTIONS and all(map(is_concept_or_option, element.value))
        if rule.kind == "codes":
            return all(map(is_concept, element.value or ()))
        if rule.kind == "steps":
            return all(self._is_step(step) for step in element.value or ())
        if rule.kind == "profile":
            return is_clean(bytes(element.value or b""))
        return all(self._is_value(rule, value) for value in _values(element))

    def _is_value(self, rule: Rule, value: object) -> bool:
        text = str(value)
        match rule.kind:
            case "number":
                return isinstance(value, int | float) or _is_number(text)
            case "word":
                return text in rule.words
            case "constant":
                return text == rule.words[0]
            case "tag":
                tag = BaseTag(int(text, 16)) if isinstance(value, str) else BaseTag(value)  # type: ignore[call-overload]
                return not tag.is_private and bool(keyword_for_tag(tag))
            case "uid":
                return text in self.issued and text.startswith("2.25.")
            case "date" | "moment":
                return text in self.issued and bool(_SHIFTED.fullmatch(text))
            case "midnight":
                return text == "000000"
            case "empty":
                return False
            case "patient" | "case" | "container" | "specimen" | "device":
                return text in self.issued and bool(re.fullmatch(r"[PCSTD][A-Z2-7]{12}", text))
            case "maker":
                return text in MANUFACTURERS
            case "model":
                return text in MODELS
            case "path" | "position":
                return bool(re.fullmatch(r"\d{1,6}", text))
        return False

    def _is_step(self, step: Dataset) -> bool:
        if step.dir() != ["SpecimenPreparationStepContentItemSequence"] or len(step) != 1:
            return False
        return all(
            self._is_content(item) for item in step.SpecimenPreparationStepContentItemSequence
        )

    def _is_content(self, item: Dataset) -> bool:
        names = list(item.get("ConceptNameCodeSequence") or [])
        if len(names) != 1 or not is_concept(names[0]):
            return False
        name = concept_of(names[0])
        fields = {element.keyword for element in item} - {"ConceptNameCodeSequence"}
        if item.get("ValueType") == "TEXT":
            return (
                fields == {"ValueType", "TextValue"}
                and name == SPECIMEN_IDENTIFIER
                and item.TextValue in self.issued
            )
        values = list(item.get("ConceptCodeSequence") or [])
        return (
            item.get("ValueType") == "CODE"
            and fields == {"ValueType", "ConceptCodeSequence"}
            and name is not None
            and name.value in STEP_NAMES
            and len(values) == 1
            and is_concept(values[0])
        )


def is_concept_or_option(item: Dataset) -> bool:
    """Return whether an item names one of the options and nothing else."""
    return item.CodingSchemeDesignator == "DCM" and len(item) == 3


def _values(element: DataElement) -> list[object]:
    value = element.value
    if value is None or value == "" or value == b"" or (element.VR == "SQ" and not len(value)):
        return []
    return list(value) if isinstance(value, MultiValue | list) else [value]


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[0-9.]{1,16}(e[-+]?\d{1,3})?", text, re.IGNORECASE))


def _scan_pixels(file: BinaryIO, dataset: Dataset, size: int, tick: Callable[[], None]) -> None:
    """Raise when the pixel data holds anything but frames, or the file goes on after it."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    begin = file.read(12)
    if len(begin) < 12 or begin[:4] != b"\xe0\x7f\x10\x00" or begin[6:8] != b"\0\0":
        raise LeakError("pixel data")
    (length,) = struct.unpack("<I", begin[8:])
    if syntax in NATIVE:
        bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel)
        needed = int(dataset.get("NumberOfFrames") or 1) * bits * int(dataset.BitsAllocated) // 8
        if length != needed + needed % 2 or file.tell() + length != size:
            raise LeakError("bytes after the pixel data")
        return
    for number, item in enumerate(_items(file)):
        if number and clean_frame(item, syntax) != item:
            raise LeakError(f"frame {number}")
        tick()
    if file.tell() != size:
        raise LeakError("bytes after the pixel data")


def _items(file: BinaryIO) -> Iterator[bytes]:
    while True:
        head = file.read(8)
        if head == _DELIMITER + bytes(4):
            return
        if len(head) < 8 or head[:4] != _ITEM:
            raise LeakError("pixel data")
        (length,) = struct.unpack("<I", head[4:])
        item = file.read(length)
        if len(item) != length:
            raise LeakError("pixel data")
        yield item


def _masked(header: bytes, dataset: Dataset, issued: set[str]) -> bytes:
    """Return the header's bytes without what the look at the attributes has found allowed.

    A pseudonym can hold by chance what is also a short number of the source, and "White" is a
    colour of light before it is a name.
    """
    known = {*issued, str(IMPLEMENTATION_UID), IMPLEMENTATION_NAME, "000000"}
    for element in (*dataset.file_meta, *dataset.iterall()):
        if element.VR in ("CS", "LO", "SH", "DS", "IS", "UI"):
            known.update(
                text
                for text in map(str, _values(element))
                if is_harmless(text) or text in UID_dictionary or element.VR in ("DS", "IS")
            )
    known.update(meaning for _value, meaning in OPTIONS)
    for text in sorted(known, key=len, reverse=True):
        header = header.replace(text.encode("ascii", "replace"), b"\0" * len(text))
    return header


def _search_header(header: bytes, identifiers: Identifiers) -> None:
    small = header.lower()
    for pattern in identifiers.patterns(HEADER_MIN):
        if pattern in small:
            raise LeakError("bytes of the header")


def _search_all(
    file: BinaryIO, header: bytes, search: ByteSearch, tick: Callable[[], None]
) -> None:
    if search.found_in(header) is not None:
        raise LeakError("bytes of the header")
    file.seek(len(header))
    kept = b""
    while chunk := file.read(_CHUNK):
        if search.found_in(kept + chunk) is not None:
            raise LeakError("bytes of the pixel data")
        kept = chunk[-search.longest :] if search.longest else b""
        tick()
