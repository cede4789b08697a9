"""Writes an exported instance: a header from the allowlist, frames copied, nothing else."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from cases.wsi.deidentify.frames import clean_frame
from cases.wsi.deidentify.rebuild import rebuild
from cases.wsi.deidentify.source import NATIVE, Source, read_source
from cases.wsi.deidentify.subject import Pseudonyms
from cases.wsi.errors import CorruptError

IMPLEMENTATION_UID = UID("2.25.147013281939016270104914325480931253013")
IMPLEMENTATION_NAME = "PATHSEARCH_EXPORT"[:16]
_ITEM = b"\xfe\xff\x00\xe0"
_END = b"\xfe\xff\xdd\xe0" + bytes(4)
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
# Offsets of the basic table have 32 bits; from here on the extended one is written.
_BASIC_TABLE_MAX = 2**32 - 2**16


@dataclass(frozen=True)
class Written:
    """An exported instance.

    Attributes
    ----------
    frames, frames_changed
        How many there are, and of how many something was taken out.
    """

    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    columns: int
    rows: int
    frames: int
    frames_changed: int
    size_bytes: int


def is_exported(header: Dataset) -> bool:
    """Return whether an instance goes into an export: images of the tissue at full pyramid.

    Label and overview show who the patient is; a thumbnail may, and is not needed.
    """
    image_type = [str(value).strip().upper() for value in header.get("ImageType") or ()]
    return len(image_type) > 2 and image_type[2] == "VOLUME"


def export_file(
    source: Path,
    target: Path,
    names: Pseudonyms,
    *,
    instance_number: int,
    tick: Callable[[int], None] = lambda done: None,
) -> Written:
    """Write the de-identified copy of a DICOM file; see `export_instance`."""
    return export_instance(
        read_source(source), target, names, instance_number=instance_number, tick=tick
    )


def export_instance(
    source: Source,
    target: Path,
    names: Pseudonyms,
    *,
    instance_number: int,
    tick: Callable[[int], None] = lambda done: None,
) -> Written:
    """Write the de-identified copy of a VOLUME instance, one frame in memory at a time.

    Parameters
    ----------
    tick
        Called with the bytes written so far, after each frame; it may raise to stop.

    Raises
    ------
    WsiError
        When the source cannot be copied, or its pixels identify somebody (`burned_in`).
    """
    header = rebuild(source.header, names, instance_number=instance_number)
    is_native = source.transfer_syntax_uid in NATIVE
    syntax = ExplicitVRLittleEndian if is_native else UID(source.transfer_syntax_uid)
    changed = 0

    def frames() -> Iterator[bytes]:
        nonlocal changed
        changed = 0
        for frame in source.frames():
            cleaned = frame if is_native else clean_frame(frame, source.transfer_syntax_uid)
            changed += cleaned is not frame
            yield cleaned

    if not is_native and source.size_bytes > _BASIC_TABLE_MAX:
        _add_extended_table(header, frames())
    _add_file_meta(header, syntax)
    with target.open("wb") as file:
        _write_header(file, header)
        if is_native:
            count = _write_native(file, frames(), source, tick)
        else:
            count = _write_encapsulated(file, frames(), header, tick)
    if count != source.frame_count:
        raise CorruptError(f"The image announces {source.frame_count} frames, has {count}.")
    return Written(
        sop_instance_uid=header.SOPInstanceUID,
        series_instance_uid=header.SeriesInstanceUID,
        study_instance_uid=header.StudyInstanceUID,
        columns=int(header.TotalPixelMatrixColumns),
        rows=int(header.TotalPixelMatrixRows),
        frames=count,
        frames_changed=changed,
        size_bytes=target.stat().st_size,
    )


def _add_file_meta(header: Dataset, syntax: UID) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    header.file_meta = meta


def _write_header(file: io.BufferedWriter, header: Dataset) -> None:
    buffer = io.BytesIO()
    dcmwrite(buffer, header, enforce_file_format=True)
    file.write(buffer.getvalue())


def _write_native(
    file: io.BufferedWriter,
    frames: Iterable[bytes],
    source: Source,
    tick: Callable[[int], None],
) -> int:
    length = source.native_frame_bytes * source.frame_count
    vr = b"OB" if int(source.header.BitsAllocated) <= 8 else b"OW"
    file.write(_PIXEL_DATA + vr + bytes(2) + struct.pack("<I", length + length % 2))
    count = 0
    for frame in frames:
        file.write(frame)
        count += 1
        tick(file.tell())
    file.write(bytes(length % 2))
    return count


def _write_encapsulated(
    file: io.BufferedWriter,
    frames: Iterable[bytes],
    header: Dataset,
    tick: Callable[[int], None],
) -> int:
    """Write one fragment a frame (PS3.5 A.4) and, without an extended one, the basic table."""
    expected = 0 if "ExtendedOffsetTable" in header else int(header.get("NumberOfFrames") or 1)
    file.write(_PIXEL_DATA + b"OB" + bytes(2) + b"\xff\xff\xff\xff")
    file.write(_ITEM + struct.pack("<I", 4 * expected))
    table_at = file.tell()
    file.write(bytes(4 * expected))
    begin, offsets = file.tell(), []
    for frame in frames:
        offsets.append(file.tell() - begin)
        padded = frame + bytes(len(frame) % 2)
        file.write(_ITEM + struct.pack("<I", len(padded)) + padded)
        tick(file.tell())
    file.write(_END)
    if expected == len(offsets):
        file.seek(table_at)
        file.write(struct.pack(f"<{expected}I", *offsets))
    return len(offsets)


def _add_extended_table(header: Dataset, frames: Iterable[bytes]) -> None:
    """Add the extended offset table (PS3.3 C.7.6.3.1.8), from a first reading of the frames."""
    lengths = [len(frame) for frame in frames]
    offsets, at = [], 0
    for length in lengths:
        offsets.append(at)
        at += 8 + length + length % 2
    header.ExtendedOffsetTable = struct.pack(f"<{len(offsets)}Q", *offsets)
    header.ExtendedOffsetTableLengths = struct.pack(f"<{len(lengths)}Q", *lengths)
