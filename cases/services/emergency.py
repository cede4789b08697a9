"""Emergency access: one case or patient of another department, for an hour, reviewed afterwards.

It opens the pages of the case to one person. No list, search, count or vote knows of it.
"""

from datetime import timedelta
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases import openings, permissions
from cases.errors import Conflict, DomainError
from cases.models import AccessEvent, Case, Department, EmergencyAccess, Patient
from cases.row_scope import acting_for_system
from cases.services.audit import Action, access_event_record

CASE, PATIENT = "case", "patient"
MISSES_MOST, MISSES_WITHIN = 10, timedelta(hours=1)


class NothingFound(DomainError):
    """No case, or no patient, has this number in that department."""

    http_status = HTTPStatus.NOT_FOUND
    code = "nothing_found"
    message = _("Nothing has this number in that department. The try is in the access log.")


class TooManyMisses(DomainError):
    """Somebody guesses numbers."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS
    code = "too_many_misses"
    message = _("Ten tries within an hour found nothing. Ask the department itself.")


def emergency_open(
    *,
    user: Any,
    department: Department,
    kind: str,
    number: str,
    reason_code: str,
    reason: str,
) -> EmergencyAccess:
    """Open the case with this accession number, or all of the patient with this MRN, to the user.

    A number that nothing has is answered as late as one that something has, and kept on record.
    """
    if not permissions.departments_with(user, "break_glass"):
        raise PermissionDenied
    if department.pk in permissions.departments_of(user):
        raise Conflict(str(_("This is your own department: find the case in the work list.")))
    if _misses(user) >= MISSES_MOST:
        raise TooManyMisses
    found = _find(department, kind, number)
    if found is None:
        access_event_record(
            user=user,
            action=Action.DENIED,
            department_id=department.pk,
            reason="emergency access: nothing has this number",
            detail={"page": "emergency", "kind": kind, "number": number},
        )
        raise NothingFound
    patient_id, case_id = found
    with transaction.atomic():
        access = EmergencyAccess.objects.create(
            user=user,
            department=department,
            patient_id=patient_id,
            case_id=case_id,
            identifier=number,
            reason_code=reason_code,
            reason=reason,
            expires_at=timezone.now() + timedelta(minutes=settings.EMERGENCY_MINUTES),
        )
        access_event_record(
            user=user,
            action=Action.BREAK_GLASS,
            department_id=department.pk,
            patient_id=patient_id,
            target=access,
            reason=reason[:300],
            detail={"opening": str(access.pk), "kind": kind, "reason_code": reason_code},
        )
    openings.forget(user)
    return access


def emergency_end(*, user: Any, access: EmergencyAccess) -> None:
    """Close what one opened, before its time."""
    if access.user_id != user.pk:
        raise PermissionDenied
    with transaction.atomic():
        ended = EmergencyAccess.objects.open().filter(pk=access.pk).update(ended_at=Now())
        if ended:
            _record_change(user, access, {"ended": True})
    openings.forget(user)


def emergency_review(*, user: Any, access: EmergencyAccess, outcome: str, comment: str) -> None:
    """Keep what the privacy officer of the department thinks of it; once, and never one's own."""
    permissions.require(user, "review_emergency", access.department_id)
    if access.user_id == user.pk:
        raise PermissionDenied(str(_("Somebody else reviews your own emergency access.")))
    with transaction.atomic():
        done = EmergencyAccess.objects.filter(pk=access.pk, outcome="").update(
            outcome=outcome, reviewed_by=user, reviewed_at=Now(), review_comment=comment
        )
        if not done:
            raise Conflict(str(_("This was reviewed already.")))
        _record_change(user, access, {"outcome": outcome})


def emergency_events(access: EmergencyAccess) -> QuerySet[AccessEvent]:
    """Return what the access log has of it: its opening and all that was seen by it."""
    return AccessEvent.objects.filter(
        user=access.user_id,
        at__gte=access.created_at - timedelta(minutes=1),
        at__lte=access.expires_at + timedelta(minutes=1),
        detail__opening=str(access.pk),
    ).order_by("at", "pk")


def _find(department: Department, kind: str, number: str) -> tuple[Any, Any] | None:
    """Return (patient id, case id or None) of the number in the department."""
    with acting_for_system("find whom an emergency is about"):
        if kind == CASE:
            cases = Case.objects.filter(department=department, accession_number=number)
            return cases.order_by("created_at").values_list("patient_id", "pk").first()
        patients = Patient.objects.filter(department=department, mrn=number)
        found = patients.order_by("created_at").values_list("pk", flat=True).first()
        return None if found is None else (found, None)


def _misses(user: Any) -> int:
    return AccessEvent.objects.filter(
        user=user,
        action=Action.DENIED,
        at__gte=timezone.now() - MISSES_WITHIN,
        detail__page="emergency",
    ).count()


def _record_change(user: Any, access: EmergencyAccess, detail: dict[str, Any]) -> None:
    access_event_record(
        user=user,
        action=Action.CHANGE,
        department_id=access.department_id,
        patient_id=access.patient_id,
        target=access,
        detail=detail,
    )
