"""De-identified exports: the project whose key makes the pseudonyms, and each download."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.cohorts import Cohort
from cases.models.images import SlideImage
from cases.models.organisation import Department
from cases.models.work import LeasedWork
from cases.querysets import OwnedQuerySet, VisibleQuerySet


class ExportProject(Record):
    """A study that slides are exported for. Its key links its exports, and only these.

    The key itself is nowhere: it follows from the seed here and the site's export secret
    together. A new key is a new project.
    """

    department = models.ForeignKey(
        Department, on_delete=models.PROTECT, related_name="export_projects"
    )
    name = models.CharField(max_length=120)
    purpose = models.CharField(max_length=400, blank=True, help_text="Protocol, ethics vote …")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    seed = models.BinaryField(editable=False)
    key_check = models.CharField(max_length=16, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["department", "name"], name="export_project_name_is_unique"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Export(LeasedWork, Record):
    """One de-identified copy of slides: asked for, made in the background, fetched, expired."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Being made")
        FINISHED = "finished", _("Ready")
        FAILED = "failed", _("Failed")
        EXPIRED = "expired", _("Expired")

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="exports")
    project = models.ForeignKey(ExportProject, on_delete=models.PROTECT, related_name="exports")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="exports"
    )
    cohort = models.ForeignKey(
        Cohort, on_delete=models.SET_NULL, null=True, blank=True, related_name="exports"
    )
    with_diagnoses = models.BooleanField(
        default=False, help_text="Coded diagnoses as columns of the manifest"
    )
    state = models.CharField(
        max_length=10, choices=State, default=State.QUEUED, db_index=True, editable=False
    )
    expires_at = models.DateTimeField(null=True, editable=False, db_index=True)
    size_bytes = models.BigIntegerField(null=True, editable=False)
    sha256 = models.CharField(max_length=64, blank=True, editable=False)
    slide_count = models.PositiveIntegerField(default=0, editable=False)
    patient_count = models.PositiveIntegerField(default=0, editable=False)
    instance_count = models.PositiveIntegerField(default=0, editable=False)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="finished")
                | (Q(size_bytes__isnull=False) & Q(expires_at__isnull=False)),
                name="export_finished_has_a_file_that_expires",
            )
        ]

    def __str__(self) -> str:
        return f"Export {self.id}"


class ExportItemQuerySet(VisibleQuerySet):
    def _visible(self, departments: frozenset[int]) -> Q:
        return Q(export__department__in=departments)


class ExportItem(Record):
    """One slide image of an export and what became of it."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        EXPORTED = "exported", _("Exported")
        LEFT_OUT = "left_out", _("Left out")

    export = models.ForeignKey(Export, on_delete=models.CASCADE, related_name="items")
    slide_image = models.ForeignKey(
        SlideImage, on_delete=models.CASCADE, related_name="export_items"
    )
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    reason_code = models.CharField(max_length=60, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    instance_count = models.PositiveIntegerField(default=0)

    objects = ExportItemQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["export", "slide_image"], name="export_item_once_per_export"
            )
        ]

    def __str__(self) -> str:
        return f"{self.slide_image_id} in {self.export_id}"
