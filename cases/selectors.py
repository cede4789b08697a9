"""Reads for the pages: always for a user, always through `visible_to`."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db.models import Exists, F, OuterRef, Prefetch, Q, QuerySet, Subquery

from cases.models import Block, Case, Department, Report, Slide, SlideImage, Specimen

NO_REPORT = "none"

CASE_ORDERS = {
    "accession": ("accession_number",),
    "patient": ("patient__family_name", "patient__given_name", "patient__mrn"),
    "department": ("department__name",),
    "diagnosis": ("diagnosis_line",),
    "report": ("report_status",),
    "received": ("received_on", "created_at"),
}


@dataclass(frozen=True)
class CaseFilters:
    """What a reader of the work list asks for; an empty field does not narrow."""

    text: str = ""
    department: int | None = None
    organ: str = ""
    stain: str = ""
    report_status: str = ""
    received_from: date | None = None
    received_to: date | None = None


def cases_for_work_list(
    user: Any, filters: CaseFilters, *, order: str = "-received"
) -> QuerySet[Case]:
    """Return the user's cases that pass the filters, with all that a row of the list shows."""
    current = Report.objects.filter(case=OuterRef("pk"), is_current=True)
    cases = Case.objects.visible_to(user).annotate(
        diagnosis_line=Subquery(current.values("diagnosis_line")),
        report_status=Subquery(current.values("status")),
    )
    cases = _narrow(cases, user, filters)
    return (
        cases.order_by(*_order_by(order), "pk")
        .select_related("patient", "department")
        .prefetch_related(
            Prefetch("specimens", Specimen.objects.visible_to(user)),
            Prefetch("slides", slides_with_images(user)),
        )
    )


def slides_with_images(user: Any) -> QuerySet[Slide]:
    """Return the user's glass slides with their visible scans."""
    return (
        Slide.objects.visible_to(user)
        .select_related("specimen", "block")
        .prefetch_related(Prefetch("images", SlideImage.objects.visible_to(user)))
    )


def slide_images_of_cases(user: Any, cases: QuerySet[Case]) -> QuerySet[SlideImage]:
    """Return the user's slide images in these cases."""
    return SlideImage.objects.visible_to(user).filter(slide__case__in=cases.values("pk"))


def case_detail(user: Any, pk: Any) -> Case:
    """Return the case with everything its page shows, or raise Http404."""
    cases = Case.objects.select_related("patient", "department").prefetch_related(
        Prefetch("slides", slides_with_images(user)),
        Prefetch("reports", Report.objects.visible_to(user).select_related("author")),
        Prefetch(
            "specimens",
            Specimen.objects.visible_to(user).prefetch_related(
                Prefetch("blocks", Block.objects.visible_to(user))
            ),
        ),
    )
    return cases.get_visible_or_404(user, pk=pk)


def departments_seen(user: Any) -> QuerySet[Department]:
    """Return the departments whose cases the user sees: the own, and those that share."""
    return Department.objects.filter(
        Exists(Case.objects.visible_to(user).filter(department=OuterRef("pk")))
        | Q(pk__in=Department.objects.visible_to(user).values("pk"))
    )


def organs_seen(user: Any) -> list[str]:
    """Return the organs of the user's cases."""
    return _distinct(Specimen.objects.visible_to(user), "organ")


def stains_seen(user: Any) -> list[str]:
    """Return the stains of the user's slides."""
    return _distinct(Slide.objects.visible_to(user), "stain")


def _distinct(rows: QuerySet, field: str) -> list[str]:
    return list(
        rows.exclude(**{field: ""}).order_by(field).values_list(field, flat=True).distinct()
    )


def _order_by(order: str) -> list[Any]:
    name = order.removeprefix("-")
    fields = CASE_ORDERS.get(name, CASE_ORDERS["received"])
    if order.startswith("-"):
        return [F(field).desc(nulls_last=True) for field in fields]
    return [F(field).asc(nulls_last=True) for field in fields]


def _narrow(cases: QuerySet[Case], user: Any, filters: CaseFilters) -> QuerySet[Case]:
    for word in filters.text.replace(",", " ").split():
        cases = cases.filter(
            Q(accession_number__icontains=word)
            | Q(patient__family_name__icontains=word)
            | Q(patient__given_name__icontains=word)
            | Q(patient__mrn__icontains=word)
        )
    if filters.department is not None:
        cases = cases.filter(department=filters.department)
    if filters.organ:
        specimens = Specimen.objects.visible_to(user).filter(organ=filters.organ)
        cases = cases.filter(Exists(specimens.filter(case=OuterRef("pk"))))
    if filters.stain:
        # Of a shared case only the slides of the cohort count: the others are not known here.
        slides = Slide.objects.visible_to(user).filter(stain=filters.stain)
        cases = cases.filter(Exists(slides.filter(case=OuterRef("pk"))))
    if filters.report_status == NO_REPORT:
        cases = cases.filter(report_status__isnull=True)
    elif filters.report_status:
        cases = cases.filter(report_status=filters.report_status)
    if filters.received_from:
        cases = cases.filter(received_on__gte=filters.received_from)
    if filters.received_to:
        cases = cases.filter(received_on__lte=filters.received_to)
    return cases
