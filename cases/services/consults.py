"""Consults: a case is shown to one user or department until a date, who may give an opinion."""

from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from cases import openings, permissions
from cases.errors import Conflict, DomainError
from cases.models import Case, Consult, ConsultOpinion, Department, Membership
from cases.permissions import CAPABILITIES
from cases.services.audit import Action, access_event_record


class NoSuchColleague(DomainError):
    """Nobody who may see patients has this user name."""

    code = "no_such_colleague"
    message = _("No colleague who may see patients has this user name.")


def consult_ask(
    *,
    user: Any,
    case: Case,
    question: str,
    until: datetime,
    username: str = "",
    department: Department | None = None,
) -> Consult:
    """Show the case to the user of that name, or to the department, until then."""
    permissions.require(user, "ask_consult", case.department_id)
    to_user = None if department else _colleague(username)
    if to_user == user or department == case.department:
        raise Conflict(str(_("Ask somebody who cannot see the case yet.")))
    with transaction.atomic():
        consult = Consult.objects.create(
            case=case,
            department_id=case.department_id,
            asked_by=user,
            to_user=to_user,
            to_department=department,
            question=question,
            until=until,
        )
        _record(user, Action.SHARE, consult, {"until": until.isoformat(), **_to(consult)})
    return consult


def consult_answer(*, user: Any, consult: Consult, opinion: str) -> None:
    """Add an opinion of who was asked; nobody's takes the place of another."""
    if not Consult.objects.asked_of(user).filter(pk=consult.pk).exists():
        raise PermissionDenied(str(_("Only who was asked gives an opinion.")))
    with transaction.atomic():
        # Ended in the meantime: the condition is asked again where the row is written.
        still = Consult.objects.open().filter(pk=consult.pk)
        if not still.update(answered_at=Now(), updated_at=Now()):
            raise Conflict(str(_("The consult is over.")))
        given = ConsultOpinion.objects.create(consult=consult, author=user, text=opinion)
        _record(user, Action.CHANGE, consult, {"opinion": str(given.pk), "length": len(opinion)})


def consult_end(*, user: Any, consult: Consult) -> None:
    """End it before its date: by the department whose case it is."""
    permissions.require(user, "ask_consult", consult.department_id)
    with transaction.atomic():
        ended = Consult.objects.open().filter(pk=consult.pk).update(ended_at=Now())
        if ended:
            _record(user, Action.CHANGE, consult, {"ended": True})
    openings.forget(user)


def _colleague(username: str) -> Any:
    """Return the active user of that name who may know patients in some department."""
    user = get_user_model().objects.filter(username=username, is_active=True).first()
    roles = CAPABILITIES["view_identity"]
    if user is None or not Membership.objects.filter(user=user, role__in=roles).exists():
        raise NoSuchColleague
    return user


def _to(consult: Consult) -> dict[str, Any]:
    if consult.to_user_id:
        return {"to_user": consult.to_user_id}
    return {"to_department": consult.to_department_id}


def _record(user: Any, action: str, consult: Consult, detail: dict[str, Any]) -> None:
    access_event_record(
        user=user,
        action=action,
        department_id=consult.department_id,
        patient_id=consult.case.patient_id,
        target=consult,
        detail=detail,
    )
