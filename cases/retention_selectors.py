"""Which cases have been kept long enough, and what still speaks against deleting one."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db.models import Count, DateField, Exists, Max, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce, Greatest, TruncDate
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases import permissions
from cases.models import (
    BoardItem,
    Case,
    CaseDeletion,
    Consult,
    Department,
    EmergencyAccess,
    Export,
    ExportItem,
    LegalHold,
    Report,
    SlideImage,
    UploadItem,
)

NOT_DUE = "not_due"


@dataclass(frozen=True)
class Obstacle:
    """Why a case is not deleted now: a code, and a sentence that says what to do."""

    code: str
    sentence: Any


def years_before(day: date, years: int) -> date:
    """Return the same day so many years earlier; of 29 February, the 28th."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)


def with_last_day(cases: QuerySet[Case]) -> QuerySet[Case]:
    """Add `last_on`: the day of the last signed report, or of receipt where that is later."""
    signed = (
        Report.objects.filter(case=OuterRef("pk"), signed_at__isnull=False)
        .order_by()
        .values("case")
        .annotate(last=Max("signed_at"))
        .values("last")
    )
    received = Coalesce("received_on", TruncDate("created_at"), output_field=DateField())
    # GREATEST passes over what is null.
    return cases.annotate(
        last_on=Greatest(received, TruncDate(Subquery(signed)), output_field=DateField())
    )


def due_cases(departments: QuerySet[Department], *, today: date | None = None) -> QuerySet[Case]:
    """Return the cases of these departments whose time of keeping is over, with `last_on`."""
    today = today or timezone.localdate()
    due = Q(pk__in=[])
    for department in departments.filter(retention_years__isnull=False):
        cutoff = years_before(today, department.retention_years)
        # First what an index answers; reports are asked of the few that are old enough.
        old = Q(received_on__lt=cutoff) | Q(received_on=None, created_at__date__lt=cutoff)
        later = Report.objects.filter(case=OuterRef("pk"), signed_at__date__gte=cutoff)
        due |= Q(department=department) & old & ~Exists(later)
    return with_last_day(Case.objects.filter(due))


def due_for(user: Any) -> QuerySet[Case]:
    """Return the cases that the user may propose: due, not on hold, and not proposed yet."""
    deciding = permissions.departments_with(user, "retire_cases")
    open_ones = CaseDeletion.objects.filter(state__in=CaseDeletion.OPEN).values("case_id")
    held = LegalHold.objects.filter(lifted_at=None).values("case_id")
    rows = due_cases(Department.objects.filter(pk__in=deciding))
    return rows.exclude(pk__in=open_ones).exclude(pk__in=held)


def with_extent(cases: list[Case]) -> list[Case]:
    """Add to each case how many scans, bytes and cohorts go with it."""
    images = (
        SlideImage.objects.filter(slide__case__in=cases)
        .order_by()
        .values("slide__case")
        .annotate(
            scans=Count("pk", distinct=True),
            cohorts=Count(
                "cohort_entries__cohort",
                filter=Q(cohort_entries__removed_at=None),
                distinct=True,
            ),
        )
    )
    sizes = dict(
        SlideImage.objects.filter(slide__case__in=cases)
        .order_by()
        .values_list("slide__case")
        .annotate(Sum("size_bytes"))
    )
    found = {row["slide__case"]: row for row in images}
    for case in cases:
        row = found.get(case.pk, {})
        case.scan_count = row.get("scans", 0)  # type: ignore[attr-defined]
        case.cohort_count = row.get("cohorts", 0)  # type: ignore[attr-defined]
        case.scan_bytes = sizes.get(case.pk) or 0  # type: ignore[attr-defined]
    return cases


def obstacle_to(case: Case, *, today: date | None = None) -> Obstacle | None:
    """Return what speaks against deleting the case now, or None."""
    today = today or timezone.localdate()
    department = Department.objects.filter(pk=case.department_id)
    if not due_cases(department, today=today).filter(pk=case.pk).exists():
        return Obstacle(NOT_DUE, _("Its time of keeping is not over."))
    images = SlideImage.objects.filter(slide__case=case)
    making = [Export.State.QUEUED, Export.State.RUNNING, Export.State.FINISHED]
    waiting = [UploadItem.State.UNMATCHED, UploadItem.State.INCOMPLETE]
    # In the order in which they are told; the first that holds is told.
    questions = [
        (
            "legal_hold",
            LegalHold.objects.filter(case=case, lifted_at=None),
            _("It is on legal hold. Lift the hold on the page of the case."),
        ),
        (
            "consult_open",
            Consult.objects.filter(case=case).open(),
            _("A consult about it is open. End the consult on the page of the case."),
        ),
        (
            "emergency_not_reviewed",
            EmergencyAccess.objects.filter(
                Q(case=case) | Q(case=None, patient=case.patient_id), outcome=""
            ),
            _("An emergency access to it waits for its review."),
        ),
        (
            "on_a_board",
            BoardItem.objects.filter(case=case, meeting__held_on__gte=today),
            _("It is on the list of a tumour board to come."),
        ),
        (
            "export_not_over",
            ExportItem.objects.filter(slide_image__in=images, export__state__in=making),
            _("An export holds slides of it. Wait until the export has expired."),
        ),
        (
            "slides_wait",
            UploadItem.objects.filter(
                Q(slide_image__in=images)
                | Q(
                    department=case.department_id,
                    facts__accession_number=case.accession_number,
                ),
                state__in=waiting,
            ),
            _("Slides with its number wait under Unmatched. Match or discard them."),
        ),
    ]
    for code, rows, sentence in questions:
        if rows.exists():
            return Obstacle(code, sentence)
    return None


def hold_of(user: Any, case: Case) -> LegalHold | None:
    """Return the hold on the case, to who decides about it."""
    return (
        LegalHold.objects.visible_to(user)
        .filter(case=case, lifted_at=None)
        .select_related("placed_by")
        .first()
    )


def deletion_of(user: Any, case: Case) -> CaseDeletion | None:
    """Return the deletion that is proposed or under way, to who decides about it."""
    return (
        CaseDeletion.objects.visible_to(user)
        .filter(case_id=case.pk, state__in=CaseDeletion.OPEN)
        .first()
    )
