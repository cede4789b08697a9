"""A DICOM series as one slide: do its instances belong together, and what do they say?"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pydicom.dataset import Dataset

from cases.wsi.attributes import searchable
from cases.wsi.delivery import FoundInstance, FoundSlide
from cases.wsi.dicom import Header
from cases.wsi.errors import (
    ConflictingInstancesError,
    MissingFilesError,
    MixedPatientsError,
    NoVolumeError,
)
from cases.wsi.frames import read_frame_table
from cases.wsi.metadata import instance_path, metadata_parts
from cases.wsi.stains import stain_of
from cases.wsi.values import clean_text, iso_date, iso_time, sha256_of_set
from cases.wsi.wsidicom_reader import WsiDicomReader

MAX_METADATA_BYTES = 4 * 2**20
"""Of one instance, compressed: what travels to the parent as one line is bounded there."""

_EPIFLUORESCENCE = "111743"  # DCM code of PS3.16 CID 8123
_DATE_TIMES = ("%Y%m%d%H%M%S.%f%z", "%Y%m%d%H%M%S%z", "%Y%m%d%H%M%S.%f", "%Y%m%d%H%M%S")


def require_one_image(headers: Sequence[Header], hashes: Mapping[str, str]) -> list[Header]:
    """Return the instances of a series, each once, after checking that they are one slide.

    Parameters
    ----------
    headers
        All files of the delivery that carry the series' UID.
    hashes
        sha256 by file, as text of the path.

    Raises
    ------
    WsiError
        `conflicting_instances` or `mixed_patients`.
    """
    once: dict[str, Header] = {}
    for header in sorted(headers, key=lambda header: str(header.file)):
        known = once.setdefault(header.sop_instance_uid, header)
        if hashes[str(known.file)] != hashes[str(header.file)]:
            raise ConflictingInstancesError
    kept = list(once.values())
    if len({header.study_instance_uid for header in kept}) > 1:
        raise ConflictingInstancesError("Instances of one series name different studies.")
    if _differ(kept, "AccessionNumber"):
        raise ConflictingInstancesError("Instances of one series name different accessions.")
    if _differ(kept, "PatientID") or _differ(kept, "IssuerOfPatientID"):
        raise MixedPatientsError
    if _differ(kept, "PatientBirthDate") or (
        not _first(kept, "PatientID") and _differ(kept, "PatientName")
    ):
        raise MixedPatientsError
    return kept


def require_whole(headers: Sequence[Header]) -> None:
    """Raise when there is no image of the tissue, or one that lacks some of its parts.

    Raises
    ------
    WsiError
        `no_volume_image` or `missing_files`: a part of a concatenation (PS3.3 C.7.6.16.2.2.4).
    """
    if not any(header.flavor == "volume" for header in headers):
        raise NoVolumeError
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    for header in headers:
        uid = clean_text(header.dataset.get("ConcatenationUID"), 64)
        if uid:
            parts.setdefault(uid, set()).add(int(header.dataset.get("InConcatenationNumber") or 0))
            total = int(header.dataset.get("InConcatenationTotalNumber") or 0)
            totals[uid] = max(total, totals.get(uid, 0))
    if any(len(numbers) < totals[uid] for uid, numbers in parts.items()):
        raise MissingFilesError("Parts of a concatenated DICOM image are missing.")


def describe(
    reader: WsiDicomReader | None,
    headers: Sequence[Header],
    names: Mapping[str, str],
    hashes: Mapping[str, str],
    *,
    name: str,
    lacks: str = "",
) -> FoundSlide:
    """Return what the series says.

    Parameters
    ----------
    reader
        The series, opened; None for pieces that are no slide yet.
    headers
        Its instances, as `require_one_image` returned them.
    names
        Path relative to the examined folder by file, as text of the path.
    hashes
        sha256 by file.
    name
        How people know the series.
    """
    instances = tuple(
        FoundInstance(
            sop_instance_uid=header.sop_instance_uid,
            sha256=hashes[str(header.file)],
            flavor=header.flavor,
            file=names[str(header.file)],
            size_bytes=header.file.stat().st_size,
            total_columns=header.total_columns,
            total_rows=header.total_rows,
            frame_count=header.frame_count,
            transfer_syntax_uid=header.transfer_syntax_uid,
            **_index(header),
        )
        for header in headers
    )
    volumes = sorted(
        (header for header in headers if header.flavor == "volume"),
        key=lambda header: (-header.total_columns, header.sop_instance_uid),
    )
    ordered = [*volumes, *(header for header in headers if header.flavor != "volume")]
    return FoundSlide(
        key=headers[0].series_instance_uid,
        name=name,
        files=tuple(sorted(instance.file for instance in instances)),
        main_file="",
        source_format="dicom",
        vendor="dicom",
        content_sha256=sha256_of_set(instance.sha256 for instance in instances),
        size_bytes=sum(instance.size_bytes for instance in instances),
        width_l0=reader.width_l0 if reader else 0,
        height_l0=reader.height_l0 if reader else 0,
        level_count=reader.level_count if reader else 0,
        mpp=reader.mpp if reader else None,
        mpp_source=reader.mpp_source if reader else "",
        objective_power=reader.objective_power if reader else None,
        is_fluorescence=any(_is_fluorescence(header.dataset) for header in volumes),
        has_label_image=any(header.flavor == "label" for header in headers),
        lacks=lacks,
        study_instance_uid=headers[0].study_instance_uid,
        series_instance_uid=headers[0].series_instance_uid,
        instances=instances,
        **_facts(ordered),
    )


def _index(header: Header) -> dict[str, Any]:
    """Return what is searched, metadata and frame table: nobody need parse the file again."""
    dataset, table = read_frame_table(header.file)
    metadata = metadata_parts(dataset, instance_path(dataset))
    attributes = searchable(dataset)
    if len(metadata) > MAX_METADATA_BYTES:
        return {"attributes": attributes}
    return {
        "attributes": attributes,
        "metadata": base64.b64encode(metadata).decode(),
        "frame_table": base64.b64encode(table.pack()).decode(),
    }


def series_name(files: Sequence[str], series_instance_uid: str) -> str:
    """Return the folder that holds the series, or its one file, or the end of its UID."""
    if len(files) == 1:
        return files[0]
    folders = {str(PurePosixPath(file).parent) for file in files}
    folder = folders.pop()
    if not folders and folder != ".":
        return folder
    return f"DICOM series …{series_instance_uid[-12:]}"


def _facts(headers: Sequence[Header]) -> dict[str, str]:
    """Return patient, case, specimen and scanner, from the first instance that says each."""
    person = _first_value(headers, "PatientName")
    sex = _first(headers, "PatientSex", 16).upper()
    maker = [_first(headers, name, 60) for name in ("Manufacturer", "ManufacturerModelName")]
    when = _first(headers, "AcquisitionDateTime", 26)
    return {
        "mrn": _first(headers, "PatientID"),
        "mrn_issuer": _first(headers, "IssuerOfPatientID", 120)
        or _issuer(headers, "IssuerOfPatientIDQualifiersSequence"),
        "family_name": clean_text(getattr(person, "family_name", ""), 120),
        "given_name": clean_text(getattr(person, "given_name", ""), 120),
        "birth_date": iso_date(_first(headers, "PatientBirthDate")),
        "sex": sex if sex in {"F", "M", "O"} else "",
        "accession_number": _first(headers, "AccessionNumber"),
        "accession_issuer": _issuer(headers, "IssuerOfAccessionNumberSequence"),
        "organ": _organ(headers),
        "stain": next(filter(None, (stain_of(header.dataset) for header in headers)), ""),
        "container_id": _first(headers, "ContainerIdentifier", 120)
        or _first(headers, "BarcodeValue", 120),
        "scanner": " ".join(filter(None, maker))[:120],
        "scanned_at": iso_time(when, *_DATE_TIMES),
    }


def _first_value(headers: Sequence[Header], name: str) -> Any:
    for header in headers:
        value = header.dataset.get(name)
        if clean_text(value, 400):
            return value
    return None


def _first(headers: Sequence[Header], name: str, limit: int = 64) -> str:
    return clean_text(_first_value(headers, name), limit)


def _differ(headers: Sequence[Header], name: str) -> bool:
    """Return whether two instances say different things; saying nothing is no difference."""
    values = {clean_text(header.dataset.get(name), 400).casefold() for header in headers}
    return len(values - {""}) > 1


def _issuer(headers: Sequence[Header], sequence: str) -> str:
    """Return who issued a number, by the local name or else the universal one."""
    for header in headers:
        for item in header.dataset.get(sequence) or ():
            for name in ("LocalNamespaceEntityID", "UniversalEntityID"):
                if text := clean_text(item.get(name), 120):
                    return text
    return ""


def _organ(headers: Sequence[Header]) -> str:
    """Return the primary anatomic structure of the specimen, else of the series."""
    names = ("PrimaryAnatomicStructureSequence", "AnatomicRegionSequence")
    for header in headers:
        specimens = header.dataset.get("SpecimenDescriptionSequence") or ()
        for dataset in (*specimens, header.dataset):
            for name in names:
                for code in dataset.get(name) or ():
                    if text := clean_text(code.get("CodeMeaning"), 80):
                        return text
    return _first(headers, "BodyPartExamined", 80).capitalize()


def _is_fluorescence(dataset: Dataset) -> bool:
    """Return whether the image shows light that the tissue gave off, not absorbed."""
    if int(dataset.get("SamplesPerPixel") or 3) == 1:
        return True
    for path in dataset.get("OpticalPathSequence") or ():
        for code in path.get("IlluminationTypeCodeSequence") or ():
            if (
                str(code.get("CodeValue")) == _EPIFLUORESCENCE
                or "fluorescence" in str(code.get("CodeMeaning", "")).casefold()
            ):
                return True
    return False
