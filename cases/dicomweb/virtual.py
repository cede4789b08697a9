"""Vendors' slides (SVS, NDPI …) as DICOM series that are made while they are read.

The study is the case, the series the scan, one instance per level and one for the label. UIDs
come from the rows' ids (cases.wsi.uids), so they stay and lead back. The macro photo is left
out: it shows the printed label, too.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from cases.dicomweb.served import DicomObject
from cases.dicomweb.virtual_header import virtual_header
from cases.models import SlideImage, SlideInstance
from cases.services import pixels, store
from cases.services.slide_readers import SlideUnreadable, slide_reader
from cases.wsi.errors import WsiError
from cases.wsi.metadata import metadata_parts
from cases.wsi.uids import (
    LABEL_NUMBER,
    instance_uid,
    slide_images_of_instance,
    uid_of,
    uuid_of,
)
from cases.wsi.vendor_frames import VendorLevel, encode, read_frame, vendor_levels

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_PIXEL_DATA = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff"
_NEEDED = ("slide__case__patient", "slide__specimen", "department")


class _VendorFile:
    """A vendor's file opened for reading tiles by offset. Closed when nobody holds it."""

    def __init__(self, path: Path, levels: list[VendorLevel]) -> None:
        self.levels = levels
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self.descriptor)


@lru_cache(maxsize=64)
def _opened(_pk: UUID, _content_sha256: str, image: "_ByKey") -> _VendorFile:
    path = store.image_path(image.row)
    with slide_reader(image.row) as reader:
        return _VendorFile(path, vendor_levels(path, reader))


class _ByKey:
    """A row that takes no part in a cache's key."""

    def __init__(self, row: SlideImage) -> None:
        self.row = row

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByKey)

    def __hash__(self) -> int:
        return 0


class VirtualObject(DicomObject):
    """One level of a vendor's slide, or its label, as a VL WSI instance."""

    transfer_syntax_uid = JPEG_BASELINE

    def __init__(self, image: SlideImage, number: int) -> None:
        self.slide_image = image
        self.number = number
        case = image.slide.case
        self.study_uid, self.series_uid = uid_of(case.pk), uid_of(image.pk)
        self.sop_uid = instance_uid(image.pk, number)
        is_label = number == LABEL_NUMBER
        self.flavor = SlideInstance.Flavor.LABEL if is_label else SlideInstance.Flavor.VOLUME
        # The header shows what the records say, so it changes with them.
        changed = (row.updated_at.isoformat() for row in (image, image.slide, case, case.patient))
        facts = "/".join((image.content_sha256, *changed))
        self.version = hashlib.sha256(facts.encode()).hexdigest()[:20]

    @cached_property
    def level(self) -> VendorLevel:
        """Return the level's geometry; opens the file."""
        if self.flavor == SlideInstance.Flavor.LABEL:
            height, width = pixels.label_rgb(self.slide_image).shape[:2]
            return VendorLevel(0, width, height, width, height, "YBR_FULL_422")
        return self._file.levels[self.number - 1]

    @property
    def frame_count(self) -> int:  # type: ignore[override]
        """Return the number of frames."""
        return self.level.frame_count

    @property
    def matrix(self) -> tuple[int, int]:  # type: ignore[override]
        """Return columns and rows of the level."""
        return self.level.width, self.level.height

    def header(self) -> Dataset:
        return virtual_header(self.slide_image, self.number, self.level)

    def packed_metadata(self) -> bytes:
        return metadata_parts(self.header(), self.path)

    def frame(self, number: int) -> bytes:
        if self.flavor == SlideInstance.Flavor.LABEL:
            if number != 1:
                raise IndexError(number)
            return encode(pixels.label_rgb(self.slide_image))
        with slide_reader(self.slide_image) as reader:
            return read_frame(self.level, number, reader, self._file.descriptor)

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the file frame by frame; how long it is nobody knows before its end."""
        header = self.header()
        self.frame(1)  # what cannot be read is an error now, not in the middle
        return self._pieces(header)

    def _pieces(self, header: Dataset) -> Iterator[bytes]:
        buffer = BytesIO()
        dcmwrite(buffer, header, enforce_file_format=True)
        yield buffer.getvalue() + _PIXEL_DATA + _ITEM + b"\0\0\0\0"
        for number in range(1, self.frame_count + 1):
            frame = self.frame(number)
            padded = frame + b"\0" * (len(frame) % 2)
            yield _ITEM + struct.pack("<I", len(padded)) + padded
        yield _END

    @property
    def _file(self) -> _VendorFile:
        image = self.slide_image
        try:
            return _opened(image.pk, image.content_sha256, _ByKey(image))
        except WsiError as error:
            raise SlideUnreadable(error.message, code=error.code) from error
        except OSError as error:
            raise SlideUnreadable from error


def vendor_slides(user: Any) -> QuerySet[SlideImage]:
    """Return the vendors' slides that the user may see, with what their headers need."""
    return _of_vendors(SlideImage.objects.visible_to(user))


def _of_vendors(images: QuerySet[SlideImage]) -> QuerySet[SlideImage]:
    return images.filter(source_format=SlideImage.Format.VENDOR).select_related(*_NEEDED)


def virtual_objects(image: SlideImage) -> list[VirtualObject]:
    """Return the instances of a vendor's slide, the label too (ask for the right to it).

    Opens no file: the records say how many levels there are.
    """
    numbers = list(range(1, min(image.level_count, LABEL_NUMBER - 1) + 1))
    if image.has_label_image:
        numbers.append(LABEL_NUMBER)
    return [VirtualObject(image, number) for number in numbers]


def find_virtual(user: Any, study: str, series: str, sop: str) -> list[VirtualObject]:
    """Return what of a virtual study, series or instance the user may see."""
    case_id = uuid_of(study)
    if case_id is None:
        return []
    rows = _of_vendors(SlideImage.objects.readable_by(user)).filter(slide__case_id=case_id)
    if series:
        image_id = uuid_of(series)
        if image_id is None:
            return []
        rows = rows.filter(pk=image_id)
    if sop:
        rows = rows.filter(pk__in=slide_images_of_instance(sop))
    found = [one for image in rows for one in virtual_objects(image)]
    return [one for one in found if not sop or one.sop_uid == sop]
