"""Filters and ordering of API lists. A filter looks only through rows that the caller may see."""

from typing import Any

import django_filters as filters
from django.db.models import Exists, OuterRef, QuerySet
from rest_framework.filters import OrderingFilter

from cases import identity
from cases.api.moments import MomentFilter, MomentRangeFilter
from cases.models import (
    BoardMeeting,
    Case,
    Cohort,
    CohortEntry,
    Patient,
    Report,
    Slide,
    SlideImage,
    Specimen,
)
from cases.patient_numbers import ids_in_use


class StableOrderingFilter(OrderingFilter):
    """Order by the view's `ordering_fields` only, ties by id: no row is on two pages or none."""

    def get_ordering(self, request: Any, queryset: QuerySet, view: Any) -> list[str]:
        ordering = list(super().get_ordering(request, queryset, view) or queryset.query.order_by)
        ordering = ordering or list(queryset.model._meta.ordering)
        if identity.has_veil(queryset.model):
            ordering = identity.ordering(request.user, ordering)
        return ordering if "pk" in ordering else [*ordering, "pk"]


class ClinicalFilters(filters.FilterSet):
    """Filters of rows that belong to patients."""

    department = filters.CharFilter(field_name="department__code", label="Department code")
    updated_since = MomentFilter(
        field_name="updated_at", lookup_expr="gte", label="Changed at or after this time"
    )

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        """Narrow the list; by what identifies only where the caller may know who is who."""
        asked = {name for name, value in self.form.cleaned_data.items() if value}
        if asked & identity.IDENTIFYING and identity.has_veil(queryset.model):
            path = self.base_filters["department"].field_name.removesuffix("__code")
            queryset = identity.plain_only(self.request.user, queryset, path)
        return super().filter_queryset(queryset)

    def _visible(self, model: type) -> QuerySet:
        # By the caller's own rows: a match in a hidden part would tell that it exists.
        return model.objects.visible_to(self.request.user)

    def by_mrn(self, queryset: QuerySet, name: str, value: str) -> QuerySet:
        """Narrow to the patients whom the number means. name: the way to the patient."""
        return queryset.filter(
            **{f"{name}__in": ids_in_use(self._visible(Patient).filter(mrn=value))}
        )


class PatientFilters(ClinicalFilters):
    accession = filters.CharFilter(method="by_accession", label="Accession number of a case")

    class Meta:
        model = Patient
        fields = ("mrn", "mrn_issuer")

    def by_accession(self, queryset: QuerySet, _name: str, value: str) -> QuerySet:
        cases = self._visible(Case).filter(accession_number=value)
        return queryset.filter(pk__in=cases.values("patient_id"))


class CaseFilters(ClinicalFilters):
    accession = filters.CharFilter(field_name="accession_number", label="Accession number")
    patient = filters.UUIDFilter(field_name="patient_id", label="Patient id")
    mrn = filters.CharFilter(
        field_name="patient", method="by_mrn", label="MRN of the patient, also one merged"
    )
    organ = filters.CharFilter(method="by_organ", label="Organ of a specimen, any case")
    stain = filters.CharFilter(method="by_stain", label="Stain of a slide, any case")
    report_status = filters.ChoiceFilter(
        method="by_report_status", choices=Report.Status.choices, label="Of the current report"
    )
    diagnosis_code = filters.CharFilter(method="by_code", label="Of the current report")
    received = filters.DateFromToRangeFilter(field_name="received_on", label="received_on")

    class Meta:
        model = Case
        fields = ("accession_issuer",)

    def _with_part(self, queryset: QuerySet, model: type, **lookup: Any) -> QuerySet:
        parts = self._visible(model).filter(case=OuterRef("pk"), **lookup)
        return queryset.filter(Exists(parts))

    def by_organ(self, queryset: QuerySet, _name: str, value: str) -> QuerySet:
        return self._with_part(queryset, Specimen, organ__iexact=value)

    def by_stain(self, queryset: QuerySet, _name: str, value: str) -> QuerySet:
        return self._with_part(queryset, Slide, stain__iexact=value)

    def by_report_status(self, queryset: QuerySet, _name: str, value: str) -> QuerySet:
        return self._with_part(queryset, Report, status=value, is_current=True)

    def by_code(self, queryset: QuerySet, _name: str, value: str) -> QuerySet:
        return self._with_part(queryset, Report, diagnosis_code=value, is_current=True)


class SlideFilters(ClinicalFilters):
    department = filters.CharFilter(field_name="case__department__code", label="Department code")
    case = filters.UUIDFilter(field_name="case_id", label="Case id")
    patient = filters.UUIDFilter(field_name="case__patient_id", label="Patient id")
    accession = filters.CharFilter(field_name="case__accession_number", label="Accession number")
    mrn = filters.CharFilter(
        field_name="case__patient", method="by_mrn", label="MRN of the patient, also one merged"
    )
    organ = filters.CharFilter(
        field_name="specimen__organ", lookup_expr="iexact", label="Organ of its specimen, any case"
    )
    stain = filters.CharFilter(lookup_expr="iexact", label="Stain, any case")

    class Meta:
        model = Slide
        fields = ("label", "label_barcode")


class SlideImageFilters(ClinicalFilters):
    slide = filters.UUIDFilter(field_name="slide_id", label="Slide (glass) id")
    case = filters.UUIDFilter(field_name="slide__case_id", label="Case id")
    patient = filters.UUIDFilter(field_name="slide__case__patient_id", label="Patient id")
    accession = filters.CharFilter(
        field_name="slide__case__accession_number", label="Accession number"
    )
    mrn = filters.CharFilter(
        field_name="slide__case__patient",
        method="by_mrn",
        label="MRN of the patient, also one merged",
    )
    organ = filters.CharFilter(
        field_name="slide__specimen__organ", lookup_expr="iexact", label="Organ, any case"
    )
    stain = filters.CharFilter(
        field_name="slide__stain", lookup_expr="iexact", label="Stain, any case"
    )
    scanned = MomentRangeFilter(field_name="scanned_at", label="scanned_at")

    class Meta:
        model = SlideImage
        fields = ("source_format", "series_instance_uid", "study_instance_uid", "content_sha256")


class ReportFilters(ClinicalFilters):
    department = filters.CharFilter(field_name="case__department__code", label="Department code")
    case = filters.UUIDFilter(field_name="case_id", label="Case id")
    patient = filters.UUIDFilter(field_name="case__patient_id", label="Patient id")
    accession = filters.CharFilter(field_name="case__accession_number", label="Accession number")
    mrn = filters.CharFilter(
        field_name="case__patient", method="by_mrn", label="MRN of the patient, also one merged"
    )
    status = filters.ChoiceFilter(choices=Report.Status.choices)
    current = filters.BooleanFilter(field_name="is_current", label="Newest version only")
    signed = MomentRangeFilter(field_name="signed_at", label="signed_at")

    class Meta:
        model = Report
        fields = ("diagnosis_code",)


class CohortFilters(ClinicalFilters):
    class Meta:
        model = Cohort
        fields = ("name",)


class BoardFilters(ClinicalFilters):
    held = filters.DateFromToRangeFilter(field_name="held_on", label="held_on")

    class Meta:
        model = BoardMeeting
        fields = ("title",)


class CohortEntryFilters(filters.FilterSet):
    slide_image = filters.UUIDFilter(field_name="slide_image_id", label="Slide image id")
    removed = filters.BooleanFilter(
        field_name="removed_at", lookup_expr="isnull", exclude=True, label="Only removed, or not"
    )

    class Meta:
        model = CohortEntry
        fields = ()
