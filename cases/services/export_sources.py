"""What an export reads of a slide: its images of tissue, whose it is, and what points at them."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pydicom
from pydicom.dataset import Dataset

from cases.models import SlideImage, SlideInstance
from cases.services.slide_readers import slide_reader
from cases.services.store import image_path
from cases.wsi.deidentify import Identifiers, Source, Subject, is_exported, read_source
from cases.wsi.deidentify.vocabulary import concept_by_meaning
from cases.wsi.errors import NoVolumeError, UnreadableError
from cases.wsi.openslide_reader import OpenSlideReader
from cases.wsi.reader import is_dicom

_NO_NUMBER = re.compile(r"[^\d.,eE+-].{3,}", re.DOTALL)


@dataclass(frozen=True)
class SlideSources:
    """The instances to export, largest first, and the values that must not be in them."""

    instances: list[Source]
    identifiers: Identifiers


def subject_of(slide_image: SlideImage) -> Subject:
    """Return what tells patient, case, glass and specimen apart within a department."""
    slide = slide_image.slide
    case = slide.case
    specimen = slide.specimen.label if slide.specimen else slide.label
    accession = f"{case.accession_issuer}\0{case.accession_number}"
    return Subject(
        patient=f"{case.patient.mrn_issuer}\0{case.patient.mrn}",
        case=accession,
        container=f"{accession}\0{slide.label}",
        specimen=f"{accession}\0{specimen}",
    )


def slide_sources(slide_image: SlideImage) -> SlideSources:
    """Return what to export of a slide image.

    Raises
    ------
    WsiError
        When it cannot be read or shows no tissue.
    """
    identifiers = Identifiers()
    _add_records(identifiers, slide_image)
    if slide_image.source_format == SlideImage.Format.DICOM:
        instances = _dicom(slide_image, identifiers)
    else:
        instances = _vendor(slide_image, identifiers)
    if not instances:
        raise NoVolumeError
    return SlideSources(instances, identifiers)


def _dicom(slide_image: SlideImage, identifiers: Identifiers) -> list[Source]:
    folder = image_path(slide_image)
    rows = SlideInstance.objects.filter(slide_image=slide_image).order_by(
        "-total_columns", "sop_instance_uid"
    )
    files = [folder / name for name in rows.values_list("file_name", flat=True)]
    instances: list[Source] = []
    for file in files:
        if not file.is_file() or not is_dicom(file):
            raise UnreadableError
        header = _header(file)
        # Label and overview too: what they say must not be found either.
        identifiers.add_header(header)
        identifiers.add_header(header.file_meta)
        if is_exported(header):
            instances.append(read_source(file))
    return instances


class VirtualInstance(Protocol):
    """An image of a vendor's file in DICOM's terms."""

    flavor: str
    transfer_syntax_uid: str

    @property
    def frame_count(self) -> int:
        """Return the number of frames."""

    def header(self) -> Dataset:
        """Return the header without pixel data."""

    def frame(self, number: int) -> bytes:
        """Return a frame (from 1)."""


_virtual: list[Callable[[SlideImage], Sequence[VirtualInstance]]] = []


def use_virtual(make: Callable[[SlideImage], Sequence[VirtualInstance]]) -> None:
    """Say what shows a vendor's slide as DICOM: DICOMweb does, and knows these services."""
    _virtual[:] = [make]


class _VirtualSource:
    """A virtual instance as a source of an export."""

    def __init__(self, slide_image: SlideImage, instance: VirtualInstance) -> None:
        self._instance = instance
        self.header = instance.header()
        self.transfer_syntax_uid = instance.transfer_syntax_uid
        self.frame_count = instance.frame_count
        self.native_frame_bytes = self.header.Rows * self.header.Columns * 3
        self.size_bytes = slide_image.size_bytes
        specimen = slide_image.slide.specimen
        organ = concept_by_meaning(specimen.organ) if specimen is not None else None
        if organ is not None:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator = organ.value, organ.scheme
            item.CodeMeaning = organ.meaning
            described = self.header.SpecimenDescriptionSequence[0]
            described.PrimaryAnatomicStructureSequence = [item]

    def frames(self) -> Iterator[bytes]:
        for number in range(1, self.frame_count + 1):
            yield self._instance.frame(number)


def _vendor(slide_image: SlideImage, identifiers: Identifiers) -> list[Source]:
    with slide_reader(slide_image) as reader:
        # What the scanner wrote beside the picture: names, dates, barcodes, serial numbers.
        properties = reader.properties if isinstance(reader, OpenSlideReader) else {}
        identifiers.add(*(value for value in properties.values() if _NO_NUMBER.search(value)))
    instances: list[Source] = []
    for one in _virtual[0](slide_image):
        header = one.header()
        identifiers.add_header(header)
        if is_exported(header):
            instances.append(_VirtualSource(slide_image, one))
    return instances


def _header(file: Path) -> pydicom.FileDataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(file, stop_before_pixels=True)


def _add_records(identifiers: Identifiers, slide_image: SlideImage) -> None:
    """Add what the rows say of patient, case, glass and scan."""
    slide, department = slide_image.slide, slide_image.department
    case, patient = slide.case, slide.case.patient
    identifiers.add(
        patient.family_name,
        patient.given_name,
        f"{patient.family_name}^{patient.given_name}",
        f"{patient.given_name} {patient.family_name}",
        patient.mrn,
        patient.mrn_issuer,
        case.accession_number,
        case.accession_issuer,
        slide.label_barcode,
        department.name,
        department.code,
        str(slide_image.pk),
        str(patient.pk),
        str(case.pk),
        always=True,
    )
    identifiers.add(slide.label)
    if slide.specimen is not None:
        identifiers.add(slide.specimen.description, slide.specimen.label)
    if slide.block is not None:
        identifiers.add(slide.block.label, slide.block.description)
    identifiers.add_date(patient.birth_date)
    identifiers.add_date(case.received_on)
    if slide_image.scanned_at is not None:
        identifiers.add_date(slide_image.scanned_at.date())
    for uid in (slide_image.study_instance_uid, slide_image.series_instance_uid):
        if uid:
            identifiers.uids.add(uid)
