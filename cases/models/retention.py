"""What is deleted when its time of keeping is over: holds, proposals, and what stays of them."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.clinical import Case
from cases.models.organisation import Department
from cases.models.work import LeasedWork
from cases.querysets import RetentionQuerySet


class LegalHold(Record):
    """Why a case is kept whatever its age: a lawsuit, an inquiry, a study."""

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="holds")
    reason = models.CharField(max_length=500)
    placed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    lifted_reason = models.CharField(max_length=500, blank=True)

    objects = RetentionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["case"], condition=Q(lifted_at=None), name="hold_is_once_at_a_time"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="hold_has_reason"),
            models.CheckConstraint(
                condition=Q(lifted_at=None, lifted_by=None)
                | Q(lifted_at__isnull=False, lifted_by__isnull=False),
                name="hold_lifted_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"Hold {self.id}"


class CaseDeletion(LeasedWork, Record):
    """One case that is to go: proposed by one person, approved by another, deleted by a worker.

    When it is done this row is all that stays of the case: its number, so that it does not come
    back by a late message, and who decided what. `reason` is the worker's, `why` the people's.
    """

    class State(models.TextChoices):
        PROPOSED = "proposed", _("Proposed")
        DECLINED = "declined", _("Declined")
        QUEUED = "queued", _("Approved")
        RUNNING = "running", _("Being deleted")
        FAILED = "failed", _("Stopped")
        FINISHED = "finished", _("Deleted")

    OPEN = (State.PROPOSED, State.QUEUED, State.RUNNING, State.FAILED)
    DECIDED = (State.QUEUED, State.RUNNING, State.FAILED, State.FINISHED)

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    # Ids, not foreign keys: this outlives what it speaks of.
    case_id = models.UUIDField()
    patient_id = models.UUIDField()
    accession_number = models.CharField(max_length=64)
    accession_issuer = models.CharField(max_length=120)
    retention_years = models.PositiveSmallIntegerField(help_text="As the policy was when proposed")
    last_on = models.DateField(help_text="From when the years were counted")
    why = models.CharField(max_length=500)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    state = models.CharField(
        max_length=10, choices=State, default=State.PROPOSED, db_index=True, editable=False
    )
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)
    decision_comment = models.CharField(max_length=500, blank=True)
    rows_deleted_at = models.DateTimeField(null=True, editable=False)
    slide_images = ArrayField(
        models.UUIDField(), default=list, editable=False, help_text="Whose files are removed"
    )
    content_sha256 = ArrayField(
        models.CharField(max_length=64), default=list, editable=False, help_text="Of those scans"
    )
    counts = models.JSONField(default=dict, editable=False, help_text="What was deleted, by kind")
    patient_is_gone = models.BooleanField(default=False, editable=False)

    objects = RetentionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "pk"]
        indexes = [
            models.Index(
                fields=["department", "accession_issuer", "accession_number"],
                name="deletion_by_number",
            )
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["case_id"],
                condition=Q(state__in=["proposed", "queued", "running", "failed"]),
                name="deletion_is_once_at_a_time",
            ),
            models.CheckConstraint(condition=~Q(why=""), name="deletion_has_reason"),
            models.CheckConstraint(
                condition=Q(decided_at=None, decided_by=None)
                | Q(decided_at__isnull=False, decided_by__isnull=False),
                name="deletion_decided_by_somebody",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["queued", "running", "failed", "finished"])
                | (Q(decided_by__isnull=False) & ~Q(decided_by=F("requested_by"))),
                name="deletion_approved_by_another",
            ),
        ]

    def __str__(self) -> str:
        return f"Deletion {self.id}"
