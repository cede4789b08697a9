"""Cases that were opened to one user alone: by emergency access, or for a consult.

They are read by who opens their page, and are in no list, search, count or vote: those ask
`visible_to`, which knows nothing of this; a page of one row asks `readable_by`. The database is
asked once for each request.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from cases import permissions

EMERGENCY, CONSULT = "emergency", "consult"
_KEPT = "_openings"


@dataclass(frozen=True)
class Opening:
    """One case that is open to the user until then. pk: of the emergency access or consult."""

    kind: str
    pk: UUID
    case_id: UUID
    patient_id: UUID
    department_id: int
    until: datetime


def openings(user: Any) -> tuple[Opening, ...]:
    """Return what is open to this user now; nothing to who may not know who patients are.

    A token opens nothing: an emergency and a consult are for a person who sits there.
    """
    if not getattr(user, "is_authenticated", False) or getattr(user, "token_prefix", ""):
        return ()
    found = getattr(user, _KEPT, None)
    if found is None:
        found = user.__dict__[_KEPT] = _read(user)
    return found


def forget(user: Any) -> None:
    """Read anew at the next question: something was opened or ended."""
    user.__dict__.pop(_KEPT, None)


def case_ids(user: Any) -> frozenset[UUID]:
    """Return the ids of the cases that are open to this user."""
    return frozenset(opening.case_id for opening in openings(user))


def patient_ids(user: Any) -> frozenset[UUID]:
    """Return the ids of the patients of those cases."""
    return frozenset(opening.patient_id for opening in openings(user))


def opening_of(user: Any, case_id: Any) -> Opening | None:
    """Return by what this case is open to the user, or None."""
    return next((one for one in openings(user) if one.case_id == case_id), None)


def way_in(user: Any, patient_id: Any, department_id: Any) -> Opening | None:
    """Return by what the user knows of this patient of a department that is not the user's."""
    found = openings(user)
    if not found or department_id in permissions.departments_of(user):
        return None
    return next((one for one in found if one.patient_id == patient_id), None)


def way_in_to(user: Any, slide_image: Any) -> Opening | None:
    """Return by what the user has this slide of another department, or None."""
    if not openings(user):
        return None
    return way_in(user, slide_image.slide.case.patient_id, slide_image.department_id)


def _read(user: Any) -> tuple[Opening, ...]:
    known = permissions.departments_with(user, "view_identity")
    if not known:
        return ()
    in_emergencies = bool(permissions.departments_with(user, "break_glass"))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT kind, pk, case_id, patient_id, department_id, until"
            " FROM pathsearch_openings(%s, %s::bigint[])",
            [user.pk, sorted(known)],
        )
        rows = [Opening(*row) for row in cursor.fetchall()]
    return tuple(row for row in rows if in_emergencies or row.kind != EMERGENCY)
