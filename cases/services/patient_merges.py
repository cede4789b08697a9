"""Merging two patients of a department who are one, and undoing it.

The cases move to the survivor. The merged row stays, and with it what is known under its number;
what comes later under that number goes to the survivor and is noted as such. So undoing it moves
back what was moved and what came under the number, and leaves what came under the survivor's.

Order of locks: the department (as intakes do), then patients by id, then cases.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from cases import permissions
from cases.errors import Conflict
from cases.models import Case, MergedCase, Patient, PatientMerge
from cases.services.audit import Action, access_event_record
from cases.services.locks import department_lock


class CannotMerge(Conflict):
    """The two cannot be merged, or a merge cannot be undone, as things are."""

    code = "cannot_merge"


@dataclass
class Undone:
    """What undoing a merge did. stayed: accession numbers of cases that were left."""

    merge: PatientMerge
    returned: list[UUID] = field(default_factory=list)
    stayed: list[str] = field(default_factory=list)


@transaction.atomic
def patients_merge(
    *,
    user: Any,
    survivor: Patient,
    merged: Patient,
    reason: str = "",
    source: str = PatientMerge.Source.API,
    message_id: str = "",
) -> tuple[PatientMerge, bool]:
    """Let the survivor have all cases of the merged patient; return the merge and whether new.

    Idempotent: what is merged already is returned as it is. A survivor that was merged itself
    stands for the patient in use.
    """
    permissions.require(user, "merge_patients", survivor.department_id)
    if merged.department_id != survivor.department_id:
        raise CannotMerge(_("The two are patients of different departments."))
    department_lock(survivor.department_id)
    rows = _locked(Q(pk__in=[survivor.pk, merged.pk]) | Q(merged_into=merged.pk))
    survivor, merged = rows[survivor.pk], rows[merged.pk]
    survivor = _in_use(survivor)
    if merged.merged_into_id:
        if merged.merged_into_id == survivor.pk:
            return _active(merged), False
        raise CannotMerge(_("This number is merged into another patient already. Undo that first."))
    if survivor.pk == merged.pk:
        raise CannotMerge(_("The two are the same patient already, or merged the other way round."))
    merge = PatientMerge.objects.create(
        department_id=survivor.department_id,
        survivor=survivor,
        merged=merged,
        by=user,
        source=source,
        message_id=message_id,
        reason=reason,
    )
    moved = list(Case.objects.filter(patient=merged).order_by("pk").values_list("pk", flat=True))
    MergedCase.objects.bulk_create(MergedCase(merge=merge, case_id=pk) for pk in moved)
    _move(moved, survivor)
    _point(
        [merged.pk, *(pk for pk, row in rows.items() if row.merged_into_id == merged.pk)], survivor
    )
    _record(user, Action.MERGE, merge, reason, {"cases": len(moved), "message": message_id})
    return merge, True


@transaction.atomic
def patients_unmerge(
    *, user: Any, merged: Patient, reason: str = "", message_id: str = ""
) -> Undone:
    """Undo the merge of this patient: give back its cases, and its number."""
    permissions.require(user, "merge_patients", merged.department_id)
    department_lock(merged.department_id)
    merge = PatientMerge.objects.filter(merged=merged.pk, undone_at=None).first()
    if merge is None:
        raise CannotMerge(_("This patient is not merged into another."), code="not_merged")
    rows = _locked(Q(pk__in=[merge.survivor_id, merged.pk]) | Q(merged_into=merge.survivor_id))
    survivor = rows[merge.survivor_id]
    if survivor.merged_into_id:
        raise CannotMerge(
            _("The patient it was merged into was merged into another since. Undo that first."),
            code="merged_further",
        )
    done = Undone(merge)
    for entry in merge.cases.select_related("case").order_by("case_id"):
        if entry.case.patient_id == survivor.pk:
            done.returned.append(entry.case_id)
        else:
            done.stayed.append(entry.case.accession_number)
            entry.stayed = True
            entry.save(update_fields=["stayed"])
    _move(done.returned, merged)
    Patient.objects.filter(pk=merged.pk).update(merged_into=None, updated_at=timezone.now())
    _point(_merged_into(merged.pk), merged)
    merge.undone_at, merge.undone_by, merge.undone_reason = timezone.now(), user, reason
    merge.save(update_fields=["undone_at", "undone_by", "undone_reason", "updated_at"])
    detail = {"cases": len(done.returned), "stayed": len(done.stayed), "message": message_id}
    _record(user, Action.UNMERGE, merge, reason, detail)
    return done


def case_came_under(numbered: Patient, case: Case) -> None:
    """Note that a new case came under this number, where it is merged: for who undoes that."""
    if not numbered.merged_into_id:
        return
    number = numbered.pk
    while merge := PatientMerge.objects.filter(merged=number, undone_at=None).first():
        MergedCase.objects.create(merge=merge, case=case, came_later=True)
        number = merge.survivor_id


def _locked(rows: Q) -> dict[UUID, Patient]:
    """Return these patients by id, locked: no case comes to one of them until the commit."""
    found = Patient.objects.select_for_update(no_key=True).filter(rows).order_by("pk")
    return {patient.pk: patient for patient in found}


def _in_use(patient: Patient) -> Patient:
    if not patient.merged_into_id:
        return patient
    return Patient.objects.select_for_update(no_key=True).get(pk=patient.merged_into_id)


def _active(merged: Patient) -> PatientMerge:
    return PatientMerge.objects.get(merged=merged, undone_at=None)


def _merged_into(pk: UUID) -> list[UUID]:
    """Return the patients that were merged into this one, also by way of others."""
    found: list[UUID] = []
    level = [pk]
    while level:
        merges = PatientMerge.objects.filter(survivor__in=level, undone_at=None)
        level = list(merges.values_list("merged_id", flat=True))
        found += level
    return found


def _point(pks: list[UUID], survivor: Patient) -> None:
    now = timezone.now()
    Patient.objects.filter(pk__in=pks).update(merged_into=survivor, updated_at=now)


def _move(pks: list[UUID], patient: Patient) -> None:
    now = timezone.now()
    Case.objects.filter(pk__in=pks).update(patient=patient, updated_at=now)


def _record(
    user: Any, action: str, merge: PatientMerge, reason: str, detail: dict[str, Any]
) -> None:
    """Record it with both patients: whoever asks for either finds it."""
    for patient_id in (merge.survivor_id, merge.merged_id):
        access_event_record(
            user=user,
            action=action,
            department_id=merge.department_id,
            patient_id=patient_id,
            target=merge,
            reason=reason[:300],
            detail={name: value for name, value in detail.items() if value != ""},
        )
