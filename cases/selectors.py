"""Reads for the pages: always for a user, always through `visible_to`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db.models import (
    Count,
    Exists,
    F,
    FilteredRelation,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
)
from django.db.models.functions import Coalesce

from cases import identity, index_states, permissions
from cases.case_text import cases_with_text
from cases.distinct import distinct_seen
from cases.models import (
    Block,
    Case,
    Cohort,
    CohortEntry,
    Department,
    Report,
    Slide,
    SlideImage,
    Specimen,
)
from cases.querysets import shared_entries

NO_REPORT = "none"

CASE_ORDERS = {
    "accession": ("accession_number",),
    "patient": ("patient__family_name", "patient__given_name", "patient__mrn"),
    "department": ("department__name",),
    "diagnosis": ("diagnosis_line",),
    "report": ("report_status",),
    "received": ("received_on", "created_at"),
}


COHORT_ORDER = (
    "slide_image__slide__case__accession_number",
    "slide_image__slide__label",
    "pk",
)


@dataclass(frozen=True)
class CaseFilters:
    """What a reader of the work list asks for; an empty field does not narrow.

    is_near: the text need not be found as it is written: likely typing errors count too.
    """

    text: str = ""
    department: int | None = None
    organ: str = ""
    stain: str = ""
    report_status: str = ""
    index_state: str = ""
    received_from: date | None = None
    received_to: date | None = None
    is_near: bool = False


def cases_for_work_list(
    user: Any, filters: CaseFilters, *, order: str = "-received"
) -> QuerySet[Case]:
    """Return the user's cases that pass the filters, with all that a row of the list shows.

    With `filters.is_near` the nearest to the text come first, whatever the order.
    """
    cases = _narrow(_with_report(Case.objects.visible_to(user), user), user, filters)
    orders = _order_by(order, user)
    if filters.is_near:
        orders = [F("nearness").desc(), *orders]
    return (
        cases.order_by(*orders, "pk")
        .select_related("patient", "department")
        .prefetch_related(
            Prefetch("specimens", Specimen.objects.visible_to(user)),
            Prefetch("slides", slides_with_images(user)),
        )
    )


def cases_to_count(user: Any, filters: CaseFilters) -> QuerySet[Case]:
    """Return the rows of `cases_for_work_list` without what a row shows: for counting them."""
    return _narrow(Case.objects.visible_to(user), user, filters)


def slides_with_images(user: Any, *, to_read: bool = False) -> QuerySet[Slide]:
    """Return the user's glass slides with their visible scans.

    to_read: for the page of a case, which may have been opened to this user alone.
    """
    slides, images = (
        model.objects.readable_by(user) if to_read else model.objects.visible_to(user)
        for model in (Slide, SlideImage)
    )
    return slides.select_related("specimen", "block").prefetch_related(Prefetch("images", images))


def slide_images_for_work_list(user: Any, filters: CaseFilters) -> QuerySet[SlideImage]:
    """Return the user's slide images that the filters mean: of a stain, only those so stained."""
    cases = _narrow(Case.objects.visible_to(user), user, filters)
    images = SlideImage.objects.visible_to(user).filter(slide__case__in=cases.values("pk"))
    if filters.stain:
        images = images.filter(slide__stain=filters.stain)
    if filters.organ:
        # A slide that names no specimen counts with its case.
        images = images.filter(
            Q(slide__specimen__organ=filters.organ) | Q(slide__specimen__isnull=True)
        )
    if filters.index_state:
        images = images.filter(pk__in=index_states.slide_image_ids(user, filters.index_state))
    return images


def slide_images_chosen(
    user: Any, slide_images: Iterable[SlideImage], cases: Iterable[Case]
) -> QuerySet[SlideImage]:
    """Return these slide images and all of these cases, as far as the user sees them."""
    return SlideImage.objects.visible_to(user).filter(
        Q(pk__in=[image.pk for image in slide_images])
        | Q(slide__case__in=[case.pk for case in cases])
    )


def slide_images_of_case(user: Any, case: Case) -> QuerySet[SlideImage]:
    """Return the case's slide images that the user sees, in the order of their labels."""
    return (
        SlideImage.objects.readable_by(user)
        .filter(slide__case=case)
        .select_related("slide")
        .order_by("slide__label", "created_at")
    )


def case_detail(user: Any, pk: Any) -> Case:
    """Return the case with everything its page shows, or raise Http404."""
    cases = Case.objects.select_related("patient__department", "department").prefetch_related(
        Prefetch("slides", slides_with_images(user, to_read=True)),
        Prefetch("reports", Report.objects.readable_by(user).select_related("author")),
        Prefetch(
            "specimens",
            Specimen.objects.readable_by(user).prefetch_related(
                Prefetch("blocks", Block.objects.readable_by(user))
            ),
        ),
    )
    return cases.get_visible_or_404(user, pk=pk)


def current_report(user: Any, case: Case) -> Report | None:
    """Return the newest version of the case's report, or None."""
    return Report.objects.readable_by(user).filter(case=case, is_current=True).first()


def current_reports(user: Any, lookup: str) -> Prefetch:
    """Return the prefetch of the current reports, for `Case.current_report`."""
    return Prefetch(lookup, Report.objects.visible_to(user).filter(is_current=True))


def cohorts_listed(user: Any) -> QuerySet[Cohort]:
    """Return the cohorts that the user sees, each with the count of the slides seen in it."""
    seen = CohortEntry.objects.visible_to(user).filter(
        cohort=OuterRef("pk"), removed_at__isnull=True
    )
    count = seen.order_by().values("cohort").annotate(n=Count("pk", distinct=True)).values("n")
    return (
        Cohort.objects.visible_to(user)
        .select_related("department", "created_by")
        .annotate(slide_count=Coalesce(Subquery(count), 0))
        .order_by("name", "pk")
    )


def cohorts_to_curate(user: Any) -> QuerySet[Cohort]:
    """Return the cohorts into which the user may put slides."""
    departments = permissions.departments_with(user, "curate_cohort")
    return Cohort.objects.visible_to(user).filter(department__in=departments)


def cohort_entries(user: Any, cohort: Cohort) -> QuerySet[CohortEntry]:
    """Return the cohort's active entries whose slide image the user sees."""
    return (
        CohortEntry.objects.visible_to(user)
        .filter(cohort=cohort, removed_at__isnull=True)
        .select_related(
            "added_by",
            "slide_image__department",
            "slide_image__slide__specimen",
            "slide_image__slide__case__patient",
        )
        .prefetch_related(current_reports(user, "slide_image__slide__case__reports"))
        .order_by(*identity.ordering(user, COHORT_ORDER))
    )


def cohort_entries_removed(user: Any, cohort: Cohort) -> QuerySet[CohortEntry]:
    """Return what left the cohort and why; that is for its own department."""
    if cohort.department_id not in permissions.departments_of(user):
        return CohortEntry.objects.none()
    return (
        CohortEntry.objects.visible_to(user)
        .filter(cohort=cohort, removed_at__isnull=False)
        .select_related("removed_by", "slide_image__slide__case")
        .order_by("-removed_at")
    )


def cohort_shared_with(user: Any, cohort: Cohort) -> QuerySet[Department]:
    """Return the departments that see the cohort; a guest is told only of the own ones."""
    departments = cohort.shared_with.all()
    if cohort.department_id in permissions.departments_of(user):
        return departments
    return departments.visible_to(user)


def departments_seen(user: Any) -> QuerySet[Department]:
    """Return the departments whose cases the user sees: the own, and those that share."""
    departments = permissions.departments_of(user)
    if not departments:
        return Department.objects.none()
    # A case is seen from outside of its department only by a shared slide, which is of it.
    sharing = shared_entries(departments).values("slide_image__department_id")
    return Department.objects.filter(Q(pk__in=departments) | Q(pk__in=sharing))


def organs_seen(user: Any) -> list[str]:
    """Return the organs of the user's cases."""
    return distinct_seen(Specimen.objects.visible_to(user), "organ")


def stains_seen(user: Any) -> list[str]:
    """Return the stains of the user's slides."""
    return distinct_seen(Slide.objects.visible_to(user), "stain")


def may_order(user: Any, name: str) -> bool:
    """Return whether the user may sort cases so: not by what is veiled for them."""
    fields = CASE_ORDERS.get(name, ())
    return identity.ordering(user, fields) == list(fields)


def _order_by(order: str, user: Any) -> list[Any]:
    if order.removeprefix("-") not in CASE_ORDERS:
        order = "-received"
    fields = identity.ordering(user, CASE_ORDERS[order.removeprefix("-")])
    if order.startswith("-"):
        return [F(field).desc(nulls_last=True) for field in fields]
    return [F(field).asc(nulls_last=True) for field in fields]


def _with_report(cases: QuerySet[Case], user: Any) -> QuerySet[Case]:
    # A join, which is made for 25 cases or, to sort by it, hashed: a subquery is one a case.
    return cases.annotate(
        _current=FilteredRelation("reports", condition=Q(reports__is_current=True)),
        diagnosis_line=identity.shown_line(user, "_current__", "patient__"),
        report_status=F("_current__status"),
    )


def _narrow(cases: QuerySet[Case], user: Any, filters: CaseFilters) -> QuerySet[Case]:
    if filters.text or filters.received_from or filters.received_to:
        cases = identity.plain_only(user, cases)
    departments = permissions.departments_of(user)
    cases = cases_with_text(cases, filters.text, departments, is_near=filters.is_near)
    if filters.department is not None:
        cases = cases.filter(department=filters.department)
    if filters.organ:
        specimens = Specimen.objects.visible_to(user).filter(organ=filters.organ)
        cases = cases.filter(Exists(specimens.filter(case=OuterRef("pk"))))
    if filters.stain:
        # Of a shared case only the slides of the cohort count: the others are not known here.
        slides = Slide.objects.visible_to(user).filter(stain=filters.stain)
        cases = cases.filter(Exists(slides.filter(case=OuterRef("pk"))))
    current = Report.objects.filter(case=OuterRef("pk"), is_current=True)
    if filters.report_status == NO_REPORT:
        cases = cases.filter(~Exists(current))
    elif filters.report_status:
        cases = cases.filter(Exists(current.filter(status=filters.report_status)))
    if filters.index_state:
        there = index_states.slide_image_ids(user, filters.index_state)
        images = SlideImage.objects.visible_to(user).filter(pk__in=there)
        cases = cases.filter(Exists(images.filter(slide__case=OuterRef("pk"))))
    if filters.received_from:
        cases = cases.filter(received_on__gte=filters.received_from)
    if filters.received_to:
        cases = cases.filter(received_on__lte=filters.received_to)
    return cases
