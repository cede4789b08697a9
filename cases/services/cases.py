"""Writes of cases: one upsert by accession number, for every door that brings a case."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases import permissions
from cases.errors import Conflict, DomainError
from cases.models import Block, Case, Department, Patient, Slide, Specimen
from cases.patient_numbers import patient_in_use
from cases.services.audit import Action, access_event_record
from cases.services.deleted_cases import refuse_deleted
from cases.services.patient_merges import case_came_under

_DEMOGRAPHICS = ("family_name", "given_name", "birth_date", "sex")
_CASE_FIELDS = ("received_on", "clinical_history")
_SPECIMEN_FIELDS = ("organ", "procedure", "description")
_BLOCK_FIELDS = ("description",)
_SLIDE_FIELDS = ("stain", "label_barcode")


class PatientMismatch(Conflict):
    """The message names another patient than the case on record."""

    code = "patient_mismatch"
    message = _(
        "The patient of this message is not the patient of the case on record. Nothing was changed."
    )


class UnknownPart(DomainError):
    """A slide names a specimen or block that its case does not have."""

    code = "unknown_part"


def _set_fields(row: Any, fields: Iterable[str], data: dict[str, Any]) -> list[str]:
    """Set the given fields that differ; return their names. Absent fields stay as they are."""
    changed = [name for name in fields if name in data and getattr(row, name) != data[name]]
    for name in changed:
        setattr(row, name, data[name])
    if changed:
        row.save(update_fields=[*changed, "updated_at"])
    return changed


def _contradicts(patient: Patient, data: dict[str, Any]) -> bool:
    """Return whether a message with the patient's own number describes somebody else.

    A name changes by marriage and a birth date by correcting a typing error; both at once
    under one number are two people until a person has looked (PATCH the patient first).
    """
    birth_date, name = data.get("birth_date"), data.get("family_name")
    return bool(
        birth_date
        and patient.birth_date
        and birth_date != patient.birth_date
        and name
        and patient.family_name
        and name.casefold() != patient.family_name.casefold()
    )


def _patient_upsert(department: Department, data: dict[str, Any]) -> tuple[Patient, list[str]]:
    """Return the locked patient of this number and what changed ("patient" alone when new)."""
    known = {name: data[name] for name in _DEMOGRAPHICS if name in data}
    patient, created = Patient.objects.get_or_create(
        department=department,
        mrn_issuer=data.get("mrn_issuer") or department.mrn_issuer,
        mrn=data["mrn"],
        defaults=known,
    )
    if created:
        return patient, ["patient"]
    patient = Patient.objects.select_for_update(no_key=True).get(pk=patient.pk)
    if _contradicts(patient, data):
        raise PatientMismatch(
            "Name and birth date both differ from those on record under this MRN. "
            "Nothing was changed."
        )
    return patient, [f"patient.{name}" for name in _set_fields(patient, _DEMOGRAPHICS, known)]


def _parts_upsert(
    model: type, parent: dict[str, Any], rows: list[dict[str, Any]], fields: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the parent's parts by label and what changed. Parts that are not named stay."""
    by_label = {part.label: part for part in model._base_manager.filter(**parent)}
    changed = []
    for data in rows:
        label, part = data["label"], by_label.get(data["label"])
        path = f"{model._meta.model_name}.{label}"
        if part is None:
            given = {name: data[name] for name in fields if name in data}
            by_label[label] = model._base_manager.create(**parent, label=label, **given)
            changed.append(path)
        else:
            changed += [f"{path}.{name}" for name in _set_fields(part, fields, data)]
    return by_label, changed


def _specimens_upsert(
    case: Case, rows: list[dict[str, Any]]
) -> tuple[dict[str, Specimen], list[str]]:
    specimens, changed = _parts_upsert(Specimen, {"case": case}, rows, _SPECIMEN_FIELDS)
    for data in rows:
        _blocks, more = _parts_upsert(
            Block, {"specimen": specimens[data["label"]]}, data.get("blocks", []), _BLOCK_FIELDS
        )
        changed += more
    return specimens, changed


def _slide_place(
    data: dict[str, Any], specimens: dict[str, Specimen], blocks: dict[tuple[Any, str], Block]
) -> dict[str, Any]:
    """Return the specimen and block that a slide names by their labels."""
    place: dict[str, Any] = {}
    if data.get("specimen"):
        place["specimen"] = specimens.get(data["specimen"])
        if place["specimen"] is None:
            raise UnknownPart(f"Slide {data['label']}: the case has no such specimen.")
    if data.get("block"):
        if "specimen" not in place:
            raise UnknownPart(f"Slide {data['label']}: a block needs its specimen.")
        place["block"] = blocks.get((place["specimen"].pk, data["block"]))
        if place["block"] is None:
            raise UnknownPart(f"Slide {data['label']}: the specimen has no such block.")
    return place


def _slides_moved(case: Case, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows; one that moves to another specimen leaves its old block behind."""
    block_of = dict(case.slides.filter(block__isnull=False).values_list("label", "block__specimen"))
    return [
        {**row, "block": None}
        if row.get("specimen")
        and "block" not in row
        and block_of.get(row["label"], row["specimen"].pk) != row["specimen"].pk
        else row
        for row in rows
    ]


def _slides_upsert(
    case: Case, rows: list[dict[str, Any]], specimens: dict[str, Specimen]
) -> list[str]:
    blocks = {
        (block.specimen_id, block.label): block
        for block in Block.objects.filter(specimen__case=case)
    }
    placed = [
        {**{key: row[key] for key in row if key not in {"specimen", "block"}}, **place}
        for row in rows
        for place in [_slide_place(row, specimens, blocks)]
    ]
    _slides, changed = _parts_upsert(
        Slide, {"case": case}, _slides_moved(case, placed), (*_SLIDE_FIELDS, "specimen", "block")
    )
    return changed


@transaction.atomic
def case_upsert(*, user: Any, department: Department, data: dict[str, Any]) -> tuple[Case, bool]:
    """Make the case of this accession number, or bring it up to date; return it and whether new.

    data: accession_number, accession_issuer (default: the department's), received_on,
    clinical_history, patient {mrn, mrn_issuer, family_name, given_name, birth_date, sex},
    specimens [{label, organ, procedure, description, blocks [{label, description}]}] and
    slides [{label, stain, label_barcode, specimen, block}] (the last two name labels).

    Idempotent: parts are found by label, absent fields and parts stay as they are. Two at
    once make one case: the unique keys decide, then patient and case are locked, in this
    order everywhere. Raises PatientMismatch when the case on record is another patient's.
    A number that was merged means the patient in use; what the message says of the person is
    kept under the number.
    """
    permissions.require(user, "edit_case", department.pk)
    numbered, changed = _patient_upsert(department, data["patient"])
    patient = patient_in_use(numbered)
    case, created = Case.objects.get_or_create(
        department=department,
        accession_issuer=data.get("accession_issuer") or department.accession_issuer,
        accession_number=data["accession_number"],
        defaults={
            "patient": patient,
            **{name: data[name] for name in _CASE_FIELDS if name in data},
        },
    )
    case = Case.objects.select_for_update(no_key=True).get(pk=case.pk)
    if case.patient_id != patient.pk:
        raise PatientMismatch
    if created:
        refuse_deleted(department, case.accession_issuer, case.accession_number)
        case_came_under(numbered, case)
    case.patient, case.department = patient, department
    changed += [f"case.{name}" for name in _set_fields(case, _CASE_FIELDS, data)]
    specimens, more = _specimens_upsert(case, data.get("specimens", []))
    changed += more + _slides_upsert(case, data.get("slides", []), specimens)
    if created or changed:
        case_touch(case)
    access_event_record(
        user=user,
        action=Action.CREATE if created else Action.CHANGE if changed else Action.VIEW,
        department_id=department.pk,
        patient_id=patient.pk,
        target=case,
        detail={} if created else {"changed": changed},
    )
    return case, created


def case_touch(case: Case) -> None:
    """Note that something of the case changed: `updated_since` asks by this time."""
    case.updated_at = timezone.now()
    Case.objects.filter(pk=case.pk).update(updated_at=case.updated_at)


@transaction.atomic
def patient_change(*, user: Any, patient: Patient, data: dict[str, Any]) -> Patient:
    """Correct name, birth date or sex of a patient. The number is the identity and stays."""
    permissions.require(user, "edit_case", patient.department_id)
    patient = Patient.objects.select_for_update(no_key=True).get(pk=patient.pk)
    changed = _set_fields(patient, _DEMOGRAPHICS, data)
    access_event_record(
        user=user,
        action=Action.CHANGE,
        department_id=patient.department_id,
        patient_id=patient.pk,
        target=patient,
        detail={"changed": changed},
    )
    return patient
