"""What every page of the portal shows."""

from math import ceil
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from cases import identity, openings, permissions
from cases.models import Consult, EmergencyAccess

MORE = frozenset({"exports", "uploads", "unmatched", "indexing", "audit", "retention"})


def portal(request: HttpRequest) -> dict[str, Any]:
    """Return what the navigation offers this user."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    place = request.path.strip("/").split("/")[0]
    may_review = bool(permissions.reviewed_departments(user))
    return {
        "more_is_here": place in MORE,
        "open_emergencies": _emergencies(user),
        "may_break_glass": bool(permissions.departments_with(user, "break_glass")),
        "may_see_consults": bool(permissions.departments_with(user, "view_identity")),
        "consults_waiting": _consults(user),
        "may_review_emergency": may_review,
        "emergencies_waiting": _waiting(user) if may_review else 0,
        "is_presenting": permissions.is_presenting(user),
        "may_present": bool(permissions.departments_of(user)),
        "sees_veiled": identity.veils(user),
        "may_upload": bool(permissions.departments_with(user, "upload")),
        "may_search": bool(permissions.departments_with(user, "search")),
        "may_export_deidentified": bool(permissions.departments_with(user, "export_deidentified")),
        "may_curate": bool(permissions.departments_with(user, "curate_cohort")),
        "may_show_board": bool(permissions.departments_with(user, "tumour_board")),
        "may_read_audit": bool(permissions.departments_with(user, "read_audit")),
        "may_retire": bool(permissions.departments_with(user, "retire_cases")),
        "may_administer": permissions.may_administer(user),
    }


def _emergencies(user: Any) -> list[dict[str, Any]]:
    """Return the emergency accesses of this user that are open, for the bar on each page."""
    pks = {one.pk for one in openings.openings(user) if one.kind == openings.EMERGENCY}
    if not pks:
        return []
    now = timezone.now()
    return [
        {
            "pk": access.pk,
            "case_id": access.case_id,
            "identifier": access.identifier,
            "expires_at": access.expires_at,
            "minutes_left": max(0, ceil((access.expires_at - now).total_seconds() / 60)),
        }
        for access in EmergencyAccess.objects.filter(user=user, pk__in=pks)
    ]


def _consults(user: Any) -> int:
    """Return how many open consults nobody has answered of those that were asked of this user."""
    pks = {one.pk for one in openings.openings(user) if one.kind == openings.CONSULT}
    return Consult.objects.filter(pk__in=pks, answered_at=None).count() if pks else 0


def _waiting(user: Any) -> int:
    """Return how many emergency accesses wait for this user's review."""
    return EmergencyAccess.objects.to_review(user).filter(outcome="").count()
