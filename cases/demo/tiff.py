"""Writes a pyramidal tiled TIFF with JPEG tiles, as OpenSlide's generic-tiff reads it."""

import struct
from collections.abc import Sequence
from pathlib import Path

from cases.demo.pyramid import Level

_SHORT, _LONG, _RATIONAL, _ASCII = 3, 4, 5, 2
_Tag = tuple[int, int, int, bytes]


def write_tiff(
    path: Path, levels: Sequence[Level], mpp: float | None, *, description: str, model: str
) -> None:
    """Write the levels (finest first) to one little-endian TIFF 6.0 file.

    The resolution goes into the resolution tags (pixels per centimetre), from which OpenSlide
    takes um per pixel; None leaves them out.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, 0))
        link = 4  # where the offset of the next directory is written
        for number, level in enumerate(levels):
            offsets, counts = [], []
            for tile in level.tiles:
                offsets.append(file.tell())
                counts.append(len(tile))
                file.write(tile + b"\0" * (len(tile) % 2))
            tags = _level_tags(level, offsets, counts, is_reduced=number > 0)
            tags += _text(270, description) + _text(272, model)
            if mpp:
                tags += _resolution(10_000 / (mpp * levels[0].width / level.width))
            here = file.tell()
            file.write(_directory(tags, here))
            end = file.tell()
            file.seek(link)
            file.write(struct.pack("<I", here))
            file.seek(end)
            link = here + 2 + 12 * len(tags)


def _level_tags(
    level: Level, offsets: list[int], counts: list[int], *, is_reduced: bool
) -> list[_Tag]:
    count = len(offsets)
    return [
        _long(254, 1 if is_reduced else 0),
        _long(256, level.width),
        _long(257, level.height),
        (258, _SHORT, 3, struct.pack("<3H", 8, 8, 8)),
        _short(259, 7),  # JPEG
        _short(262, 6),  # YCbCr
        _short(277, 3),
        _short(284, 1),
        _long(322, level.tile_px),
        _long(323, level.tile_px),
        (324, _LONG, count, struct.pack(f"<{count}I", *offsets)),
        (325, _LONG, count, struct.pack(f"<{count}I", *counts)),
        (530, _SHORT, 2, struct.pack("<2H", 2, 1)),  # chroma is halved horizontally
    ]


def _resolution(per_centimetre: float) -> list[_Tag]:
    value = struct.pack("<2I", round(per_centimetre * 1000), 1000)
    return [(282, _RATIONAL, 1, value), (283, _RATIONAL, 1, value), _short(296, 3)]


def _text(tag: int, text: str) -> list[_Tag]:
    value = text.encode("ascii") + b"\0"
    return [(tag, _ASCII, len(value), value)]


def _short(tag: int, value: int) -> _Tag:
    return (tag, _SHORT, 1, struct.pack("<H", value))


def _long(tag: int, value: int) -> _Tag:
    return (tag, _LONG, 1, struct.pack("<I", value))


def _directory(tags: list[_Tag], offset: int) -> bytes:
    """Return an image file directory at `offset` with the values that do not fit inside it."""
    entries, values = b"", b""
    place = offset + 2 + 12 * len(tags) + 4
    for tag, kind, count, value in sorted(tags):
        if len(value) <= 4:
            field = value.ljust(4, b"\0")
        else:
            field = struct.pack("<I", place + len(values))
            values += value + b"\0" * (len(value) % 2)
        entries += struct.pack("<HHI", tag, kind, count) + field
    return struct.pack("<H", len(tags)) + entries + b"\0" * 4 + values
