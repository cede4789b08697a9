"""What a reader who may not know the patient gets of a DICOM object: pixels, and a cleaned header.

The header is the one of a de-identified export, by the same allowlist (cases.wsi.deidentify), but
under the UIDs by which the objects are asked for here. Whole files are not sent: an export is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.exceptions import PermissionDenied
from pydicom.dataset import Dataset

from cases import identity
from cases.dicomweb.served import DicomObject
from cases.models import SlideImage
from cases.services.veiled_pixels import shows_identity
from cases.wsi.attributes import searchable
from cases.wsi.deidentify.rebuild import rebuild
from cases.wsi.errors import WsiError
from cases.wsi.frame_pixels import FrameFormat
from cases.wsi.metadata import metadata_parts


class VeiledObject(DicomObject):
    """A DICOM object of a veiled slide."""

    def __init__(self, inner: DicomObject) -> None:
        self.inner, self.slide_image = inner, inner.slide_image
        self.study_uid, self.series_uid = inner.study_uid, inner.series_uid
        self.sop_uid, self.flavor = inner.sop_uid, inner.flavor
        self.transfer_syntax_uid = inner.transfer_syntax_uid
        self.frame_count, self.matrix = inner.frame_count, inner.matrix
        # No body or tag that was made for others is this reader's.
        self.version = f"{inner.version}-veiled"

    def header(self) -> Dataset:
        source = self.inner.header()
        made = cleaned(source, self.slide_image)
        made.file_meta = source.file_meta
        return made

    def packed_metadata(self) -> bytes:
        return metadata_parts(self.header(), self.path)

    def frame(self, number: int) -> bytes:
        return self.inner.frame(number)

    def frame_size(self, number: int) -> int | None:
        return self.inner.frame_size(number)

    @property
    def frame_format(self) -> FrameFormat:  # type: ignore[override]
        """Return how the frames are coded."""
        return self.inner.frame_format

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        raise PermissionDenied("Whole files name the patient. Ask for a de-identified export.")


def for_reader(found: Iterable[DicomObject]) -> list[DicomObject]:
    """Return the objects as their reader may have them."""
    return [
        VeiledObject(one) if identity.is_veiled(one.slide_image) else one
        for one in found
        if not shows_identity(one.slide_image)
    ]


def cleaned(header: Dataset, slide_image: SlideImage) -> Dataset:
    """Return what may be told of a header; nothing of one that cannot be read."""
    number = header.get("InstanceNumber")
    try:
        return rebuild(
            header, identity.pseudonyms_of(slide_image), instance_number=int(number or 1)
        )
    except (WsiError, AttributeError, KeyError, TypeError, ValueError):
        return Dataset()


def told(header: dict[str, Any], slide_image: SlideImage) -> dict[str, Any]:
    """Return the same of a header in the DICOM JSON model."""
    try:
        dataset = Dataset.from_json(json.dumps(header))
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return searchable(cleaned(dataset, slide_image))
