"""Two numbers that turned out to be one patient: what was merged, and what moved with it."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.clinical import Case, Patient
from cases.models.organisation import Department
from cases.querysets import IntakeQuerySet


class PatientMerge(Record):
    """One merge. The merged patient's row stays, as what is known under its number.

    Undone, it stays on record too; the rows of `cases` say what moves back.
    """

    class Source(models.TextChoices):
        PAGE = "page", _("Page")
        API = "api", _("API")
        HL7 = "hl7", _("HL7 message")

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    survivor = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="merges")
    merged = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="merged_by")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    source = models.CharField(max_length=4, choices=Source)
    message_id = models.CharField(
        max_length=200, blank=True, help_text="Control id of the HL7 message"
    )
    reason = models.CharField(max_length=500, blank=True)
    undone_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    undone_reason = models.CharField(max_length=500, blank=True)

    objects = IntakeQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["merged"], condition=Q(undone_at=None), name="merge_is_once_at_a_time"
            ),
            models.CheckConstraint(condition=~Q(merged=F("survivor")), name="merge_is_of_two"),
            models.CheckConstraint(
                condition=Q(undone_at=None, undone_by=None)
                | Q(undone_at__isnull=False, undone_by__isnull=False),
                name="merge_undone_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.merged_id} → {self.survivor_id}"


class MergedCase(models.Model):
    """A case that the merge moved, or that came later under the merged number."""

    merge = models.ForeignKey(PatientMerge, on_delete=models.CASCADE, related_name="cases")
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="+")
    came_later = models.BooleanField(default=False)
    stayed = models.BooleanField(
        default=False, help_text="Not moved back: it was no longer the survivor's"
    )

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["merge", "case"], name="merged_case_is_unique")
        ]

    def __str__(self) -> str:
        return f"{self.case_id}"
