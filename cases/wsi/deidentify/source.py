"""Reads the header and, one by one, the frames of a DICOM file."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cases.wsi.deidentify.frames import ENCAPSULATED
from cases.wsi.errors import CorruptError, TruncatedError, UnsupportedTransferSyntaxError

NATIVE = frozenset(map(str, (ImplicitVRLittleEndian, ExplicitVRLittleEndian)))
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_UNDEFINED = 0xFFFFFFFF


class Source(Protocol):
    """What an export copies: a DICOM file, or an image that is made up from another format.

    Attributes
    ----------
    header
        Everything before the pixel data.
    frame_count
        How many frames there are.
    native_frame_bytes
        Bytes of one uncompressed frame.
    size_bytes
        About how many bytes it has.
    """

    @property
    def header(self) -> Dataset: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def frame_count(self) -> int: ...
    @property
    def native_frame_bytes(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...

    def frames(self) -> Iterator[bytes]:
        """Yield the frames as they are coded, one at a time."""
        ...


@dataclass(frozen=True)
class SourceInstance:
    """A DICOM file: what stands before its pixel data, and where that begins.

    Attributes
    ----------
    header
        Everything before the pixel data.
    pixels_at
        Where the value of the pixel data begins.
    pixels_length
        Its length in bytes, or None when it is encapsulated.
    """

    path: Path
    header: Dataset
    transfer_syntax_uid: str
    pixels_at: int
    pixels_length: int | None

    @property
    def frame_count(self) -> int:
        """Return how many frames the header announces."""
        return int(self.header.get("NumberOfFrames") or 1)

    @property
    def size_bytes(self) -> int:
        """Return the size of the file."""
        return self.path.stat().st_size

    @property
    def native_frame_bytes(self) -> int:
        """Return the bytes of one uncompressed frame."""
        d = self.header
        bits = int(d.Rows) * int(d.Columns) * int(d.SamplesPerPixel) * int(d.BitsAllocated)
        return bits // 8

    def frames(self) -> Iterator[bytes]:
        """Yield the frames as they are coded; each is in memory alone."""
        with self.path.open("rb") as file:
            file.seek(self.pixels_at)
            if self.pixels_length is None:
                yield from self._encapsulated(file)
                return
            for _number in range(self.frame_count):
                frame = file.read(self.native_frame_bytes)
                if len(frame) < self.native_frame_bytes:
                    raise TruncatedError
                yield frame

    def _encapsulated(self, file: BinaryIO) -> Iterator[bytes]:
        offsets = self.header.get("ExtendedOffsetTable")
        lengths = self.header.get("ExtendedOffsetTableLengths")
        tables = (offsets, lengths) if offsets and lengths else None
        count = 0
        try:
            for frame in generate_frames(
                file, number_of_frames=self.frame_count, extended_offsets=tables
            ):
                count += 1
                yield frame
        except (ValueError, struct.error, EOFError) as error:
            raise CorruptError from error
        if count != self.frame_count:
            raise CorruptError(f"The image announces {self.frame_count} frames, has {count}.")


def read_source(path: Path) -> SourceInstance:
    """Return the instance, its header parsed.

    Raises
    ------
    WsiError
        `truncated` without pixel data, `unsupported_transfer_syntax` for other codecs than
        `frames.clean_frame` knows.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are read, judged by the rules, and left out
        header = pydicom.dcmread(file, stop_before_pixels=True)
        syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
        if syntax not in NATIVE | ENCAPSULATED:
            raise UnsupportedTransferSyntaxError
        begin = file.read(8 if syntax == ImplicitVRLittleEndian else 12)
        if begin[:4] != _PIXEL_DATA or len(begin) < 8:
            raise TruncatedError("The DICOM file ends before its pixel data.")
        (length,) = struct.unpack("<I", begin[-4:])
        if (length == _UNDEFINED) != (syntax in ENCAPSULATED):
            raise CorruptError
        return SourceInstance(
            path, header, syntax, file.tell(), None if length == _UNDEFINED else length
        )
