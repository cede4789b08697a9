"""Emergency access: one case or patient of another department, for an hour, reviewed afterwards.

It opens the pages of the case to one person. No list, search, count or vote knows of it.
"""

import logging
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
from cases.patient_numbers import IN_USE
from cases.row_scope import acting_for_system
from cases.services.audit import Action, access_event_record
from cases.services.locks import one_at_a_time

log = logging.getLogger(__name__)

CASE, PATIENT = "case", "patient"
MISSES_MOST, MISSES_WITHIN = 10, timedelta(hours=1)
OPENED_MOST, OPENED_WITHIN = 20, timedelta(days=1)


class NothingFound(DomainError):
    """No case, or no patient, has this number in that department."""

    http_status = HTTPStatus.NOT_FOUND
    code = "nothing_found"
    message = _("Nothing has this number in that department. The try is in the access log.")


class TooManyTries(DomainError):
    """Somebody guesses numbers, or opens one case after the other."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS
    code = "too_many_tries"
    message = _("Too many tries: no number is looked up for now. Ask the department itself.")


class StillOpen(Conflict):
    """What will be seen by it is not known yet."""

    code = "still_open"
    message = _("It is still open. End it, or review it when it is over.")


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
    with transaction.atomic():
        one_at_a_time(f"emergency {user.pk}")  # or many tries at once would each be the tenth
        if _tries_too_much(user):
            access, refused = None, TooManyTries
        else:
            refused = NothingFound
            found = _find(department, kind, number)
            told = {"department": department, "identifier": number, "reason": reason}
            access = found and _open(user, kind, found, reason_code=reason_code, **told)
        if access is None:
            access_event_record(
                user=user,
                action=Action.DENIED,
                department_id=department.pk,
                reason=f"emergency access: {refused.code}",
                detail={"page": "emergency", "kind": kind, "number": number, "code": refused.code},
            )
    if access is None:
        raise refused
    # For who watches the logs; the department sees it in its navigation.
    log.warning(
        "emergency access %s opened: user %s, department %s", access.pk, user.pk, department.code
    )
    openings.forget(user)
    return access


def _open(user: Any, kind: str, found: tuple[Any, Any], **told: Any) -> EmergencyAccess:
    access = EmergencyAccess.objects.create(
        user=user,
        patient_id=found[0],
        case_id=found[1],
        expires_at=timezone.now() + timedelta(minutes=settings.EMERGENCY_MINUTES),
        **told,
    )
    access_event_record(
        user=user,
        action=Action.BREAK_GLASS,
        department_id=access.department_id,
        patient_id=access.patient_id,
        target=access,
        reason=access.reason[:300],
        detail={"opening": str(access.pk), "kind": kind, "reason_code": access.reason_code},
    )
    return access


def emergency_end(*, user: Any, access: EmergencyAccess) -> None:
    """Close it before its time: what one opened, or what one reviews."""
    if access.user_id != user.pk:
        permissions.require(user, "review_emergency", access.department_id)
    with transaction.atomic():
        ended = EmergencyAccess.objects.open().filter(pk=access.pk).update(ended_at=Now())
        if ended:
            _record_change(user, access, {"ended": True})
    openings.forget(user)


def emergency_review(*, user: Any, access: EmergencyAccess, outcome: str, comment: str) -> None:
    """Keep what the privacy officer of the department thinks of it; once, and never one's own.

    Of one that is over: what is seen after a review would be reviewed by nobody.
    """
    permissions.require(user, "review_emergency", access.department_id)
    if access.user_id == user.pk:
        raise PermissionDenied(str(_("Somebody else reviews your own emergency access.")))
    with transaction.atomic():
        done = (
            EmergencyAccess.objects.over()
            .filter(pk=access.pk, outcome="")
            .update(outcome=outcome, reviewed_by=user, reviewed_at=Now(), review_comment=comment)
        )
        if not done:
            access.refresh_from_db()
            raise (
                Conflict(str(_("This was reviewed already."))) if access.outcome else StillOpen()
            )
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
    """Return (patient id, case id or None) of the number in the department.

    One that several have is taken as of the department's own issuer, where it has given it.
    """
    with acting_for_system("find whom an emergency is about"):
        if kind == CASE:
            own = department.accession_issuer
            cases = Case.objects.filter(department=department, accession_number=number)
            found = cases.values_list("accession_issuer", "patient_id", "pk")
        else:
            own = department.mrn_issuer
            patients = Patient.objects.filter(department=department, mrn=number)
            found = patients.values_list("mrn_issuer", IN_USE)
        rows = list(found.order_by("created_at"))
    best = next((row for row in rows if row[0] == own), rows[0] if rows else None)
    return best and (best[1], best[2] if kind == CASE else None)


def _tries_too_much(user: Any) -> bool:
    now = timezone.now()
    misses = AccessEvent.objects.filter(
        user=user,
        action=Action.DENIED,
        at__gte=now - MISSES_WITHIN,
        detail__page="emergency",
        detail__code=NothingFound.code,
    )
    opened = EmergencyAccess.objects.filter(user=user, created_at__gte=now - OPENED_WITHIN)
    return misses.count() >= MISSES_MOST or opened.count() >= OPENED_MOST


def _record_change(user: Any, access: EmergencyAccess, detail: dict[str, Any]) -> None:
    access_event_record(
        user=user,
        action=Action.CHANGE,
        department_id=access.department_id,
        patient_id=access.patient_id,
        target=access,
        detail=detail,
    )
