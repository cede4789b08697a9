"""What a search is limited to, as conditions on slide images, before any LIMIT."""

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Self

from django.db.models import Q, QuerySet

from cases import identity
from cases.models import CohortEntry, Patient, Report, SlideImage

SIGNED = (Report.Status.FINAL, Report.Status.AMENDED)


@dataclass(frozen=True)
class SearchFilters:
    """The filters of a search; empty ones limit nothing."""

    department: int | None = None
    organ: str = ""
    stain: str = ""
    diagnosis_code: str = ""
    received_from: str = ""  # ISO dates, as they are stored with the query
    received_to: str = ""
    cohort: str = ""

    @classmethod
    def from_cleaned(cls, data: dict[str, Any]) -> Self:
        """Return the filters of a validated form or serializer (model instances and dates)."""
        department, cohort = data.get("department"), data.get("cohort")
        return cls(
            department=department.pk if department else None,
            organ=data.get("organ") or "",
            stain=data.get("stain") or "",
            diagnosis_code=data.get("diagnosis_code") or "",
            received_from=_iso(data.get("received_from")),
            received_to=_iso(data.get("received_to")),
            cohort=str(cohort.pk) if cohort else "",
        )

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the filters of a stored query."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})

    def to_json(self) -> dict[str, Any]:
        """Return only the filters that limit something."""
        return {name: value for name, value in asdict(self).items() if value}

    def condition(self, user: Any, *, prefix: str = "") -> Q:
        """Return the condition on slide images, or on rows whose `prefix` leads to one.

        Only rows that the user may see are consulted: a diagnosis in a hidden report or an
        entry of a hidden cohort selects nothing.
        """
        conditions = Q()
        if self.department:
            conditions &= Q(**{f"{prefix}department_id": self.department})
        if self.organ:
            conditions &= Q(**{f"{prefix}slide__specimen__organ": self.organ})
        if self.stain:
            conditions &= Q(**{f"{prefix}slide__stain": self.stain})
        if self.diagnosis_code:
            reports = Report.objects.visible_to(user).filter(
                is_current=True, status__in=SIGNED, diagnosis_code=self.diagnosis_code
            )
            conditions &= Q(**{f"{prefix}slide__case__in": reports.values("case_id")})
        if self.received_from or self.received_to:
            conditions &= identity.plain_condition(user, f"{prefix}department")
        if self.received_from:
            conditions &= Q(**{f"{prefix}slide__case__received_on__gte": self.received_from})
        if self.received_to:
            conditions &= Q(**{f"{prefix}slide__case__received_on__lte": self.received_to})
        if self.cohort:
            entries = CohortEntry.objects.visible_to(user).filter(
                cohort_id=self.cohort, removed_at__isnull=True
            )
            conditions &= Q(**{f"{prefix}pk__in": entries.values("slide_image_id")})
        return conditions


def other_people(patient: Patient, *, prefix: str = "") -> Q:
    """Return the condition that a slide image is of another person than this one."""
    issuer, mrn = identity.person_known(patient)
    return ~Q(
        **{
            f"{prefix}slide__case__patient__mrn_issuer": issuer,
            f"{prefix}slide__case__patient__mrn": mrn,
        }
    )


def slides_of_person(user: Any, patient: Patient) -> QuerySet[SlideImage]:
    """Return the visible slide images of this person.

    The person is (mrn_issuer, mrn): each department keeps a patient row of its own.
    """
    issuer, mrn = identity.person_known(patient)
    people = Patient.objects.visible_to(user).filter(mrn_issuer=issuer, mrn=mrn)
    return SlideImage.objects.visible_to(user).filter(slide__case__patient__in=people)


def _iso(value: date | None) -> str:
    return value.isoformat() if value else ""
