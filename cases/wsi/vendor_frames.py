"""A vendor's slide as the frames of DICOM levels, TILED_FULL.

Where the file's tiles are baseline JPEG on the grid that DICOM asks for, they go out as they
are: TIFF pads its last tiles to full size, too. Else pixels come from OpenSlide and are coded.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cases.wsi.errors import CorruptError
from cases.wsi.jpeg import interchange, read_header
from cases.wsi.openslide_reader import OpenSlideReader
from cases.wsi.tiff_tiles import TiffLevel, jpeg_levels
from cases.wsi.values import Rgb

TILE_PX = 512
QUALITY = 90
PLAIN_GRIDS = frozenset(("aperio", "generic-tiff"))
"""OpenSlide's vendors whose levels are a directory's tiles, neither overlapping nor cropped."""


@dataclass(frozen=True)
class VendorLevel:
    """One level as DICOM has it; sizes in pixels of the level.

    Attributes
    ----------
    photometric
        PhotometricInterpretation of the frames.
    tiles
        The file's own tiles, None where frames are coded from pixels.
    """

    number: int
    width: int
    height: int
    tile_width: int
    tile_height: int
    photometric: str
    tiles: TiffLevel | None = None

    @property
    def columns(self) -> int:
        """Return the frames in a row."""
        return -(-self.width // self.tile_width)

    @property
    def frame_count(self) -> int:
        """Return the frames of the level."""
        return self.columns * -(-self.height // self.tile_height)

    @property
    def stored_bytes(self) -> int | None:
        """Return the bytes of all frames, None where they are not kept."""
        return None if self.tiles is None else int(self.tiles.counts.sum(dtype=np.uint64))


def vendor_levels(path: Path, reader: OpenSlideReader) -> list[VendorLevel]:
    """Return the levels, finest first, with what can be reused of the file."""
    kept = jpeg_levels(path) if reader.vendor in PLAIN_GRIDS else []
    found = []
    for number, (width, height) in enumerate(reader.level_dimensions):
        fitting = [tiles for tiles in kept if (tiles.width, tiles.height) == (width, height)]
        photometric = _photometric(path, fitting[0]) if len(fitting) == 1 else ""
        if photometric:
            size = (fitting[0].tile_width, fitting[0].tile_height)
            found.append(VendorLevel(number, width, height, *size, photometric, fitting[0]))
        else:
            side = (min(TILE_PX, width), min(TILE_PX, height)) if number else (TILE_PX, TILE_PX)
            found.append(VendorLevel(number, width, height, *side, "YBR_FULL_422"))
    return found


def _photometric(path: Path, tiles: TiffLevel) -> str:
    """Return what the tiles are by their first one, empty when DICOM could not have them."""
    filled = np.flatnonzero(tiles.counts)
    if not len(filled):
        return ""
    with path.open("rb") as file:
        file.seek(int(tiles.offsets[filled[0]]))
        stream = file.read(int(tiles.counts[filled[0]]))
    try:
        header = read_header(stream)
    except CorruptError:
        return ""
    has_size = (header.width, header.height) == (tiles.tile_width, tiles.tile_height)
    if not header.is_baseline or not has_size or len(header.sampling) != 3:
        return ""
    return header.photometric(tiles.is_rgb)


def read_frame(level: VendorLevel, number: int, reader: OpenSlideReader, descriptor: int) -> bytes:
    """Return a frame (from 1) as a JPEG stream.

    Parameters
    ----------
    descriptor
        The open file; read by offset, so that threads may share it.

    Raises
    ------
    IndexError
        When there is no such frame.
    WsiError
        `corrupt` when it cannot be read.
    """
    if not 1 <= number <= level.frame_count:
        raise IndexError(number)
    tiles = level.tiles
    if tiles is not None and tiles.counts[number - 1]:
        size = int(tiles.counts[number - 1])
        stream = os.pread(descriptor, size, int(tiles.offsets[number - 1]))
        if len(stream) != size:
            raise CorruptError("The file ends before its tiles do.")
        return interchange(stream, tiles.tables, is_rgb=level.photometric == "RGB")
    row, column = divmod(number - 1, level.columns)
    left, top = column * level.tile_width, row * level.tile_height
    width = min(level.tile_width, level.width - left)
    height = min(level.tile_height, level.height - top)
    rgb = np.full((level.tile_height, level.tile_width, 3), 255, np.uint8)
    rgb[:height, :width] = reader.read_level(level.number, left, top, width, height)
    return encode(rgb, level.photometric)


def encode(rgb: Rgb, photometric: str = "YBR_FULL_422") -> bytes:
    """Return pixels as baseline JPEG of this photometric interpretation."""
    buffer = io.BytesIO()
    image = Image.fromarray(rgb)
    if photometric == "RGB":
        image.save(buffer, "JPEG", quality=QUALITY, subsampling="4:4:4", keep_rgb=True)
    else:
        sampling = "4:4:4" if photometric == "YBR_FULL" else "4:2:2"
        image.save(buffer, "JPEG", quality=QUALITY, subsampling=sampling)
    return buffer.getvalue()
