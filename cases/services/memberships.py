"""Memberships that follow the groups of the hospital's sign-on."""

import logging
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import transaction

from cases.models import Department, Membership
from cases.permissions import Role
from cases.services.audit import Action, access_event_record

log = logging.getLogger(__name__)


@transaction.atomic
def memberships_follow_groups(*, user: Any, provider: str, groups: Iterable[str]) -> None:
    """Give the user what the groups say, and take what this provider gave and says no more.

    Memberships given by an administrator, or by another provider, stay as they are.
    """
    wanted = _wanted(provider, frozenset(groups))
    given = {
        (row.department_id, row.role): row
        for row in Membership.objects.select_for_update(of=("self",)).filter(user=user)
    }
    for key, row in given.items():
        if row.given_by == provider and key not in wanted:
            _record(user, Action.DELETE, row, provider)
            row.delete()
    for department_id, role in sorted(wanted - set(given), key=str):
        row = Membership.objects.create(
            user=user, department_id=department_id, role=role, given_by=provider
        )
        _record(user, Action.CREATE, row, provider)
    user.__dict__.pop("_membership_pairs", None)  # what permissions read earlier in this request


def _wanted(provider: str, groups: frozenset[str]) -> set[tuple[int | None, str]]:
    """Return (department id or None, role) of each line of the configuration that applies."""
    lines = [
        line
        for line in settings.SIGN_ON_GROUPS
        if line["group"] in groups and line.get("provider", provider) == provider
    ]
    codes = {line["department"] for line in lines if line.get("department")}
    ids = dict(Department.objects.filter(code__in=codes).values_list("code", "pk"))
    wanted: set[tuple[int | None, str]] = set()
    for line in lines:
        role, code = line["role"], line.get("department")
        is_site_role = role == Role.SYSTEM_ADMINISTRATOR
        if role not in Role.values or is_site_role == bool(code) or (code and code not in ids):
            log.warning("sign-on: a line for role %s and department %s fits nothing", role, code)
            continue
        wanted.add((ids[code] if code else None, role))
    return wanted


def _record(user: Any, action: str, row: Membership, provider: str) -> None:
    access_event_record(
        user=user,
        action=action,
        department_id=row.department_id,
        target=row,
        reason="groups of the sign-on",
        detail={"role": row.role, "provider": provider},
    )
