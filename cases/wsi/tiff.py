"""What a TIFF's directories announce: is it all there, and how large is it?

Reads directories only (TIFF 6.0 and BigTIFF), never pixels: a cut file is found at once, even
where the reader would notice only at the tile that is missing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAX_DIRECTORIES = 4096
MAX_DIRECTORY_ENTRIES = 4096
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}
_NUMPY = {3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
# (offsets, byte counts): strips and tiles.
_DATA_TAGS = ((273, 279), (324, 325))
_WIDTH, _HEIGHT = 256, 257
_WANTED = frozenset((_WIDTH, _HEIGHT, 273, 279, 324, 325))
FIRST_PRIVATE_TAG = 32768
"""Values of vendors' own tags are not judged: some keep other things than offsets there."""


class _Cut(Exception):
    """A directory or its values lie past the end of the file."""


def is_tiff(path: Path) -> bool:
    """Return whether the file begins like TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass
class TiffFacts:
    """Whether data lies past the end of the file, and the largest image announced."""

    is_cut: bool = False
    width: int = 0
    height: int = 0


def inspect(path: Path) -> TiffFacts:
    """Return what the directories of a TIFF say of its data.

    Files of 4 GiB and more that are not BigTIFF (Hamamatsu's own 64-bit extension) are not
    judged here: their offsets cannot be read by the standard.
    """
    size = path.stat().st_size
    facts = TiffFacts()
    with path.open("rb") as file:
        begin = file.read(16)
        order = "<" if begin[:2] == b"II" else ">"
        try:
            is_big = struct.unpack(order + "H", _exactly(begin[2:], 2))[0] == 43
            if not is_big and size >= 2**32:
                return facts
            if is_big:
                (offset,) = struct.unpack(order + "Q", _exactly(begin[8:], 8))
            else:
                (offset,) = struct.unpack(order + "I", _exactly(begin[4:], 4))
            seen: set[int] = set()
            while offset and offset not in seen and len(seen) < MAX_DIRECTORIES:
                seen.add(offset)
                offset = _check_directory(file, size, offset, order, is_big, facts)
        except _Cut:
            facts.is_cut = True
    return facts


def _exactly(data: bytes, count: int) -> bytes:
    if len(data) < count:
        raise _Cut
    return data[:count]


def _check_directory(
    file: BinaryIO, size: int, offset: int, order: str, is_big: bool, facts: TiffFacts
) -> int:
    """Raise _Cut when something is missing; return where the next directory begins."""
    count_size, entry_size, value_size = (8, 20, 8) if is_big else (2, 12, 4)
    file.seek(offset)
    (count,) = struct.unpack(
        order + ("Q" if is_big else "H"), _exactly(file.read(count_size), count_size)
    )
    if count > MAX_DIRECTORY_ENTRIES:
        raise _Cut
    raw = _exactly(file.read(count * entry_size + value_size), count * entry_size + value_size)
    values: dict[int, np.ndarray] = {}
    for index in range(count):
        entry = raw[index * entry_size : (index + 1) * entry_size]
        tag, kind = struct.unpack(order + "HH", entry[:4])
        if tag in _WANTED and kind in _NUMPY:
            values[tag] = _values(file, size, entry[4:], kind, order, is_big)
        elif tag < FIRST_PRIVATE_TAG and kind in _SIZES:
            _require_value(size, entry[4:], kind, order, is_big)
    facts.width = max(facts.width, *map(int, values.get(_WIDTH, np.zeros(1))[:1]))
    facts.height = max(facts.height, *map(int, values.get(_HEIGHT, np.zeros(1))[:1]))
    for offsets_tag, counts_tag in _DATA_TAGS:
        if offsets_tag in values and counts_tag in values:
            offsets, counts = values[offsets_tag], values[counts_tag]
            length = min(len(offsets), len(counts))
            ends = offsets[:length].astype(np.uint64) + counts[:length].astype(np.uint64)
            if np.any(ends[counts[:length] > 0] > size):
                raise _Cut
    return int(struct.unpack(order + ("Q" if is_big else "I"), raw[-value_size:])[0])


def _require_value(size: int, field: bytes, kind: int, order: str, is_big: bool) -> None:
    """Raise _Cut when the value of a directory entry lies past the end of the file."""
    value_size = 8 if is_big else 4
    (count,) = struct.unpack(order + ("Q" if is_big else "I"), field[:value_size])
    length = count * _SIZES[kind]
    if length > value_size:
        (offset,) = struct.unpack(order + ("Q" if is_big else "I"), field[value_size:])
        if offset + length > size:
            raise _Cut


def _values(
    file: BinaryIO, size: int, field: bytes, kind: int, order: str, is_big: bool
) -> np.ndarray:
    """Return the values of a directory entry as whole numbers."""
    value_size = 8 if is_big else 4
    _require_value(size, field, kind, order, is_big)
    (count,) = struct.unpack(order + ("Q" if is_big else "I"), field[:value_size])
    length = count * _SIZES[kind]
    if length <= value_size:
        data = field[value_size : value_size + length]
    else:
        (offset,) = struct.unpack(order + ("Q" if is_big else "I"), field[value_size:])
        file.seek(offset)
        data = _exactly(file.read(length), length)
    return np.frombuffer(data, order + _NUMPY[kind])
