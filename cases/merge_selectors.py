"""Reads about merged numbers: for the page on which patients are merged, and for the case."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet

from cases import permissions
from cases.models import Patient, PatientMerge
from cases.services.matching import Statement, differences

CANDIDATES_MOST = 5


@dataclass(frozen=True)
class Candidate:
    """Another patient who may be the same; differs: in what, in words."""

    patient: Patient
    case_count: int
    differs: list[str]


def earlier_numbers(user: Any, patient: Patient) -> list[Patient]:
    """Return the rows merged into the patient, to who may know who patients are."""
    if not permissions.may(user, "view_identity", patient.department_id):
        return []
    return list(Patient.objects.visible_to(user).filter(merged_into=patient.pk).order_by("mrn"))


def merges_of_patient(user: Any, patient: Patient) -> QuerySet[PatientMerge]:
    """Return the merges into the patient and by way of others, newest first."""
    rows = PatientMerge.objects.visible_to(user).filter(
        Q(survivor=patient.pk) | Q(merged=patient.pk) | Q(merged__merged_into=patient.pk)
    )
    return (
        rows.select_related("merged", "survivor", "by", "undone_by")
        .annotate(
            moved_count=Count("cases", filter=Q(cases__came_later=False)),
            later_count=Count("cases", filter=Q(cases__came_later=True)),
            stayed_count=Count("cases", filter=Q(cases__stayed=True)),
        )
        .order_by("-created_at", "pk")
    )


def merge_candidates(user: Any, patient: Patient, mrn: str) -> list[Candidate]:
    """Return the other patients of the department with this number, as they are in use."""
    rows = (
        Patient.objects.visible_to(user)
        .filter(department=patient.department_id, mrn=mrn, merged_into=None)
        .exclude(pk=patient.pk)
        .annotate(case_count=Count("cases"))
        .order_by("mrn_issuer", "pk")
    )
    return [
        Candidate(row, row.case_count, differences(_said(row), patient))
        for row in rows[:CANDIDATES_MOST]
    ]


def _said(row: Patient) -> Statement:
    # Without the number, which differs in any case.
    return Statement(
        family_name=row.family_name,
        given_name=row.given_name,
        birth_date=row.birth_date,
        sex=row.sex,
    )
