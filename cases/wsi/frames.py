"""Where the frames of a DICOM instance lie in its file, so that one is served by reading it.

Encapsulated pixel data is a run of items (PS3.5 A.4): an offset table, then fragments, each
after 8 bytes of tag and length. Fragments are contiguous, so their lengths say everything.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from cases.wsi.errors import CorruptError, TruncatedError

ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
UNDEFINED = 0xFFFFFFFF
ITEM_HEAD = 8
_HEAD = struct.Struct("<cQQII")
_NATIVE, _ONE_EACH, _FRAGMENTS = b"N", b"E", b"F"
_END_OF_IMAGE = b"\xff\xd9"
Span = tuple[int, int]
"""Offset in the file and length, in bytes."""


@dataclass(frozen=True)
class FrameTable:
    """Byte spans of all frames of one instance.

    Attributes
    ----------
    frame_count
        Number of frames.
    is_native
        Uncompressed: frames of equal length follow each other without a gap.
    start
        Offset of the first frame, or of the first fragment's bytes.
    frame_length
        Bytes of a native frame, 0 when encapsulated.
    """

    frame_count: int
    is_native: bool
    start: int
    frame_length: int
    _offsets: npt.NDArray[np.uint64] | None = None
    _lengths: npt.NDArray[np.uint32] | None = None
    _first: npt.NDArray[np.uint32] | None = None

    def spans(self, number: int) -> list[Span]:
        """Return where frame `number` (from 1) lies: one span per fragment.

        Raises
        ------
        IndexError
            When there is no such frame.
        """
        if not 1 <= number <= self.frame_count:
            raise IndexError(number)
        if self._offsets is None or self._lengths is None:
            return [(self.start + (number - 1) * self.frame_length, self.frame_length)]
        first, last = number - 1, number
        if self._first is not None:
            first, last = int(self._first[number - 1]), int(self._first[number])
        return [(int(self._offsets[i]), int(self._lengths[i])) for i in range(first, last)]

    def size(self, number: int) -> int:
        """Return the bytes of a frame; IndexError when there is none."""
        return sum(length for _offset, length in self.spans(number))

    @property
    def total_bytes(self) -> int:
        """Return the bytes of all frames together."""
        if self._lengths is None:
            return self.frame_count * self.frame_length
        return int(self._lengths.sum(dtype=np.uint64))

    def pack(self) -> bytes:
        """Return the table as bytes: about two per frame."""
        kind = _NATIVE if self.is_native else _ONE_EACH if self._first is None else _FRAGMENTS
        fragments = 0 if self._lengths is None else len(self._lengths)
        head = _HEAD.pack(kind, self.start, self.frame_length, self.frame_count, fragments)
        arrays = [a.tobytes() for a in (self._lengths, self._first) if a is not None]
        return head + (zlib.compress(b"".join(arrays), 6) if arrays else b"")

    @classmethod
    def unpack(cls, data: bytes) -> FrameTable:
        """Return the table that `pack` described."""
        kind, start, frame_length, frames, fragments = _HEAD.unpack_from(data)
        if kind == _NATIVE:
            return cls(frames, True, start, frame_length)
        values = np.frombuffer(zlib.decompress(data[_HEAD.size :]), "<u4")
        lengths = values[:fragments]
        first = values[fragments:] if kind == _FRAGMENTS else None
        return cls(frames, False, start, 0, _offsets(start, lengths), lengths, first)


def _offsets(start: int, lengths: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    steps = np.zeros(len(lengths), np.uint64)
    steps[1:] = lengths[:-1].astype(np.uint64) + np.uint64(ITEM_HEAD)
    return np.asarray(np.cumsum(steps) + np.uint64(start), np.uint64)


def read_frame_table(path: Path) -> tuple[Dataset, FrameTable]:
    """Return the header of an instance and where its frames lie.

    Raises
    ------
    WsiError
        `truncated`, or `corrupt` when the fragments cannot be told apart into frames.
    """
    with path.open("rb") as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        return dataset, scan_frames(file, dataset, path.stat().st_size)


def scan_frames(file: BinaryIO, dataset: Any, size: int) -> FrameTable:
    """Return the table; `file` stands at the tag of the pixel data, `size` is the file's.

    Parameters
    ----------
    dataset
        The header, with its file meta information.
    """
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    begin = file.read(8 if syntax == ImplicitVRLittleEndian else 12)
    if len(begin) < 8:
        raise TruncatedError
    (length,) = struct.unpack("<I", begin[-4:])
    frames = int(dataset.get("NumberOfFrames") or 1)
    if length != UNDEFINED:
        # YBR_FULL_422 without compression has two samples per pixel (PS3.3 C.7.6.3.1.2).
        samples = int(dataset.SamplesPerPixel)
        if str(dataset.get("PhotometricInterpretation", "")) == "YBR_FULL_422" and samples == 3:
            samples = 2
        bits = int(dataset.Rows) * int(dataset.Columns) * samples * int(dataset.BitsAllocated)
        if bits % 8 or frames * bits // 8 > length or file.tell() + length > size:
            raise TruncatedError
        return FrameTable(frames, True, file.tell(), bits // 8)
    start, table, lengths, are_ends = _walk(file, size)
    first = _first_fragments(dataset, frames, start, table, lengths, are_ends)
    offsets = _offsets(start, lengths)
    return FrameTable(frames, False, start, 0, offsets, lengths, first)


def _walk(
    file: BinaryIO, size: int
) -> tuple[int, npt.NDArray[np.uint32], npt.NDArray[np.uint32], list[bool]]:
    """Return where fragments begin, the basic offset table, lengths, and who ends an image."""
    head = file.read(ITEM_HEAD)
    if len(head) < ITEM_HEAD:
        raise TruncatedError
    (table_length,) = struct.unpack("<I", head[4:])
    if head[:4] != ITEM or table_length % 4 or file.tell() + table_length > size:
        raise CorruptError("The DICOM pixel data does not begin with an offset table.")
    table = np.frombuffer(file.read(table_length), "<u4")
    start = file.tell() + ITEM_HEAD
    lengths: list[int] = []
    are_ends: list[bool] = []
    position = file.tell()
    while True:
        head = file.read(ITEM_HEAD)
        if len(head) < ITEM_HEAD:
            raise TruncatedError
        if head[:4] == DELIMITER:
            break
        (length,) = struct.unpack("<I", head[4:])
        if head[:4] != ITEM or length == UNDEFINED:
            raise CorruptError("The DICOM pixel data is not made of frames as it should be.")
        position += ITEM_HEAD + length
        if position > size:
            raise TruncatedError
        file.seek(max(position - 4, position - length))
        are_ends.append(_END_OF_IMAGE in file.read(min(4, length)))
        lengths.append(length)
    return start, table, np.asarray(lengths, "<u4"), are_ends


def _first_fragments(
    dataset: Any,
    frames: int,
    start: int,
    table: npt.NDArray[np.uint32],
    lengths: npt.NDArray[np.uint32],
    are_ends: list[bool],
) -> npt.NDArray[np.uint32] | None:
    """Return the number of each frame's first fragment and of the end; None for one each."""
    count = len(lengths)
    if count == frames:
        return None
    if frames == 1:
        return np.asarray([0, count], "<u4")
    begins = np.asarray(table, np.uint64)
    extended = dataset.get("ExtendedOffsetTable")
    if isinstance(extended, bytes) and len(extended) == frames * 8:
        begins = np.frombuffer(extended, "<u8")
    if len(begins) == frames:
        # Offsets count from the first fragment's item tag (PS3.5 A.4).
        positions = _offsets(start, lengths) - np.uint64(start)
        first = np.searchsorted(positions, begins)
        if first[0] == 0 and np.array_equal(positions[np.minimum(first, count - 1)], begins):
            return np.asarray([*first, count], "<u4")
    ends = [number + 1 for number, is_end in enumerate(are_ends) if is_end]
    if len(ends) == frames and ends[-1] == count:
        return np.asarray([0, *ends], "<u4")
    raise CorruptError("The fragments of the DICOM pixel data cannot be told apart into frames.")
