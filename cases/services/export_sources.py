"""What an export reads of a slide: its images of tissue, whose it is, and what points at them."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom

from cases.models import SlideImage, SlideInstance
from cases.services.store import image_path
from cases.wsi.deidentify import Identifiers, Source, Subject, is_exported, read_source
from cases.wsi.errors import NoVolumeError, UnreadableError
from cases.wsi.reader import is_dicom


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
    instances = _dicom(slide_image, identifiers)
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
