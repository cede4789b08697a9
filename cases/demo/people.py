"""The departments and users of the demo archive, and the password that they share."""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from cases.demo.plan import DEPARTMENTS, MRN_ISSUER
from cases.models import Department, Membership
from cases.permissions import Role

# The mark of a demo user: a name that somebody else has is never taken over.
_EMAIL_DOMAIN = "demo.invalid"


@dataclass(frozen=True)
class DemoUser:
    """A login: what it may do where. No department: the system administrator."""

    username: str
    description: str
    memberships: tuple[tuple[str | None, Role], ...]
    is_superuser: bool = False


def _at(code: str, name: str) -> tuple[DemoUser, ...]:
    return tuple(
        DemoUser(f"{code}-{short}", f"{role.label}, {name}", ((code, role),))
        for short, role in (
            ("pathologist", Role.PATHOLOGIST),
            ("technician", Role.TECHNICIAN),
            ("researcher", Role.RESEARCHER),
            ("admin", Role.DEPARTMENT_ADMINISTRATOR),
        )
    )


USERS = (
    *(user for planned in DEPARTMENTS for user in _at(planned.code, planned.name)),
    DemoUser(
        "both-pathologist",
        "Pathologist in both departments",
        tuple((planned.code, Role.PATHOLOGIST) for planned in DEPARTMENTS),
    ),
    DemoUser(
        "system-admin",
        "System administrator (/admin/), sees no patients",
        ((None, Role.SYSTEM_ADMINISTRATOR),),
        is_superuser=True,
    ),
)


class NameTaken(Exception):
    """A user of that name exists who is no demo user."""


def logins_file() -> Path:
    """Return where the demo password is kept (mode 0600)."""
    return settings.DATA_DIR / "demo_logins.json"


def password_ensure() -> str:
    """Return the demo password: random, made once per archive, kept in `logins_file`."""
    file = logins_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        logins = {
            "password": "-".join(secrets.token_hex(2) for _ in range(3)),
            "users": [
                {"username": user.username, "description": user.description} for user in USERS
            ],
        }
        # Whole or not at all, and never readable by others, not for a moment.
        partial = file.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as writer:
            json.dump(logins, writer, indent=1)
        partial.rename(file)
    return json.loads(file.read_text(encoding="utf-8"))["password"]


@transaction.atomic
def people_ensure(password: str) -> dict[str, object]:
    """Make the departments and users that are missing; returns the users by name.

    Raises NameTaken rather than change the password of somebody who is no demo user.
    """
    departments = {
        planned.code: Department.objects.get_or_create(
            code=planned.code,
            defaults={
                "name": planned.name,
                "mrn_issuer": MRN_ISSUER,
                "accession_issuer": planned.accession_issuer,
            },
        )[0]
        for planned in DEPARTMENTS
    }
    users = {}
    for planned in USERS:
        email = f"{planned.username}@{_EMAIL_DOMAIN}"
        user, created = get_user_model().objects.get_or_create(
            username=planned.username,
            defaults={
                "email": email,
                "is_staff": planned.is_superuser,
                "is_superuser": planned.is_superuser,
            },
        )
        if user.email != email:
            raise NameTaken(f"The user name {planned.username} is taken by a user of this site.")
        if created or not user.check_password(password):
            user.set_password(password)
            user.save(update_fields=["password"])
        if created:
            for code, role in planned.memberships:
                Membership.objects.create(
                    user=user, department=departments[code] if code else None, role=role
                )
        users[planned.username] = user
    return users
