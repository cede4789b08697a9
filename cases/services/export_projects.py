"""Projects that slides are exported for, and their keys."""

import hashlib
import hmac
import secrets
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases import permissions
from cases.errors import Conflict, DomainError
from cases.models import Department, ExportProject
from cases.services.audit import Action, access_event_record
from cases.wsi.deidentify import ProjectKey


class ProjectNameTaken(Conflict):
    """Two projects of a department cannot have one name."""

    code = "project_name_taken"
    message = _("Your department already has an export project of this name.")


class ProjectNameMissing(DomainError):
    """A project is known by its name."""

    code = "project_name_missing"
    message = _("Give the project a name of at most 120 characters.")


class ProjectClosed(Conflict):
    """Nothing more is exported for a closed project."""

    code = "project_closed"
    message = _("This export project is closed. Open a new one: its key will be another.")


class ProjectKeyChanged(Conflict):
    """The site's export secret is not the one under which the project was opened."""

    code = "project_key_changed"
    message = _(
        "The site's export secret has changed since this project was opened, so that new exports "
        "could not be linked with old ones. Restore PATHSEARCH_EXPORT_SECRET or open a new project."
    )


def _derived(seed: bytes) -> ProjectKey:
    """Return the key: neither the database nor the site's secret alone gives it."""
    secret = hashlib.sha256(b"export project\0" + settings.EXPORT_SECRET.encode()).digest()
    return ProjectKey(hmac.new(secret, seed, hashlib.sha256).digest())


def project_key(project: ExportProject) -> ProjectKey:
    """Return the project's key. Raises ProjectKeyChanged."""
    key = _derived(bytes(project.seed))
    if not hmac.compare_digest(key.check(), project.key_check):
        raise ProjectKeyChanged
    return key


@transaction.atomic
def export_project_open(
    *, user: Any, department: Department, name: str, purpose: str = ""
) -> ExportProject:
    """Return a new project with a key of its own."""
    permissions.require(user, "manage_export_projects", department.pk)
    name = " ".join(name.split())
    if not 0 < len(name) <= 120:
        raise ProjectNameMissing
    # One at a time, so that two of one name do not meet at the constraint.
    Department.objects.select_for_update().get(pk=department.pk)
    if ExportProject.objects.filter(department=department, name=name).exists():
        raise ProjectNameTaken
    seed = secrets.token_bytes(32)
    project = ExportProject.objects.create(
        department=department,
        name=name,
        purpose=purpose.strip()[:400],
        created_by=user,
        seed=seed,
        key_check=_derived(seed).check(),
    )
    _record(user, Action.CREATE, project)
    return project


@transaction.atomic
def export_project_close(*, user: Any, project: ExportProject) -> ExportProject:
    """Close the project: what was exported stays linked, nothing more is added. Idempotent."""
    permissions.require(user, "manage_export_projects", project.department_id)
    now = timezone.now()
    if ExportProject.objects.filter(pk=project.pk, closed_at__isnull=True).update(closed_at=now):
        _record(user, Action.CHANGE, project)
    project.refresh_from_db()
    return project


def _record(user: Any, action: str, project: ExportProject) -> None:
    access_event_record(
        user=user, action=action, department_id=project.department_id, target=project
    )
