"""The DICOM objects that a user may have: stored instances, what was made here, virtual slides.

`find` is the door: it asks `readable_by`, leaves out labels and overviews where the user may not
see them, and answers a missing object and a hidden one with the same 404.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
from django.db.models import QuerySet
from django.http import Http404
from pydicom.dataset import Dataset

from cases import permissions
from cases.dicomweb.served import DicomObject
from cases.dicomweb.veiled import for_reader
from cases.dicomweb.virtual import find_virtual
from cases.models import DerivedInstance, SlideInstance
from cases.services import instances
from cases.services.slide_readers import SlideUnreadable
from cases.wsi.frames import read_frame_table
from cases.wsi.metadata import metadata_parts

PIECE_BYTES = 1 << 18


def file_pieces(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Return a file in pieces. Raises SlideUnreadable at once, not in the middle.

    Open only while its turn lasts: a study has many files, and a client may go before the last.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise SlideUnreadable from error
    return _pieces(path, start, size if end is None else end)


def _pieces(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < end:
            piece = file.read(min(PIECE_BYTES, end - start))
            if not piece:
                return
            start += len(piece)
            yield piece


class _Stored(DicomObject):
    """An instance as it was sent to us."""

    def __init__(self, row: SlideInstance) -> None:
        self.row = row
        self.slide_image = row.slide_image
        self.study_uid = row.slide_image.study_instance_uid
        self.series_uid = row.slide_image.series_instance_uid
        self.sop_uid, self.flavor = row.sop_instance_uid, row.flavor
        self.transfer_syntax_uid, self.frame_count = row.transfer_syntax_uid, row.frame_count
        self.matrix = (row.total_columns, row.total_rows)
        self.version = row.sha256[:20]
        self._index: bytes | None = None

    def packed_metadata(self) -> bytes:
        if self._index is None:
            give_indexes([self])
        assert self._index is not None
        return self._index

    def header(self) -> Dataset:
        return _header(instances.instance_file(self.row))

    def frame(self, number: int) -> bytes:
        return instances.open_instance(self.row).read(number)

    def frame_size(self, number: int) -> int | None:
        return instances.open_instance(self.row).table.size(number)

    @property
    def size_bytes(self) -> int | None:
        return self.row.size_bytes

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return file_pieces(instances.instance_file(self.row), start, end)


class _Derived(DicomObject):
    """An object that was made here from a slide: small, so its header is read when asked."""

    flavor = ""

    def __init__(self, row: DerivedInstance) -> None:
        self.row = row
        self.slide_image = row.slide_image
        self.study_uid, self.series_uid = row.study_instance_uid, row.series_instance_uid
        self.sop_uid = row.sop_instance_uid
        self.transfer_syntax_uid = row.transfer_syntax_uid
        self.frame_count = row.frame_count or 0
        self.matrix = (row.columns or 0, row.rows or 0)
        self.version = row.sha256[:20]

    def packed_metadata(self) -> bytes:
        return metadata_parts(self.header(), self.path)

    def header(self) -> Dataset:
        return _header(self.row.path)

    def frame(self, number: int) -> bytes:
        try:
            _header_read, table = read_frame_table(self.row.path)
            opened = instances.InstanceFile(self.row.path, table)
        except OSError as error:
            raise SlideUnreadable from error
        return opened.read(number)

    @property
    def size_bytes(self) -> int | None:
        return self.row.size_bytes

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return file_pieces(self.row.path, start, end)


def _header(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except OSError as error:
        raise SlideUnreadable from error


def give_indexes(objects: Sequence[DicomObject]) -> None:
    """Read the metadata of many stored instances at once."""
    # Of a veiled one the header is read and cleaned each time.
    stored = [o for o in objects if isinstance(o, _Stored) and o._index is None]
    found = instances.index_ensure([o.row for o in stored])
    for one in stored:
        one._index = bytes(found[one.row.pk].metadata)


def find(user: Any, study: str, series: str = "", sop: str = "") -> list[DicomObject]:
    """Return what of a study, series or instance the user may have, never nothing.

    Raises
    ------
    Http404
        When there is nothing, hidden or missing.
    """
    found: dict[str, DicomObject] = {}
    where = (user, study, series, sop)
    for one in (*_stored(*where), *find_virtual(*where), *_derived(*where)):
        # One series may have come to two departments of the user; it is the same then.
        found.setdefault(one.sop_uid, one)
    kept = [one for one in found.values() if not one.is_private or may_see_label(user, one)]
    kept = for_reader(kept)
    if not kept:
        raise Http404
    return kept


def may_see_label(user: Any, one: DicomObject) -> bool:
    """Return whether the user may see labels of the object's department."""
    return permissions.may(user, "view_label", one.slide_image.department_id)


_SLIDE = ("slide_image__slide__case", "slide_image__department")


def _stored(user: Any, study: str, series: str, sop: str) -> list[DicomObject]:
    rows: QuerySet[SlideInstance] = SlideInstance.objects.readable_by(user).filter(
        slide_image__study_instance_uid=study, **({"sop_instance_uid": sop} if sop else {})
    )
    if series:
        rows = rows.filter(slide_image__series_instance_uid=series)
    return [_Stored(row) for row in rows.select_related(*_SLIDE)]


def _derived(user: Any, study: str, series: str, sop: str) -> list[DicomObject]:
    wanted = {"study_instance_uid": study}
    if series:
        wanted["series_instance_uid"] = series
    if sop:
        wanted["sop_instance_uid"] = sop
    rows = DerivedInstance.objects.readable_by(user).filter(**wanted)
    return [_Derived(row) for row in rows.select_related(*_SLIDE)]
