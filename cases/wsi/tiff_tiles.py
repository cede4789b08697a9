"""JPEG tiles of a tiled TIFF (6.0 and BigTIFF), by directory: to send them as they are."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

MAX_DIRECTORIES = 4096
MAX_ENTRIES = 4096
MAX_VALUE_BYTES = 1 << 28
_NUMPY = {1: "u1", 3: "u2", 4: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_SAMPLES, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _COUNTS = 277, 284, 322, 323, 324, 325
_TABLES = 347
_LAYOUT = (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _COUNTS)
_WANTED = frozenset(
    (*_LAYOUT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _TABLES),
)
_JPEG, _RGB, _YCBCR = 7, 2, 6


@dataclass(frozen=True)
class TiffLevel:
    """One directory of JPEG tiles, row by row.

    Attributes
    ----------
    width, height
        Of the image in pixels; the last tiles reach over it.
    offsets, counts
        Where each tile lies, in bytes; a count of 0 is a tile that was left out.
    tables
        JPEG tables that the tiles share, empty when each has its own.
    is_rgb
        The components are RGB, by the TIFF; else YCbCr.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: npt.NDArray[Any]
    counts: npt.NDArray[Any]
    tables: bytes
    is_rgb: bool


def jpeg_levels(path: Path) -> list[TiffLevel]:
    """Return the directories of colour JPEG tiles; none for a file that is no TIFF.

    Directories that cannot be read are left out: other ways lead to their pixels.
    """
    levels = []
    with path.open("rb") as file:
        begin = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(begin[:2], "")
        version = begin[2:4] if order != ">" else begin[3:1:-1]
        if not order or version not in (b"*\0", b"+\0") or len(begin) < 16:
            return []
        is_big = version == b"+\0"
        (offset,) = struct.unpack(
            order + ("Q" if is_big else "I"), begin[8:] if is_big else begin[4:8]
        )
        seen: set[int] = set()
        try:
            while offset and offset not in seen and len(seen) < MAX_DIRECTORIES:
                seen.add(offset)
                values, offset = _directory(file, offset, order, is_big)
                level = _level(values)
                if level is not None:
                    levels.append(level)
        except (struct.error, ValueError):
            pass
    return levels


def _directory(
    file: BinaryIO, offset: int, order: str, is_big: bool
) -> tuple[dict[int, npt.NDArray[Any]], int]:
    count_form, entry_form, field_size = ("Q", "HHQ", 8) if is_big else ("H", "HHI", 4)
    file.seek(offset)
    count_size = struct.calcsize("=" + count_form)
    (count,) = struct.unpack(order + count_form, file.read(count_size))
    entry_size = struct.calcsize("=" + entry_form) + field_size
    if count > MAX_ENTRIES:
        raise ValueError("too many entries")
    raw = file.read(count * entry_size + field_size)
    values = {}
    for number in range(count):
        entry = raw[number * entry_size : (number + 1) * entry_size]
        tag, kind, amount = struct.unpack(order + entry_form, entry[:-field_size])
        if tag not in _WANTED or kind not in _NUMPY:
            continue
        length = amount * np.dtype(_NUMPY[kind]).itemsize
        field = entry[-field_size:]
        if length > field_size:
            (place,) = struct.unpack(order + ("Q" if is_big else "I"), field)
            if length > MAX_VALUE_BYTES:
                raise ValueError("a value is too long")
            file.seek(place)
            field = file.read(length)
        values[tag] = np.frombuffer(field[:length], order + _NUMPY[kind])
    (following,) = struct.unpack(order + ("Q" if is_big else "I"), raw[-field_size:])
    return values, following


def _level(values: dict[int, npt.NDArray[Any]]) -> TiffLevel | None:
    """Return the directory as a level, None when it is none of colour JPEG tiles."""

    def first(tag: int, default: int = 0) -> int:
        found = values.get(tag)
        return int(found[0]) if found is not None and len(found) else default

    width, height = first(_WIDTH), first(_HEIGHT)
    tile_width, tile_height = first(_TILE_WIDTH), first(_TILE_HEIGHT)
    if (
        first(_COMPRESSION) != _JPEG
        or first(_PHOTOMETRIC) not in (_RGB, _YCBCR)
        or first(_SAMPLES, 1) != 3
        or first(_BITS, 1) != 8
        or first(_PLANAR, 1) != 1
        or min(width, height, tile_width, tile_height) < 1
        or _OFFSETS not in values
        or _COUNTS not in values
    ):
        return None
    tiles = -(-width // tile_width) * -(-height // tile_height)
    offsets, counts = values[_OFFSETS], values[_COUNTS]
    if len(offsets) != tiles or len(counts) != tiles:
        return None
    tables = values.get(_TABLES)
    return TiffLevel(
        width,
        height,
        tile_width,
        tile_height,
        offsets,
        counts,
        tables.tobytes() if tables is not None else b"",
        first(_PHOTOMETRIC) == _RGB,
    )
