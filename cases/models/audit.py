"""The record of who looked at what."""

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from cases.querysets import AppendOnlyQuerySet


class AccessEvent(models.Model):
    """One act that an auditor may ask about. Written once, never changed.

    The table is partitioned by month of `at`, and triggers of the database refuse changes; at
    the end of its transaction each event is chained to the last one (`AuditSeal`).
    """

    class Action(models.TextChoices):
        LOGIN = "login", _("Signed in")
        LOGIN_FAILED = "login_failed", _("Sign-in failed")
        LOGOUT = "logout", _("Signed out")
        VIEW = "view", _("Viewed")
        SEARCH = "search", _("Searched")
        SHOWN = "shown", _("Shown in a result")
        CREATE = "create", _("Created")
        CHANGE = "change", _("Changed")
        DELETE = "delete", _("Removed")
        EXPORT = "export", _("Exported")
        SHARE = "share", _("Shared")
        MERGE = "merge", _("Patients merged")
        UNMERGE = "unmerge", _("Merge undone")
        DENIED = "denied", _("Denied")
        BREAK_GLASS = "break_glass", _("Emergency access")

    class Channel(models.TextChoices):
        PAGE = "page", _("Page")
        API = "api", _("API")
        DICOM = "dicom", _("DICOM")
        TASK = "task", _("Background task")
        COMMAND = "command", _("Command line")
        FOLDER = "folder", _("Watch folder")

    class Outcome(models.TextChoices):
        DONE = "done", _("Done")
        DENIED = "denied", _("Denied")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    at = models.DateTimeField(auto_now_add=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    action = models.CharField(max_length=16, choices=Action)
    channel = models.CharField(max_length=10, choices=Channel)
    address = models.GenericIPAddressField(null=True)
    department_id = models.BigIntegerField(null=True)
    # Ids, not foreign keys: the record outlives what it speaks of.
    patient_id = models.UUIDField(null=True)
    object_type = models.CharField(max_length=40, blank=True)
    object_id = models.CharField(max_length=64, blank=True)
    outcome = models.CharField(max_length=8, choices=Outcome, default=Outcome.DONE)
    reason = models.CharField(
        max_length=300, blank=True, help_text="Why it was done, or why it was refused"
    )
    request_id = models.CharField(
        max_length=32, blank=True, help_text="The answer carries it as X-Request-ID"
    )
    detail = models.JSONField(default=dict, blank=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["-at"]
        # The indexes by time, patient and user are made where the table is partitioned.

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.action} {self.object_type} {self.object_id}"

    def save(self, *args, **kwargs) -> None:
        if not self._state.adding:
            raise TypeError("Access events are append-only")
        super().save(*args, **kwargs)

    def delete(self, *args, **kwargs):
        raise TypeError("Access events are append-only")


class AuditSeal(models.Model):
    """One link of the chain over all access events, written by a trigger at commit.

    `digest` is SHA-256 over the digest of the link before and the event's content, so that
    an event cannot be changed, removed or slipped in without breaking every later link.
    """

    seq = models.BigIntegerField(primary_key=True)
    event_id = models.UUIDField(unique=True)
    event_at = models.DateTimeField()
    digest = models.BinaryField(max_length=32)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["seq"]

    def __str__(self) -> str:
        return f"{self.seq}:{bytes(self.digest).hex()}"


class AuditRetirement(models.Model):
    """A month of events that the retention setting removed; their links stay in the chain."""

    month = models.DateField(unique=True, help_text="First day of the month")
    event_count = models.BigIntegerField()
    retired_at = models.DateTimeField(auto_now_add=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["month"]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"
