"""JPEG streams without decoding them: what their header says, and tables put back in.

ITU-T T.81 annex B for the markers; TIFF Technical Note 2 for tiles whose tables are kept once
for all (abbreviated streams).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cases.wsi.errors import CorruptError

_SOI, _EOI, _SOS, _APP14 = 0xD8, 0xD9, 0xDA, 0xEE
_BASELINE = 0xC0
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""APP14 with transform 0: the three components are red, green and blue."""


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG stream says before its entropy-coded data.

    Attributes
    ----------
    is_baseline
        Baseline DCT, 8 bit: DICOM's 1.2.840.10008.1.2.4.50.
    sampling
        Horizontal and vertical factor of each component.
    adobe_transform
        Of the Adobe marker: 0 RGB, 1 YCbCr; None without one.
    """

    is_baseline: bool
    width: int
    height: int
    sampling: tuple[tuple[int, int], ...]
    adobe_transform: int | None

    def photometric(self, is_rgb: bool) -> str:
        """Return DICOM's photometric interpretation (PS3.3 C.7.6.3.1.2, PS3.5 8.2.1).

        is_rgb: what the container says, believed where the stream itself says nothing.
        """
        if len(self.sampling) == 1:
            return "MONOCHROME2"
        if self.adobe_transform == 0 or (is_rgb and self.adobe_transform is None):
            return "RGB"
        return "YBR_FULL_422" if len(set(self.sampling)) > 1 else "YBR_FULL"


def read_header(stream: bytes) -> JpegHeader:
    """Return the header. Raises CorruptError."""
    transform, frame = None, None
    for marker, begin, end in _segments(stream):
        if marker in _FRAME_MARKERS:
            frame = (marker, stream[begin:end])
        elif marker == _APP14 and stream[begin : begin + 5] == b"Adobe" and end - begin >= 12:
            transform = stream[begin + 11]
    if frame is None or len(frame[1]) < 6:
        raise CorruptError("A JPEG tile of the file has no header.")
    bits, height, width, count = struct.unpack(">BHHB", frame[1][:6])
    parts = frame[1][6 : 6 + 3 * count]
    if len(parts) < 3 * count or not count:
        raise CorruptError("A JPEG tile of the file has no header.")
    sampling = tuple((parts[n] >> 4, parts[n] & 15) for n in range(1, 3 * count, 3))
    return JpegHeader(frame[0] == _BASELINE and bits == 8, width, height, sampling, transform)


def interchange(tile: bytes, tables: bytes, *, is_rgb: bool) -> bytes:
    """Return a tile as a stream that stands alone, its coded data untouched.

    Parameters
    ----------
    tile
        An abbreviated stream, or one with tables of its own.
    tables
        TIFF's JPEGTables: SOI, tables, EOI; empty when there are none.
    is_rgb
        Say in the stream that the components are RGB, as the TIFF does: readers of the stream
        alone would take them for YCbCr.
    """
    if tile[:2] != b"\xff\xd8":
        raise CorruptError("A JPEG tile of the file has no header.")
    head = b"\xff\xd8"
    if is_rgb and read_header(tile).adobe_transform is None:
        head += _ADOBE_RGB
    if tables:
        if tables[:2] != b"\xff\xd8":
            raise CorruptError("The file's JPEG tables are damaged.")
        end = len(tables) - 2 if tables[-2:] == b"\xff\xd9" else len(tables)
        head += tables[2:end]
    return head + tile[2:]


def _segments(stream: bytes) -> list[tuple[int, int, int]]:
    """Return (marker, begin, end) of the segments before the coded data."""
    found, place = [], 2
    while place + 4 <= len(stream):
        if stream[place] != 0xFF:
            break
        marker = stream[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker in (_SOI, _EOI) or 0xD0 <= marker <= 0xD7:
            place += 2
            continue
        (length,) = struct.unpack_from(">H", stream, place + 2)
        if length < 2 or place + 2 + length > len(stream):
            break
        found.append((marker, place + 4, place + 2 + length))
        if marker == _SOS:
            break
        place += 2 + length
    return found
