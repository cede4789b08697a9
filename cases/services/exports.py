"""De-identified exports as people ask for them: request, retry, fetch, remove, expire.

Only the department that owns slides exports them: sharing a cohort lets others look, not take.
"""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases import permissions
from cases.errors import Conflict, DomainError
from cases.models import Cohort, CohortEntry, Export, ExportItem, ExportProject, SlideImage
from cases.services import store, work
from cases.services.audit import Action, access_event_record, access_events_listed
from cases.services.export_projects import ProjectClosed, project_key
from cases.services.queue import enqueue

RUN_TASK = "cases.tasks.run_export_task"
MAX_SLIDES = 10_000
State = Export.State


class NothingToExport(DomainError):
    """An export of no slide."""

    code = "nothing_to_export"
    message = _("There is no slide to export.")


class SlideOfOtherDepartment(DomainError):
    """A slide of another department than the project's."""

    code = "slide_of_other_department"
    message = _("A project exports only slides of its own department.")


class TooManySlides(DomainError):
    """More slides than one export may hold."""

    code = "too_many_slides"
    message = f"One export holds at most {MAX_SLIDES} slides. Make several."


class NotReady(Conflict):
    """The file is not there yet, or not any more."""

    code = "export_not_ready"
    message = _("This export is not ready to be fetched.")


class NoLongerAllowed(PermissionDenied):
    """Some of the slides are not open to the reader any more."""


def exports_folder() -> Path:
    """Return where the files of exports lie."""
    return settings.DATA_DIR / "exports"


def export_folder(export_id: Any) -> Path:
    """Return the folder of one export."""
    return exports_folder() / str(export_id)


def export_file(export: Export) -> Path:
    """Return the finished archive."""
    return export_folder(export.pk) / "export.zip"


@transaction.atomic
def export_request(
    *,
    user: Any,
    project: ExportProject,
    slide_images: Iterable[SlideImage],
    cohort: Cohort | None = None,
    with_diagnoses: bool = False,
) -> Export:
    """Queue an export of slide images that are visible to the user; returns its row."""
    permissions.require(user, "export_deidentified", project.department_id)
    if ExportProject.objects.select_for_update().get(pk=project.pk).closed_at is not None:
        raise ProjectClosed
    project_key(project)
    chosen = {image.pk: image for image in slide_images}
    if not chosen:
        raise NothingToExport
    if len(chosen) > MAX_SLIDES:
        raise TooManySlides
    if any(image.department_id != project.department_id for image in chosen.values()):
        raise SlideOfOtherDepartment
    store.require_free_space(sum(image.size_bytes for image in chosen.values()))
    export = Export.objects.create(
        department_id=project.department_id,
        project=project,
        requested_by=user,
        cohort=cohort,
        with_diagnoses=with_diagnoses,
        slide_count=len(chosen),
    )
    ExportItem.objects.bulk_create(
        (ExportItem(export=export, slide_image=image) for image in chosen.values()),
        batch_size=1000,
    )
    enqueue(RUN_TASK, export)
    access_event_record(
        user=user,
        action=Action.EXPORT,
        department_id=project.department_id,
        target=export,
        detail={"act": "request", "slides": len(chosen), "project": str(project.pk)},
    )
    export.refresh_from_db()
    return export


def export_request_cohort(
    *, user: Any, project: ExportProject, cohort: Cohort, with_diagnoses: bool = False
) -> Export:
    """Queue an export of a cohort's slides. cohort: one that is visible to the user."""
    permissions.require(user, "export_deidentified", cohort.department_id)
    return export_request(
        user=user,
        project=project,
        slide_images=cohort_images(user, cohort),
        cohort=cohort,
        with_diagnoses=with_diagnoses,
    )


def cohort_images(user: Any, cohort: Cohort) -> QuerySet[SlideImage]:
    """Return the slide images in the cohort that the user sees."""
    entries = CohortEntry.objects.filter(cohort=cohort, removed_at__isnull=True)
    return SlideImage.objects.visible_to(user).filter(pk__in=entries.values("slide_image_id"))


def open_projects(user: Any, department_id: int) -> QuerySet[ExportProject]:
    """Return the projects of the department that the user may export for."""
    if not permissions.may(user, "export_deidentified", department_id):
        return ExportProject.objects.none()
    return ExportProject.objects.visible_to(user).filter(
        department_id=department_id, closed_at__isnull=True
    )


@transaction.atomic
def export_retry(*, user: Any, export: Export) -> Export:
    """Make a failed or expired export again."""
    permissions.require(user, "export_deidentified", export.department_id)
    if not work.requeue(Export, export.pk, from_states=[State.FAILED, State.EXPIRED]):
        raise Conflict("Only a failed or expired export can be made again.", code="not_failed")
    enqueue(RUN_TASK, export)
    _record(user, Action.EXPORT, export, "retry")
    export.refresh_from_db()
    return export


@transaction.atomic
def export_remove(*, user: Any, export: Export) -> Export:
    """Take the file away before its time. Idempotent; one that is being made is not touched."""
    permissions.require(user, "export_deidentified", export.department_id)
    changed = Export.objects.filter(
        pk=export.pk, state__in=[State.FINISHED, State.FAILED, State.QUEUED]
    ).update(state=State.EXPIRED, expires_at=timezone.now())
    export.refresh_from_db()
    if not changed and export.state != State.EXPIRED:
        raise Conflict("This export is being made. Wait until it is ready.", code="not_ready")
    if changed:
        _record(user, Action.DELETE, export, "remove")
        folder = export_folder(export.pk)
        transaction.on_commit(lambda: store.remove(folder))
    return export


def export_fetch(*, user: Any, export: Export) -> Path:
    """Return the file to send, after asking again whether this user may have all of it.

    Raises NotReady, or PermissionDenied when the role or one of the slides is gone.
    """
    permissions.require(user, "export_deidentified", export.department_id)
    file = export_file(export)
    is_over = export.expires_at is not None and export.expires_at <= timezone.now()
    if export.state != State.FINISHED or is_over or not file.is_file():
        raise NotReady
    exported = export.items.filter(state=ExportItem.State.EXPORTED)
    images = SlideImage.objects.visible_to(user).filter(
        pk__in=exported.values("slide_image_id"), department_id=export.department_id
    )
    if images.count() < export.slide_count:
        raise NoLongerAllowed("Slides of this export are not open to you any more.")
    subjects = images.values_list("slide__case__patient_id", "department_id")
    with transaction.atomic():
        _record(user, Action.EXPORT, export, "download")
        access_events_listed(
            user=user,
            action=Action.EXPORT,
            object_type="export",
            object_id=str(export.pk),
            subjects=subjects,
            detail={"act": "download"},
        )
    return file


def sweep_exports() -> None:
    """Wake what waits for a worker; take away the files whose time is over."""
    work.wake_lost(Export, RUN_TASK)
    over = Export.objects.filter(state=State.FINISHED, expires_at__lte=timezone.now())
    for pk in list(over.values_list("pk", flat=True)):
        if over.filter(pk=pk).update(state=State.EXPIRED):
            store.remove(export_folder(pk))


def expiry() -> Any:
    """Return when an export that is finished now expires."""
    return timezone.now() + timedelta(days=settings.EXPORT_DAYS)


def _record(user: Any, action: str, export: Export, act: str) -> None:
    access_event_record(
        user=user,
        action=action,
        department_id=export.department_id,
        target=export,
        detail={"act": act},
    )
