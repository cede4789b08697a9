"""What clinical rows were before they were changed. Written by triggers, never edited."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from cases.querysets import HistoryQuerySet


class ClinicalChange(models.Model):
    """One change or removal of a clinical row, by whatever way it was made.

    A trigger of the database writes it (migration 0021), in the transaction of the change.
    """

    class Operation(models.TextChoices):
        CHANGE = "change", _("Changed")
        DELETE = "delete", _("Removed")

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=Now())
    operation = models.CharField(max_length=8, choices=Operation)
    object_type = models.CharField(max_length=20, help_text="patient, case, specimen …")
    object_id = models.UUIDField()
    # Ids, not foreign keys: the history outlives what it speaks of.
    department_id = models.BigIntegerField(null=True)
    patient_id = models.UUIDField(null=True)
    case_id = models.UUIDField(null=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        null=True,
        related_name="+",
        db_constraint=False,
        help_text="Empty: the site itself (a worker, a command)",
    )
    before = models.JSONField(help_text="What the changed columns held; of a removed row, all")
    after = models.JSONField(help_text="What they hold since; nothing for a removed row")

    objects = HistoryQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["case_id", "-at"], name="history_of_case"),
            models.Index(fields=["patient_id", "-at"], name="history_of_patient"),
        ]

    def __str__(self) -> str:
        return f"{self.object_type} {self.object_id}: {self.operation}"
