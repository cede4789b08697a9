"""Curating cohorts. A cohort holds slides of its own department only, because sharing it
opens those slides to other departments: nobody can pass on what is not theirs to share.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases import identity, permissions
from cases.errors import Conflict, DomainError
from cases.models import Cohort, CohortEntry, Department, SlideImage
from cases.services.audit import Action, access_event_record
from cases.services.cells import inert


class CohortNameTaken(Conflict):
    """Two cohorts of a department cannot have one name."""

    code = "cohort_name_taken"
    message = _("Your department already has a cohort of this name.")


class SlideOfOtherDepartment(DomainError):
    """A slide that is only shared with the department cannot enter its cohort."""

    code = "slide_of_other_department"
    message = _("A cohort holds only slides of its own department.")


class ReasonMissing(DomainError):
    """A slide leaves a cohort with a reason."""

    code = "reason_missing"
    message = _("Say why the slide leaves the cohort.")


@dataclass(frozen=True)
class Added:
    """What became of slides that were to enter a cohort."""

    added: int
    already_in: int
    of_other_departments: int


@transaction.atomic
def cohort_create(
    *,
    user: Any,
    department: Department,
    name: str,
    description: str = "",
) -> Cohort:
    """Return the new cohort of a department in which the user may curate."""
    permissions.require(user, "curate_cohort", department.pk)
    cohort = Cohort(
        department=department, name=name.strip(), description=description, created_by=user
    )
    if Cohort.objects.filter(department=department, name=cohort.name).exists():
        raise CohortNameTaken
    cohort.full_clean()
    cohort.save()
    _record(user, Action.CREATE, cohort)
    return cohort


@transaction.atomic
def cohort_update(
    *,
    user: Any,
    cohort: Cohort,
    name: str,
    description: str,
) -> Cohort:
    """Return the cohort with its new name and description."""
    permissions.require(user, "curate_cohort", cohort.department_id)
    cohort.name, cohort.description = name.strip(), description
    others = Cohort.objects.filter(department=cohort.department_id, name=cohort.name)
    if others.exclude(pk=cohort.pk).exists():
        raise CohortNameTaken
    # Whoever made it may be gone, which is no error of this change.
    cohort.full_clean(exclude=["created_by"])
    cohort.save(update_fields=["name", "description", "updated_at"])
    _record(user, Action.CHANGE, cohort)
    return cohort


@transaction.atomic
def cohort_add(
    *,
    user: Any,
    cohort: Cohort,
    slide_images: Iterable[SlideImage],
    note: str = "",
) -> Added:
    """Put those slide images that belong to the cohort's department into it.

    slide_images: rows that are visible to the user. Raises SlideOfOtherDepartment when none
    of them belongs to the department.
    """
    permissions.require(user, "curate_cohort", cohort.department_id)
    # One writer at a time: two who add the same slide both succeed.
    Cohort.objects.select_for_update().get(pk=cohort.pk)
    wanted = {image.pk: image for image in slide_images}
    own = [image for image in wanted.values() if image.department_id == cohort.department_id]
    if wanted and not own:
        raise SlideOfOtherDepartment
    active = set(
        cohort.entries.filter(removed_at__isnull=True, slide_image__in=own).values_list(
            "slide_image_id", flat=True
        )
    )
    entries = [
        CohortEntry(cohort=cohort, slide_image=image, added_by=user, note=note[:300])
        for image in own
        if image.pk not in active
    ]
    CohortEntry.objects.bulk_create(entries)
    if entries:
        detail = {"added": [str(entry.slide_image_id) for entry in entries]}
        _record(user, Action.CHANGE, cohort, detail)
    return Added(len(entries), len(active), len(wanted) - len(own))


@transaction.atomic
def cohort_remove(
    *,
    user: Any,
    cohort: Cohort,
    entries: Iterable[UUID | str],
    reason: str,
) -> int:
    """Take the entries out of the cohort, keeping them and the reason; return how many."""
    permissions.require(user, "curate_cohort", cohort.department_id)
    reason = reason.strip()[:300]
    if not reason:
        raise ReasonMissing
    active = cohort.entries.filter(pk__in=list(entries), removed_at__isnull=True)
    removed = [str(pk) for pk in active.values_list("slide_image_id", flat=True)]
    count = active.update(
        removed_at=timezone.now(),
        removed_by=user,
        removed_reason=reason,
        updated_at=timezone.now(),
    )
    if count:
        _record(user, Action.CHANGE, cohort, {"removed": removed})
    return count


@transaction.atomic
def cohort_share(
    *,
    user: Any,
    cohort: Cohort,
    departments: Iterable[Department],
) -> None:
    """Share the cohort with exactly these departments; its slides open to their members."""
    permissions.require(user, "share_cohort", cohort.department_id)
    chosen = list(departments)
    if any(department.pk == cohort.department_id for department in chosen):
        raise ValidationError("A cohort is not shared with its own department.")
    before = set(cohort.shared_with.values_list("pk", flat=True))
    cohort.shared_with.set(chosen)
    after = {department.pk for department in chosen}
    if before != after:
        detail = {"opened_to": sorted(after - before), "closed_to": sorted(before - after)}
        _record(user, Action.SHARE, cohort, detail)


EXPORT_COLUMNS = (
    "cohort",
    "department",
    "accession_number",
    "accession_issuer",
    "mrn",
    "mrn_issuer",
    "slide_label",
    "slide_image_id",
    "organ",
    "stain",
    "mpp",
    "report_status",
    "diagnosis_code",
    "diagnosis_system",
    "diagnosis_line",
    "added_at",
    "note",
)


_ORDER = ("slide_image__slide__case__accession_number", "slide_image__slide__label", "pk")


def may_export(user: Any, cohort: Cohort) -> bool:
    """Return whether the user may export: in the cohort's department, or in one it is shared with.

    cohort: one that is visible to the user.
    """
    allowed = permissions.departments_with(user, "export_cohort")
    return cohort.department_id in allowed or cohort.shared_with.filter(pk__in=allowed).exists()


@transaction.atomic
def cohort_export_csv(*, user: Any, cohort: Cohort) -> str:
    """Return the cohort's visible slides as CSV; the export is recorded."""
    if not may_export(user, cohort):
        raise PermissionDenied
    buffer = StringIO()
    writer = csv.writer(buffer)
    writer.writerow(EXPORT_COLUMNS)
    entries = (
        CohortEntry.objects.visible_to(user)
        .filter(cohort=cohort, removed_at__isnull=True)
        .select_related(
            "slide_image__department",
            "slide_image__slide__specimen",
            "slide_image__slide__case__patient",
        )
        .prefetch_related("slide_image__slide__case__reports")
        .order_by(*identity.ordering(user, _ORDER))
    )
    count = 0
    for entry in entries:
        writer.writerow([inert(value) for value in _export_row(cohort, entry)])
        count += 1
    _record(user, Action.EXPORT, cohort, {"rows": count})
    return buffer.getvalue()


def _export_row(cohort: Cohort, entry: CohortEntry) -> tuple[Any, ...]:
    image = entry.slide_image
    slide = image.slide
    report = slide.case.current_report
    return (
        cohort.name,
        image.department.code,
        slide.case.accession_number,
        slide.case.accession_issuer,
        slide.case.patient.mrn,
        slide.case.patient.mrn_issuer,
        slide.label,
        image.pk,
        slide.specimen.organ if slide.specimen else "",
        slide.stain,
        image.mpp,
        report.status if report else "",
        report.diagnosis_code if report else "",
        report.diagnosis_system if report else "",
        report.diagnosis_line if report else "",
        entry.created_at.isoformat(timespec="seconds"),
        entry.note,
    )


def _record(
    user: Any,
    action: str,
    cohort: Cohort,
    detail: dict[str, Any] | None = None,
) -> None:
    access_event_record(
        user=user,
        action=action,
        department_id=cohort.department_id,
        target=cohort,
        detail=detail,
    )
