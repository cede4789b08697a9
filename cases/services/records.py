"""Writes the rows of a slide that is taken in: patient, case, glass, image, instances.

Called inside the transaction that holds the department's lock.
"""

import base64
import uuid
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from cases.models import (
    Case,
    Department,
    Patient,
    Slide,
    SlideImage,
    SlideInstance,
    SlideInstanceHeader,
    SlideInstanceIndex,
    Specimen,
)
from cases.patient_numbers import patient_in_use
from cases.services import store
from cases.services.deleted_cases import refuse_deleted
from cases.services.matching import Match, Statement
from cases.services.patient_merges import case_came_under
from cases.wsi.delivery import FoundSlide
from cases.wsi.values import sha256_of_set


def moment(text: str) -> datetime | None:
    """Return an ISO time, taken as UTC where it names no zone; None for nothing or nonsense."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def patient_ensure(said: Statement, match: Match, department: Department) -> Patient:
    """Return the patient; a new one gets what is said, one on record keeps its own data."""
    stated = {
        "family_name": said.family_name[:120],
        "given_name": said.given_name[:120],
        "birth_date": said.birth_date,
        "sex": said.sex if said.sex in Patient.Sex.values else "",
    }
    patient = match.patient
    if patient is None:
        return Patient.objects.create(
            department=department, mrn=said.mrn, mrn_issuer=said.mrn_issuer, **stated
        )
    gaps = {name: value for name, value in stated.items() if value and not getattr(patient, name)}
    if gaps:
        for name, value in gaps.items():
            setattr(patient, name, value)
        patient.save(update_fields=[*gaps, "updated_at"])
    return patient


def case_ensure(said: Statement, match: Match, department: Department) -> Case:
    """Return the case on record, or a new one."""
    if match.case is None:
        refuse_deleted(department, said.accession_issuer, said.accession_number)
    patient = patient_ensure(said, match, department)
    if match.case is not None:
        return match.case
    case = Case.objects.create(
        department=department,
        patient=patient_in_use(patient),
        accession_number=said.accession_number,
        accession_issuer=said.accession_issuer,
    )
    case_came_under(patient, case)
    return case


def specimen_ensure(case: Case, organ: str) -> Specimen | None:
    """Return the case's specimen of this organ; with no organ said, its only specimen."""
    specimens = list(case.specimens.all())
    if not organ:
        return specimens[0] if len(specimens) == 1 else None
    for specimen in specimens:
        if specimen.organ.casefold() == organ.casefold():
            return specimen
    taken = {specimen.label for specimen in specimens}
    letters = (chr(ord("A") + n) for n in range(26))
    label = next((letter for letter in letters if letter not in taken), f"S{len(taken) + 1}")
    return Specimen.objects.create(case=case, label=label, organ=organ[:80])


def glass_ensure(said: Statement, case: Case, file_name: str) -> Slide:
    """Return the glass: by its barcode or label where these are said, otherwise a new one."""
    glasses = case.slides.all()
    said_label = (said.container_id or said.slide_label)[:80]
    glass = None
    if said.container_id:
        glass = glasses.filter(label_barcode=said.container_id[:120]).first()
    if glass is None and said_label:
        glass = glasses.filter(label=said_label).first()
    if glass is not None:
        if said.stain and not glass.stain:
            glass.stain = said.stain[:80]
            glass.save(update_fields=["stain", "updated_at"])
        return glass
    specimen = specimen_ensure(case, said.organ)
    return Slide.objects.create(
        case=case,
        specimen=specimen,
        label=said_label or _free_label(case, file_name),
        label_barcode=said.container_id[:120],
        stain=said.stain[:80],
    )


def _free_label(case: Case, file_name: str) -> str:
    """Return the file's name as a label that no glass of the case has.

    Two files of one name need not be one glass.
    """
    stem = PurePosixPath(file_name).stem[:70] or "slide"
    taken = set(case.slides.values_list("label", flat=True))
    label, number = stem, 1
    while label in taken:
        number += 1
        label = f"{stem}-{number}"
    return label


def image_create(
    *,
    found: FoundSlide,
    said: Statement,
    match: Match,
    department: Department,
    home: Path,
    is_synthetic: bool,
) -> SlideImage:
    """Return the new slide image, with its patient, case and glass; its files lie in `home`."""
    case = case_ensure(said, match, department)
    names = store.layout(found)
    main = f"/{names[found.main_file]}" if found.main_file else ""
    image = SlideImage.objects.create(
        id=uuid.UUID(home.name),
        department=department,
        slide=glass_ensure(said, case, found.name),
        source_format=found.source_format,
        vendor=found.vendor[:40],
        content_sha256=found.content_sha256,
        study_instance_uid=found.study_instance_uid,
        series_instance_uid=found.series_instance_uid,
        path=f"slides/{home.name}{main}",
        size_bytes=found.size_bytes,
        width_l0=found.width_l0,
        height_l0=found.height_l0,
        level_count=found.level_count,
        mpp=said.mpp,
        mpp_source=said.mpp_source,
        objective_power=found.objective_power,
        scanner=found.scanner[:120],
        scanned_at=moment(found.scanned_at),
        is_fluorescence=found.is_fluorescence,
        is_synthetic=is_synthetic,
        has_label_image=found.has_label_image,
    )
    _instances_create(image, found, set())
    return image


def image_extend(image: SlideImage, found: FoundSlide, folder: Path) -> SlideImage:
    """Add the instances that the series lacked; returns the image as it is now.

    The names of instance files come from their UIDs, so that a second try after a crash
    writes the same files again.
    """
    image = SlideImage.objects.select_for_update(of=("self",)).get(pk=image.pk)
    known = set(image.instances.values_list("sop_instance_uid", flat=True))
    new = [i for i in found.instances if i.sop_instance_uid not in known]
    names = {i.file: store.instance_file_name(i.sop_instance_uid) for i in new}
    store.add(folder, store.slide_folder(image.pk), names)
    _instances_create(image, found, known)
    instances = list(image.instances.all())
    volume = [i for i in instances if i.flavor == SlideInstance.Flavor.VOLUME]
    base = max(volume, key=lambda i: i.total_columns)
    # The resolution belongs to level 0: it changes only when a finer level arrived.
    if base.total_columns > image.width_l0 and found.mpp:
        image.mpp, image.mpp_source = found.mpp, found.mpp_source
    elif base.total_columns > image.width_l0:
        image.mpp *= image.width_l0 / base.total_columns
    image.width_l0, image.height_l0 = base.total_columns, base.total_rows
    image.level_count = len({(i.total_columns, i.total_rows) for i in volume})
    image.size_bytes = sum(i.size_bytes for i in instances)
    image.has_label_image = image.has_label_image or found.has_label_image
    image.content_sha256 = sha256_of_set(i.sha256 for i in instances)
    image.save()
    return image


def _instances_create(image: SlideImage, found: FoundSlide, known: set[str]) -> None:
    new = [i for i in found.instances if i.sop_instance_uid not in known]
    rows = SlideInstance.objects.bulk_create(
        SlideInstance(
            department_id=image.department_id,
            slide_image=image,
            sop_instance_uid=instance.sop_instance_uid,
            sha256=instance.sha256,
            flavor=instance.flavor,
            file_name=store.instance_file_name(instance.sop_instance_uid),
            size_bytes=instance.size_bytes,
            total_columns=instance.total_columns,
            total_rows=instance.total_rows,
            frame_count=instance.frame_count,
            transfer_syntax_uid=instance.transfer_syntax_uid,
        )
        for instance in new
    )
    SlideInstanceHeader.objects.bulk_create(
        SlideInstanceHeader(instance=row, attributes=instance.attributes)
        for row, instance in zip(rows, new, strict=True)
        if instance.attributes
    )
    SlideInstanceIndex.objects.bulk_create(
        SlideInstanceIndex(
            instance=row,
            metadata=base64.b64decode(instance.metadata),
            frame_table=base64.b64decode(instance.frame_table),
        )
        for row, instance in zip(rows, new, strict=True)
        if instance.metadata
    )
