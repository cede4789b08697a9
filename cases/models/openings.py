"""What opens a case to somebody of another department: an emergency, or a question to them."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.clinical import Case, Patient
from cases.models.organisation import Department
from cases.querysets import ConsultQuerySet, EmergencyQuerySet


class EmergencyAccess(Record):
    """Somebody opened a case, or all of a patient, of a department that is not their own."""

    class Reason(models.TextChoices):
        TREATMENT = "treatment", _("The patient is being treated now")
        FROZEN_SECTION = "frozen_section", _("Frozen section")
        COVER = "cover", _("The department in charge cannot be reached")
        MIX_UP = "mix_up", _("A mix-up of patients or slides must be cleared up")
        OTHER = "other", _("Another reason")

    class Outcome(models.TextChoices):
        JUSTIFIED = "justified", _("Justified")
        NOT_JUSTIFIED = "not_justified", _("Not justified")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="+")
    case = models.ForeignKey(
        Case,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: all cases of the patient in that department",
    )
    identifier = models.CharField(max_length=64, help_text="The number that was asked for")
    reason_code = models.CharField(max_length=20, choices=Reason)
    reason = models.CharField(max_length=500)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=16, choices=Outcome, blank=True)
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    reviewed_at = models.DateTimeField(null=True, blank=True)
    review_comment = models.CharField(max_length=1000, blank=True)

    objects = EmergencyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "pk"]
        indexes = [
            models.Index("user", condition=Q(ended_at=None), name="emergency_open"),
            models.Index("department", condition=Q(outcome=""), name="emergency_unreviewed"),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="emergency_has_reason"),
            models.CheckConstraint(
                condition=Q(outcome="", reviewed_at=None, reviewed_by=None)
                | (~Q(outcome="") & Q(reviewed_at__isnull=False, reviewed_by__isnull=False)),
                name="emergency_review_is_whole",
            ),
            models.CheckConstraint(
                condition=Q(reviewed_by=None) | ~Q(reviewed_by=F("user")),
                name="emergency_reviewed_by_another",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.identifier}"

    @property
    def is_open(self) -> bool:
        """Return whether it still opens anything."""
        return self.ended_at is None and self.expires_at > timezone.now()


class Consult(Record):
    """A case shown to one user or department until a date, with a question."""

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="consults")
    department = models.ForeignKey(
        Department, on_delete=models.PROTECT, related_name="+", help_text="Whose case it is"
    )
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    to_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    to_department = models.ForeignKey(
        Department, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    question = models.CharField(max_length=1000)
    until = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = ConsultQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "pk"]
        indexes = [
            models.Index("to_user", condition=Q(ended_at=None), name="consult_open_to_user"),
            models.Index("to_department", condition=Q(ended_at=None), name="consult_open_to_dept"),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(question=""), name="consult_has_question"),
            models.CheckConstraint(
                condition=Q(to_user=None, to_department__isnull=False)
                | Q(to_user__isnull=False, to_department=None),
                name="consult_has_one_recipient",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.case_id} → {self.recipient}"

    @property
    def recipient(self) -> str:
        """Return who was asked."""
        if self.to_user is not None:
            return self.to_user.get_full_name() or self.to_user.get_username()
        return str(self.to_department)

    @property
    def is_open(self) -> bool:
        """Return whether it still opens the case."""
        return self.ended_at is None and self.until > timezone.now()


class ConsultOpinion(Record):
    """What somebody who was asked thinks of the case. Written once: a second thought is another."""

    consult = models.ForeignKey(Consult, on_delete=models.CASCADE, related_name="opinions")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    text = models.TextField(max_length=10_000)

    class Meta:
        ordering = ["created_at", "pk"]
        constraints = [
            models.CheckConstraint(condition=~Q(text=""), name="opinion_has_text"),
        ]

    def __str__(self) -> str:
        return f"{self.author} on {self.consult_id}"
