"""The header of one DICOM instance, and whether its pixel data is all there.

Pixels are not decoded here. Names of attributes are the standard's (PS3.3 A.32.8).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    VLWholeSlideMicroscopyImageStorage,
)

from cases.wsi.delivery import Limits
from cases.wsi.errors import (
    AbsurdDimensionsError,
    CorruptError,
    NotWsiDicomError,
    TruncatedError,
    UnsupportedImageError,
    UnsupportedTransferSyntaxError,
)
from cases.wsi.values import clean_text
from cases.wsi.wsidicom_reader import can_decode

FLAVORS = frozenset(("volume", "thumbnail", "label", "overview"))
MAX_TILE_PIXELS = 100_000_000
MAX_MM_PER_PIXEL = 1.0
MIN_MM_PER_PIXEL = 0.00001
SERIES_UID = 0x0020000E
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Header:
    """One instance's header.

    Attributes
    ----------
    file
        Where it was read from.
    dataset
        Everything before the pixel data.
    """

    file: Path
    dataset: Dataset
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    flavor: str
    total_columns: int
    total_rows: int
    frame_count: int


def read_uids(path: Path) -> tuple[str, str]:
    """Return series and SOP instance UID, empty when the header is cut before they are sure."""
    try:
        with path.open("rb") as file:
            dataset = read_partial(file, stop_when=lambda tag, vr, length: tag > SERIES_UID)
            if file.tell() >= path.stat().st_size:
                return "", ""  # the last value may be the beginning of one
        return (
            clean_text(dataset.get("SeriesInstanceUID"), 64),
            clean_text(dataset.get("SOPInstanceUID"), 64),
        )
    except MemoryError:
        raise
    except Exception:  # a cut or broken header fails in many ways
        return "", ""


def read_header(path: Path, limits: Limits) -> Header:
    """Return the header after checking that the instance can be a part of a slide.

    Raises
    ------
    WsiError
        `not_wsi_dicom`, `unsupported_transfer_syntax`, `unsupported_image`, `truncated`,
        `corrupt` or `absurd_dimensions`.
    """
    with path.open("rb") as file:
        dataset = _read_dataset(path, file)
        _require_wsi(dataset)
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
        has_pixels = file.read(4) == _PIXEL_DATA
        header = _header(path, dataset, syntax, has_pixels)
        _require_decodable(dataset, syntax)
        _require_plausible(dataset, header, limits)
        file.seek(-4, 1)
        _require_pixel_data(file, dataset, header, path.stat().st_size)
    return header


def _read_dataset(path: Path, file: BinaryIO) -> Dataset:
    try:
        # Read first: the whole of a deflated dataset would be inflated into memory.
        if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            raise UnsupportedTransferSyntaxError("Deflated DICOM files are not supported.")
        return pydicom.dcmread(file, stop_before_pixels=True)
    except InvalidDicomError as error:
        raise NotWsiDicomError("This is no DICOM file.") from error
    except (EOFError, struct.error) as error:
        raise TruncatedError from error
    except (MemoryError, UnsupportedTransferSyntaxError):
        raise
    except Exception as error:  # pydicom raises what the broken value leads to
        raise CorruptError("The DICOM header cannot be read.") from error


def _require_wsi(dataset: Dataset) -> None:
    sop_class = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    if not sop_class:
        raise TruncatedError("The DICOM header is cut off or names no SOP class.")
    if sop_class != VLWholeSlideMicroscopyImageStorage:
        name = clean_text(getattr(sop_class, "name", ""), 80)
        raise NotWsiDicomError(
            f"This DICOM object is a {name}, not a VL Whole Slide Microscopy Image."
        )
    modality = clean_text(dataset.get("Modality"), 16)
    if modality and modality != "SM":  # PS3.3 C.8.12.4 knows no other
        raise NotWsiDicomError(f"The modality of this DICOM object is {modality}, not SM.")


def _header(path: Path, dataset: Dataset, syntax: str, has_pixels: bool) -> Header:
    """Return the required attributes, or raise whether they are missing or cut off."""
    try:
        image_type = [str(value).casefold() for value in dataset.ImageType]
        header = Header(
            file=path,
            dataset=dataset,
            sop_instance_uid=_uid(dataset, "SOPInstanceUID"),
            series_instance_uid=_uid(dataset, "SeriesInstanceUID"),
            study_instance_uid=_uid(dataset, "StudyInstanceUID"),
            transfer_syntax_uid=syntax,
            flavor=image_type[2] if len(image_type) > 2 else "",
            total_columns=int(dataset.TotalPixelMatrixColumns),
            total_rows=int(dataset.TotalPixelMatrixRows),
            frame_count=int(dataset.get("NumberOfFrames") or 1),
        )
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
        if not has_pixels:
            raise TruncatedError("The DICOM header is cut off.") from error
        raise CorruptError("The DICOM header lacks what a slide image must say.") from error
    if not has_pixels:
        raise TruncatedError("The DICOM file ends before its pixel data.")
    if header.flavor not in FLAVORS:
        raise UnsupportedImageError(
            "The third value of ImageType is not VOLUME, THUMBNAIL, LABEL or OVERVIEW."
        )
    return header


def _uid(dataset: Dataset, name: str) -> str:
    value = str(dataset[name].value)
    if not value or len(value) > 64 or not all(part.isdigit() for part in value.split(".")):
        raise ValueError(name)
    return value


def _require_decodable(dataset: Dataset, syntax: str) -> None:
    try:
        samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsStored)
        photometric = str(dataset.PhotometricInterpretation)
    except (AttributeError, TypeError, ValueError) as error:
        raise CorruptError("The DICOM header does not say how its pixels are coded.") from error
    if not can_decode(syntax, samples, bits, photometric):
        name = clean_text(UID(syntax).name, 80) or "none"
        raise UnsupportedTransferSyntaxError(
            f"The DICOM transfer syntax is not supported: {name}, {photometric}, {bits} bit."
        )


def _require_plausible(dataset: Dataset, header: Header, limits: Limits) -> None:
    """Raise for sizes and spacings that no scanner makes, and frames that do not add up."""
    columns, rows = header.total_columns, header.total_rows
    tile_columns, tile_rows = int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0)
    if min(columns, rows, tile_columns, tile_rows, header.frame_count) < 1:
        raise AbsurdDimensionsError("The image claims to have no pixels.")
    if (
        max(columns, rows) > limits.max_side
        or columns * rows > limits.max_pixels
        or tile_columns * tile_rows > MAX_TILE_PIXELS
    ):
        raise AbsurdDimensionsError(f"The image claims {columns} x {rows} pixels.")
    if header.flavor != "volume":
        return
    for spacing in _spacing(dataset):
        # The last levels of a pyramid are a few pixels, each of many millimetres.
        if spacing < MIN_MM_PER_PIXEL or (spacing > MAX_MM_PER_PIXEL and columns > 64):
            raise AbsurdDimensionsError(
                f"The image claims pixels of {spacing:g} mm. DICOM says spacing in millimetres."
            )
    if str(dataset.get("DimensionOrganizationType", "")) == "TILED_FULL" and not dataset.get(
        "ConcatenationUID"
    ):
        tiles = math.ceil(columns / tile_columns) * math.ceil(rows / tile_rows)
        if header.frame_count < tiles:
            raise CorruptError(f"The image needs {tiles} frames and has {header.frame_count}.")


def _spacing(dataset: Dataset) -> tuple[float, ...]:
    """Return the pixel spacing in mm (rows, columns), empty when it is not said."""
    try:
        values = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        return tuple(float(value) for value in values)
    except (AttributeError, IndexError, TypeError, ValueError):
        return ()


def _require_pixel_data(file: BinaryIO, dataset: Any, header: Header, size: int) -> None:
    """Raise TruncatedError unless every announced frame lies in the file.

    `file` stands at the tag of the pixel data.
    """
    is_implicit = header.transfer_syntax_uid == ImplicitVRLittleEndian
    begin = file.read(8 if is_implicit else 12)
    if len(begin) < (8 if is_implicit else 12):
        raise TruncatedError
    (length,) = struct.unpack("<I", begin[-4:])
    if length != _UNDEFINED:
        bits = int(dataset.BitsAllocated) * int(dataset.SamplesPerPixel)
        needed = header.frame_count * int(dataset.Rows) * int(dataset.Columns) * bits // 8
        if file.tell() + max(length, needed) > size or length < needed:
            raise TruncatedError
        return
    items, position = -1, file.tell()  # the first item is the offset table
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise TruncatedError
        (item_length,) = struct.unpack("<I", head[4:])
        if head[:4] == _DELIMITER:
            break
        if head[:4] != _ITEM or item_length == _UNDEFINED:
            raise CorruptError("The DICOM pixel data is not made of frames as it should be.")
        position += 8 + item_length
        if position > size:
            raise TruncatedError
        file.seek(position)
        items += 1
    if items > header.frame_count:
        raise UnsupportedImageError(
            "Frames of this DICOM image lie in several fragments each. Export one a frame."
        )
    if items < header.frame_count:
        raise TruncatedError(f"The DICOM image announces {header.frame_count} frames, has {items}.")
