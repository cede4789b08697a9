"""The record of who looked at what."""

import uuid

from django.conf import settings
from django.db import models

from cases.querysets import AppendOnlyQuerySet


class AccessEvent(models.Model):
    """One act that an auditor may ask about. Written once, never changed.

    The table is partitioned by month of `at`, and triggers of the database refuse changes; at
    the end of its transaction each event is chained to the last one (`AuditSeal`).
    """

    class Action(models.TextChoices):
        LOGIN = "login", "Signed in"
        LOGIN_FAILED = "login_failed", "Sign-in failed"
        LOGOUT = "logout", "Signed out"
        VIEW = "view", "Viewed"
        SEARCH = "search", "Searched"
        SHOWN = "shown", "Shown in a result"
        CREATE = "create", "Created"
        CHANGE = "change", "Changed"
        DELETE = "delete", "Removed"
        EXPORT = "export", "Exported"
        SHARE = "share", "Shared"
        MERGE = "merge", "Patients merged"
        UNMERGE = "unmerge", "Merge undone"
        DENIED = "denied", "Denied"
        BREAK_GLASS = "break_glass", "Emergency access"

    class Channel(models.TextChoices):
        PAGE = "page", "Page"
        API = "api", "API"
        DICOM = "dicom", "DICOM"
        TASK = "task", "Background task"
        COMMAND = "command", "Command line"
        FOLDER = "folder", "Watch folder"

    class Outcome(models.TextChoices):
        DONE = "done", "Done"
        DENIED = "denied", "Denied"
        FAILED = "failed", "Failed"

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
