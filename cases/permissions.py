"""Who may do what. Rows come through `visible_to`; this table says what a role may do to them.

Hidden is 404 (the row never comes back); seen but not allowed is 403 (`require`).
"""

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Role(TextChoices):
    """What a member of a department is there."""

    PATHOLOGIST = "pathologist", _("Pathologist")
    TECHNICIAN = "technician", _("Technician")
    RESEARCHER = "researcher", _("Researcher")
    DEPARTMENT_ADMINISTRATOR = "department_administrator", _("Department administrator")
    AUDITOR = "auditor", _("Auditor")
    SYSTEM_ADMINISTRATOR = "system_administrator", _("System administrator")


_P, _T, _R, _D = (
    Role.PATHOLOGIST,
    Role.TECHNICIAN,
    Role.RESEARCHER,
    Role.DEPARTMENT_ADMINISTRATOR,
)

# A system administrator runs the site, an auditor reads who saw what: by these roles they see
# no clinical data.
CLINICAL_ROLES = frozenset({_P, _T, _R, _D})

CAPABILITIES: dict[str, frozenset[Role]] = {
    "view": CLINICAL_ROLES,
    # Who the patient is. Without it rows come veiled (cases.identity): pseudonyms, moved dates.
    "view_identity": frozenset({_P, _T, _D}),
    "view_label": frozenset({_P, _T, _D}),
    "search": CLINICAL_ROLES,
    "give_feedback": frozenset({_P, _R, _D}),
    "upload": frozenset({_P, _T, _D}),
    "reconcile": frozenset({_P, _T, _D}),
    "retry_work": frozenset({_P, _T, _D}),
    "edit_case": frozenset({_P, _T, _D}),
    "write_report": frozenset({_P, _D}),
    # What rows held before: names, numbers and dates as they were.
    "read_history": frozenset({_P, _T, _D}),
    "draw_region": frozenset({_P, _T, _D}),
    "merge_patients": frozenset({_D}),
    # Propose and approve (two people) that a case goes whose time of keeping is over.
    "retire_cases": frozenset({_D}),
    # With patients' names and questions about them: not for who works with the archive only.
    "tumour_board": frozenset({_P, _T, _D}),
    "curate_cohort": frozenset({_P, _R, _D}),
    "share_cohort": frozenset({_D}),
    "export_cohort": frozenset({_P, _R, _D}),
    "export_deidentified": frozenset({_R, _D}),
    "manage_export_projects": frozenset({_D}),
    "manage_members": frozenset({_D}),
    "manage_tokens": frozenset({_D}),
    # A case of another department, for an hour, on record: for who works with patients.
    "break_glass": frozenset({_P, _T}),
    "review_emergency": frozenset({_D, Role.AUDITOR}),
    "ask_consult": frozenset({_P, _D}),
    "read_audit": frozenset({_D, Role.AUDITOR}),
}


# What shows or changes who people are: nobody may, in a session that is presented to others.
HIDDEN_WHEN_PRESENTING = frozenset((
    "view_identity", "view_label", "upload", "reconcile", "retry_work", "edit_case", "write_report",
    "merge_patients", "break_glass", "review_emergency", "ask_consult", "share_cohort",
    "retire_cases", "manage_export_projects", "manage_members", "manage_tokens", "read_audit",
    "read_history", "draw_region",
))  # fmt: skip


def is_presenting(user: Any) -> bool:
    """Return whether the user's session hides all identifiers (set by RowScopeMiddleware)."""
    return getattr(user, "presenting_since", None) is not None


def departments_of(user: Any, roles: Iterable[str] = CLINICAL_ROLES) -> frozenset[int]:
    """Return the ids of the departments in which the user has one of the roles.

    A request that came with an API token acts for its owner, narrowed to the token's
    departments (`token_department_ids`, set by the authentication class).
    """
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return frozenset()
    pairs = getattr(user, "_membership_pairs", None)
    if pairs is None:
        pairs = tuple(user.memberships.values_list("department_id", "role"))
        user._membership_pairs = pairs
    wanted = frozenset(roles)
    found = frozenset(department for department, role in pairs if department and role in wanted)
    narrowed = getattr(user, "token_department_ids", None)
    return found if narrowed is None else found & narrowed


def departments_with(user: Any, capability: str) -> frozenset[int]:
    """Return the ids of the departments in which the user may do this."""
    if capability in HIDDEN_WHEN_PRESENTING and is_presenting(user):
        return frozenset()
    return departments_of(user, CAPABILITIES[capability])


def reviewed_departments(user: Any) -> frozenset[int]:
    """Return the ids of the departments whose emergency accesses the user reviews."""
    return departments_with(user, "review_emergency")


def may(user: Any, capability: str, department_id: int) -> bool:
    """Return whether the user may do this in that department."""
    return department_id in departments_with(user, capability)


def require(user: Any, capability: str, department_id: int) -> None:
    """Raise PermissionDenied (403) unless the user may do this in that department."""
    if not may(user, capability, department_id):
        raise PermissionDenied("Your role in this department does not allow this.")


def is_system_administrator(user: Any) -> bool:
    """Return whether the user runs the site (superusers do)."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return False
    if user.is_superuser:
        return True
    return user.memberships.filter(role=Role.SYSTEM_ADMINISTRATOR).exists()


def may_administer(user: Any) -> bool:
    """Return whether the administration opens: to who runs the site or a department."""
    if is_presenting(user):
        return False
    return bool(departments_with(user, "manage_members")) or is_system_administrator(user)
