"""What every page of the portal shows."""

from typing import Any

from django.http import HttpRequest

from cases import identity, permissions


def portal(request: HttpRequest) -> dict[str, Any]:
    """Return what the navigation offers this user."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {
        "is_presenting": permissions.is_presenting(user),
        "may_present": bool(permissions.departments_of(user)),
        "sees_veiled": identity.veils(user),
        "may_upload": bool(permissions.departments_with(user, "upload")),
        "may_search": bool(permissions.departments_with(user, "search")),
        "may_export_deidentified": bool(permissions.departments_with(user, "export_deidentified")),
        "may_curate": bool(permissions.departments_with(user, "curate_cohort")),
        "may_show_board": bool(permissions.departments_with(user, "tumour_board")),
        "may_read_audit": bool(permissions.departments_with(user, "read_audit")),
        "may_administer": permissions.may_administer(user),
    }
