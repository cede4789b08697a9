"""Reads of the access log: who saw a patient, what a person saw, what was refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, Min, Q, QuerySet
from django.utils import timezone

from cases import permissions
from cases.models import AccessEvent, Case, Patient, SlideImage
from cases.patient_numbers import ids_of_same
from cases.row_scope import acting_for_system

PATIENT, PERSON, DENIED = "patient", "person", "denied"


@dataclass(frozen=True)
class AuditQuestion:
    """What is asked of the log. text: an MRN or a patient's id, or a user name."""

    kind: str = DENIED
    text: str = ""
    since: date | None = None
    until: date | None = None

    @property
    def is_complete(self) -> bool:
        """Return whether there is something to look for."""
        return self.kind == DENIED or bool(self.text)


def access_events(user: Any, question: AuditQuestion) -> QuerySet[AccessEvent]:
    """Return the events that answer, newest first, of the departments that the user audits."""
    departments = permissions.departments_with(user, "read_audit")
    if not departments or not question.is_complete:
        return AccessEvent.objects.none()
    own = Q(department_id__in=departments)
    if question.kind == DENIED:
        # What was refused may belong to nobody (a forged address): then it is the person's.
        nobodys = Q(department_id=None, user__memberships__department__in=departments)
        refused = ~Q(outcome=AccessEvent.Outcome.DONE)
        events = AccessEvent.objects.filter(refused & (own | nobodys)).distinct()
    elif question.kind == PATIENT:
        events = AccessEvent.objects.filter(own, patient_id__in=_patients(departments, question))
    else:
        events = AccessEvent.objects.filter(own, user__username=question.text)
    if question.since:
        events = events.filter(at__gte=_midnight(question.since))
    if question.until:
        events = events.filter(at__lt=_midnight(question.until + timedelta(days=1)))
    return events.select_related("user").order_by("-at", "pk")


def people_summary(events: QuerySet[AccessEvent]) -> list[dict[str, Any]]:
    """Return one line per person of the events: how often, first and last time."""
    return list(
        events.order_by()
        .values("user__username")
        .annotate(count=Count("pk"), first=Min("at"), last=Max("at"))
        .order_by("-last")
    )


def named_objects(user: Any, events: Iterable[AccessEvent]) -> dict[str, str]:
    """Return what the cases and slides of the events are called, by id: those that the user sees.

    An auditor, who sees no case, gets none.
    """
    keys: dict[str, set[str]] = {"case": set(), "slideimage": set()}
    for event in events:
        if event.object_type in keys:
            keys[event.object_type].add(event.object_id)
    cases = Case.objects.visible_to(user).filter(pk__in=keys["case"])
    slides = SlideImage.objects.visible_to(user).filter(pk__in=keys["slideimage"])
    names = {str(case.pk): case.accession_number for case in cases}
    return names | {str(image.pk): image.slide.label for image in slides.select_related("slide")}


def _patients(departments: frozenset[int], question: AuditQuestion) -> list[UUID]:
    """Return the patients with this number in the audited departments, or of this id.

    With those who are the same since a merge: they were looked at under either number.
    """
    patients = Patient.objects.filter(department__in=departments)
    asked: list[UUID] = []
    try:
        asked = [UUID(question.text)]
        patients = patients.filter(pk__in=asked)
    except ValueError:
        patients = patients.filter(mrn=question.text)
    # An auditor sees no patient: the number is turned into an id, and nothing else is told.
    with acting_for_system("the number of a patient, for the access log"):
        return [*asked, *ids_of_same(patients)]


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
