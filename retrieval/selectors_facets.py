"""What a search can be narrowed by: values of visible rows, with how many slides each leaves."""

from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from cases import identity
from cases.distinct import distinct_seen
from cases.models import Cohort, Department, Report, Slide, SlideImage, Specimen
from retrieval.filters import SIGNED, SearchFilters
from retrieval.models import SearchQuery

FACET_VALUES = 8


@dataclass(frozen=True)
class Facets:
    """What can be chosen in the filters: values of visible rows, nothing else."""

    departments: QuerySet[Department]
    organs: list[str]
    stains: list[str]
    diagnosis_codes: list[tuple[str, str]]
    cohorts: QuerySet[Cohort]


@dataclass(frozen=True)
class FacetValue:
    """A value and the number of visible slides that have it."""

    value: str
    label: str
    count: int
    is_chosen: bool


@dataclass(frozen=True)
class Facet:
    """A filter of the form with its commonest values."""

    field: str
    label: str
    values: list[FacetValue]


def search_facets(user: Any) -> Facets:
    """Return the choices of the filters, from what the user may see."""
    is_veiled = identity.veils(user)
    codes = (
        Report.objects.visible_to(user)
        .filter(is_current=True, status__in=SIGNED)
        .exclude(diagnosis_code="")
        .order_by("diagnosis_code", "diagnosis_line")
        .distinct("diagnosis_code")
        .values_list("diagnosis_code", "diagnosis_line")
    )
    return Facets(
        departments=Department.objects.visible_to(user),
        organs=distinct_seen(Specimen.objects.visible_to(user), "organ"),
        stains=distinct_seen(Slide.objects.visible_to(user), "stain"),
        # A line is a sentence about somebody; the code is none.
        diagnosis_codes=[(code, "") for code, _line in codes] if is_veiled else list(codes),
        cohorts=Cohort.objects.visible_to(user),
    )


def facets_counted(user: Any, query: SearchQuery) -> list[Facet]:
    """Return each filter with its commonest values among the slides that the reader sees.

    A filter that is in force does not narrow its own values: it can be changed for another.
    """
    filters = SearchFilters.from_json(query.filters)
    signed = Q(slide__case__reports__is_current=True, slide__case__reports__status__in=SIGNED)
    diagnosis = "slide__case__reports__diagnosis_code"
    columns = [
        ("diagnosis_code", _("Diagnosis"), diagnosis, signed),
        ("organ", _("Organ"), "slide__specimen__organ", Q()),
        ("stain", _("Stain"), "slide__stain", Q()),
        ("department", _("Department"), "department", Q()),
    ]
    found = []
    for field, label, column, condition in columns:
        chosen = str(getattr(filters, field) or "")
        others = replace(filters, **{field: None if field == "department" else ""})
        rows = (
            SlideImage.objects.visible_to(user)
            .filter(others.condition(user), condition)
            .exclude(**{f"{column}__isnull": True})
            .order_by()
            .values_list(column)
            .annotate(n=Count("pk", distinct=True))
            .order_by("-n", column)
        )
        counts = [(value, n) for value, n in rows[: FACET_VALUES + 1] if value != ""]
        named = _names(user, field, [value for value, _n in counts])
        values = [
            FacetValue(str(value), named.get(value, str(value)), n, str(value) == chosen)
            for value, n in counts[:FACET_VALUES]
        ]
        if len(values) > 1 or (values and chosen):
            found.append(Facet(field, label, values))
    return found


def _names(user: Any, field: str, values: list[Any]) -> dict[Any, str]:
    if field == "department":
        return dict(Department.objects.filter(pk__in=values).values_list("pk", "name"))
    if field == "diagnosis_code" and not identity.veils(user):
        rows = (
            Report.objects.visible_to(user)
            .filter(is_current=True, status__in=SIGNED, diagnosis_code__in=values)
            .order_by("diagnosis_code", "diagnosis_line")
            .distinct("diagnosis_code")
        )
        return {
            code: line or code
            for code, line in rows.values_list("diagnosis_code", "diagnosis_line")
        }
    return {}
